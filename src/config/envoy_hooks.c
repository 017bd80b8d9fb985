/* src/config/envoy_hooks.c: what filters ask of this room while they are compiled
 * (model/filter.h). */
#include "config/envoy_int.h"
#include "config/scalar_int.h"
#include "config/schema_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct format *format(struct compile *c, const struct doc *d)
{
	struct reader r = {.arena = c->arena, .diags = c->diags, .model = c->model};
	return envoy_format(&r, d, NULL);
}

/* ---- messages as reflection shows them ---- */

struct form {
	struct arena *a;
	bool lost; /* no memory */
};

static struct doc *message_form(struct form *f, const struct doc *d,
				const struct schema_message *m);

static struct doc *node(struct form *f, const struct doc *like, enum doc_kind kind)
{
	struct doc *n = doc_new(f->a, kind, like->at);
	f->lost |= !n;
	return n;
}

static struct doc *number(struct form *f, const struct doc *like, double v)
{
	struct doc *n = node(f, like, DOC_NUMBER);
	if (n)
		n->number = v;
	return n;
}

static struct doc *text(struct form *f, const struct doc *like, struct str s)
{
	struct doc *n = node(f, like, DOC_STRING);
	if (n)
		n->text = s;
	return n;
}

static void put(struct doc *map, const char *key, struct doc *child)
{
	if (map && child)
		doc_add(map, str_of(key), child);
}

/* {seconds, nanos} without what is 0. */
static struct doc *seconds_form(struct form *f, const struct doc *d, int64_t s, int64_t ns)
{
	struct doc *map = node(f, d, DOC_MAP);
	if (s)
		put(map, "seconds", number(f, d, (double)s));
	if (ns)
		put(map, "nanos", number(f, d, (double)ns));
	return map;
}

static struct doc *duration_form(struct form *f, const struct doc *d)
{
	int64_t us = 0;
	char hint[24];
	scalar_duration(d->text, &us, hint);
	return seconds_form(f, d, us / 1000000, us % 1000000 * 1000);
}

static struct doc *timestamp_form(struct form *f, const struct doc *d)
{
	char z[64];
	struct tm tm = {0};
	double part = 0;
	snprintf(z, sizeof z, "%.*s", STR_ARG(d->text));
	const char *rest = strptime(z, "%Y-%m-%dT%H:%M:%S", &tm);
	if (rest && *rest == '.')
		part = strtod(rest, NULL);
	return seconds_form(f, d, rest ? (int64_t)timegm(&tm) : 0, (int64_t)(part * 1e9 + 0.5));
}

static struct doc *bytes_form(struct form *f, const struct doc *d)
{
	char *out = arena_alloc(f->a, d->text.n / 4 * 3 + 4);
	size_t n = 0;
	if (!out || !scalar_base64(d->text, out, &n)) {
		f->lost |= !out;
		return NULL;
	}
	return text(f, d, (struct str){out, n});
}

static struct doc *struct_form(struct form *f, const struct doc *d);

/* google.protobuf.Value: one of its members is always set. */
static struct doc *value_form(struct form *f, const struct doc *d)
{
	struct doc *v = node(f, d, DOC_MAP), *c;
	const char *dot = d->at.file ? strrchr(d->at.file, '.') : NULL;
	switch (d->kind) {
	case DOC_NULL: put(v, "null_value", number(f, d, 0)); break;
	case DOC_BOOL:
		c = node(f, d, DOC_BOOL);
		if (c)
			c->boolean = d->boolean;
		put(v, "bool_value", c);
		break;
	case DOC_NUMBER: /* Envoy's YAML reader knows whole numbers only */
		if (d->is_int || (dot && strcmp(dot, ".json") == 0))
			put(v, "number_value", number(f, d, d->number));
		else
			put(v, "string_value", text(f, d, d->text));
		break;
	case DOC_STRING: put(v, "string_value", text(f, d, d->text)); break;
	case DOC_LIST: {
		struct doc *list = node(f, d, DOC_MAP), *all = d->n ? node(f, d, DOC_LIST) : NULL;
		doc_each (e, d) {
			c = value_form(f, e);
			if (all && c)
				doc_add(all, (struct str){0}, c);
		}
		put(list, "values", all);
		put(v, "list_value", list);
		break;
	}
	case DOC_MAP: put(v, "struct_value", struct_form(f, d)); break;
	}
	return v;
}

static struct doc *struct_form(struct form *f, const struct doc *d)
{
	struct doc *s = node(f, d, DOC_MAP), *fields = d->n ? node(f, d, DOC_MAP) : NULL;
	doc_each (e, d) {
		struct doc *c = value_form(f, e);
		if (fields && c)
			doc_add(fields, e->key, c);
	}
	put(s, "fields", fields);
	return s;
}

/* NULL: nothing to show (or no memory). keep: even a 0 or an empty string was set. */
static struct doc *scalar_form(struct form *f, const struct doc *d, const struct schema_field *s,
			       bool keep)
{
	double v = 0;
	struct doc *n;
	switch ((enum schema_kind)s->kind) {
	case SCHEMA_STRING: return d->text.n || keep ? text(f, d, d->text) : NULL;
	case SCHEMA_BYTES: return d->text.n || keep ? bytes_form(f, d) : NULL;
	case SCHEMA_BOOL:
		n = d->boolean || keep ? node(f, d, DOC_BOOL) : NULL;
		if (n)
			n->boolean = d->boolean;
		return n;
	case SCHEMA_ENUM:
		if (d->kind == DOC_NUMBER)
			v = d->number;
		for (unsigned i = 0; d->kind == DOC_STRING && s->enum_names[i]; i++)
			if (str_ieq(d->text, str_of(s->enum_names[i])))
				v = i;
		break;
	default: scalar_double(d, &v);
	}
	return v != 0 || keep ? number(f, d, v) : NULL;
}

static struct doc *one_form(struct form *f, const struct doc *d, const struct schema_field *s,
			    bool keep)
{
	struct doc *map;
	const struct doc *type;
	switch ((enum schema_kind)s->kind) {
	case SCHEMA_DURATION: return duration_form(f, d);
	case SCHEMA_TIMESTAMP: return timestamp_form(f, d);
	case SCHEMA_STRUCT: return struct_form(f, d);
	case SCHEMA_VALUE: return value_form(f, d);
	case SCHEMA_MESSAGE:
		if (s->message)
			return message_form(f, d, s->message);
		map = doc_copy(f->a, d); /* a message that is not known closer */
		f->lost |= !map;
		if (map)
			map->parent = NULL;
		return map;
	case SCHEMA_ANY: /* its bytes are protobuf, which is not written here */
		map = node(f, d, DOC_MAP);
		type = doc_get(d, "@type");
		if (type)
			put(map, "type_url", text(f, type, type->text));
		return map;
	default: break;
	}
	if (!s->wrapper)
		return scalar_form(f, d, s, keep);
	map = node(f, d, DOC_MAP);
	put(map, "value", scalar_form(f, d, s, false));
	return map;
}

static struct doc *field_form(struct form *f, const struct doc *d, const struct schema_field *s)
{
	if (s->shape == SCHEMA_ONE)
		return one_form(f, d, s, s->oneof != 0);
	struct doc *all = d->n ? node(f, d, s->shape == SCHEMA_LIST ? DOC_LIST : DOC_MAP) : NULL;
	doc_each (e, d) {
		struct doc *c = one_form(f, e, s, true);
		if (all && c)
			doc_add(all, e->key, c);
	}
	return all;
}

static struct doc *message_form(struct form *f, const struct doc *d, const struct schema_message *m)
{
	const struct doc *value = doc_get(d, "value");
	if (m == &schema_msg_any_struct)
		return value ? struct_form(f, value) : node(f, d, DOC_MAP);
	if (m == &schema_msg_any_value)
		return value ? value_form(f, value) : node(f, d, DOC_MAP);
	struct doc *map = node(f, d, DOC_MAP);
	doc_each (e, d) {
		const struct schema_field *s = schema_field_of(m, e->key);
		if (s && (e->kind != DOC_NULL || s->kind == SCHEMA_VALUE))
			put(map, s->name, field_form(f, e, s));
	}
	return map;
}

static struct doc *message(struct compile *c, const struct doc *any)
{
	struct reader r = {.arena = c->arena, .diags = c->diags, .model = c->model};
	struct form f = {.a = c->arena};
	struct str type;
	unsigned before = c->diags->errors;
	const struct doc *body = read_any(&r, any, &type);
	const struct schema_message *m = type.p ? schema_find(type) : NULL;
	if (!m || c->diags->errors != before) { /* the schema check has said what is wrong */
		if (c->diags->errors == 0)
			diag_add(c->diags, DIAG_ERROR, any, "%.*s is no message that postern knows",
				 STR_ARG(type));
		return NULL;
	}
	struct doc *d = message_form(&f, body, m);
	if (!d || f.lost) {
		envoy_no_memory(&r, any);
		return NULL;
	}
	return d;
}

const struct schema_hooks envoy_hooks = {.format = format, .message = message};

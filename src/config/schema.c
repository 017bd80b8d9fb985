/* src/config/schema.c: holds a tree against the tables. */
#include "config/schema.h"
#include "config/scalar_int.h"
#include "config/schema_int.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>

enum { FIELDS_MAX = 96, TOLD_MAX = 256, DEPTH_MAX = 100 };

struct check {
	struct diags *diags;
	unsigned depth;
	bool lenient;               /* inside data: nothing is refused, nothing is without effect */
	const void *told[TOLD_MAX]; /* notices already given: fields, old names */
	unsigned ntold;
};

static void check_message(struct check *c, const struct doc *d, const struct schema_message *m,
			  bool any);
static void check_any(struct check *c, const struct doc *d, bool optional);

/* True the first time; once the table is full every time, the diags bound their number
 * themselves. */
static bool first_time(struct check *c, const void *what)
{
	for (unsigned i = 0; i < c->ntold; i++)
		if (c->told[i] == what)
			return false;
	if (c->ntold < TOLD_MAX)
		c->told[c->ntold++] = what;
	return true;
}

/* ---- names ---- */

static struct str without_host(struct str url)
{
	for (size_t k = url.n; k > 0; k--)
		if (url.p[k - 1] == '/')
			return str_from(url, k);
	return url;
}

static const struct schema_message *find_exact(struct str name)
{
	for (const struct schema_message *const *m = schema_messages; *m; m++)
		if (str_eq(name, str_of((*m)->name)))
			return *m;
	return NULL;
}

static struct str today(struct str name)
{
	for (const struct schema_old *o = schema_old_types; o->old; o++)
		if (str_eq(name, str_of(o->old)))
			return str_of(o->now);
	for (const struct schema_old *o = schema_old_names; o->old; o++)
		if (str_eq(name, str_of(o->old)))
			return str_of(o->now);
	return (struct str){0};
}

struct str schema_canonical_type(struct str type_url_or_name)
{
	struct str name = without_host(type_url_or_name), now = today(name);
	if (!now.p && find_exact(name))
		now = name;
	return now;
}

const struct schema_message *schema_find(struct str name)
{
	struct str now = schema_canonical_type(name);
	return now.p ? find_exact(now) : NULL;
}

/* ---- scalars ---- */

static void wrong(struct check *c, const struct doc *d, const char *wanted)
{
	diag_add(c->diags, DIAG_ERROR, d, "%s where %s is needed", scalar_what(d), wanted);
}

static void check_string(struct check *c, const struct doc *d)
{
	if (d->kind == DOC_STRING)
		return;
	wrong(c, d, "a string");
	if (d->kind == DOC_NUMBER || d->kind == DOC_BOOL)
		diag_hint(c->diags, "write it in quotes: \"%.*s\"",
			  d->text.n > 60 ? 60 : (int)d->text.n, d->text.p);
}

static void check_bool(struct check *c, const struct doc *d)
{
	if (d->kind == DOC_BOOL)
		return;
	wrong(c, d, "true or false");
	if (d->kind == DOC_STRING &&
	    (str_eq(d->text, STR("true")) || str_eq(d->text, STR("false"))))
		diag_hint(c->diags, "write it without quotes");
}

static void check_whole(struct check *c, const struct doc *d, enum schema_kind kind)
{
	bool is_signed = kind == SCHEMA_INT32 || kind == SCHEMA_INT64;
	double v;
	uint64_t u;
	int64_t i;
	if (!scalar_double(d, &v)) {
		wrong(c, d, "a number");
		if (d->kind == DOC_STRING && d->text.n && d->text.n < 40)
			diag_hint(c->diags, "\"%.*s\" is no number", STR_ARG(d->text));
	} else if (v != floor(v) || isinf(v)) {
		diag_add(c->diags, DIAG_ERROR, d, "must be a whole number");
	} else if (is_signed) {
		int64_t most = kind == SCHEMA_INT32 ? INT32_MAX : INT64_MAX;
		if (!scalar_i64(d, &i) || i > most || i < -most - 1)
			diag_add(c->diags, DIAG_ERROR, d, "is out of range, %lld to %lld",
				 (long long)(-most - 1), (long long)most);
	} else if (v < 0) {
		diag_add(c->diags, DIAG_ERROR, d, "must not be negative");
	} else {
		uint64_t most = kind == SCHEMA_UINT32 ? UINT32_MAX : UINT64_MAX;
		if (!scalar_u64(d, &u) || u > most)
			diag_add(c->diags, DIAG_ERROR, d, "is too large, the most is %llu",
				 (unsigned long long)most);
	}
}

static void check_enum(struct check *c, const struct doc *d, const char *const *names)
{
	uint64_t u;
	unsigned n = 0;
	char all[160] = "";
	size_t at = 0;
	for (; names[n]; n++) {
		if (!names[n][0])
			continue;
		/* Our own names are in small letters, and may be written in Envoy's way. */
		if (d->kind == DOC_STRING &&
		    (islower((unsigned char)names[n][0]) ? str_ieq(d->text, str_of(names[n]))
							 : str_eq(d->text, str_of(names[n]))))
			return;
		if (at < sizeof all)
			at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", at ? ", " : "",
					       names[n]);
	}
	if (d->kind == DOC_NUMBER && scalar_u64(d, &u) && u < n && names[u][0])
		return;
	if (d->kind != DOC_STRING && d->kind != DOC_NUMBER) {
		wrong(c, d, "a name");
		diag_hint(c->diags, "one of %s", all);
		return;
	}
	diag_add(c->diags, DIAG_ERROR, d, "unknown value \"%.*s\"",
		 d->text.n > 100 ? 100 : (int)d->text.n, d->text.p);
	if (!c->diags->hintable)
		return;
	const char *near = NULL;
	for (unsigned i = 0; i < n && !near; i++)
		if (str_ieq(d->text, str_of(names[i])))
			near = names[i];
	if (!near)
		near = diag_nearest(d->text, names);
	if (near && near[0])
		diag_hint(c->diags, "%s", near);
	else
		diag_hint(c->diags, "one of %s", all);
}

static void check_duration(struct check *c, const struct doc *d)
{
	char hint[24] = "";
	int64_t us;
	if (d->kind == DOC_STRING && scalar_duration(d->text, &us, hint))
		return;
	if (d->kind == DOC_STRING)
		diag_add(c->diags, DIAG_ERROR, d,
			 "\"%.*s\" is no duration: seconds such as \"1.5s\"",
			 d->text.n > 60 ? 60 : (int)d->text.n, d->text.p);
	else
		wrong(c, d, "a duration such as \"1.5s\"");
	if (d->kind == DOC_NUMBER)
		scalar_duration(d->text, &us, hint);
	if (hint[0])
		diag_hint(c->diags, "%s", hint);
}

static void check_data(struct check *c, const struct doc *d)
{
	if (d->kind == DOC_NUMBER && !isfinite(d->number))
		diag_add(c->diags, DIAG_ERROR, d, "must be a finite number");
	else if (d->kind == DOC_LIST || d->kind == DOC_MAP)
		doc_each (e, d)
			check_data(c, e);
}

static void check_value(struct check *c, const struct doc *d, const struct schema_field *f,
			bool optional)
{
	size_t n;
	double v;
	switch ((enum schema_kind)f->kind) {
	case SCHEMA_STRING: check_string(c, d); break;
	case SCHEMA_BOOL: check_bool(c, d); break;
	case SCHEMA_INT32:
	case SCHEMA_UINT32:
	case SCHEMA_INT64:
	case SCHEMA_UINT64: check_whole(c, d, (enum schema_kind)f->kind); break;
	case SCHEMA_FLOAT:
	case SCHEMA_DOUBLE:
		if (!scalar_double(d, &v))
			wrong(c, d, "a number");
		break;
	case SCHEMA_BYTES:
		if (d->kind != DOC_STRING || !scalar_base64(d->text, NULL, &n))
			wrong(c, d, "base64");
		break;
	case SCHEMA_ENUM: check_enum(c, d, f->enum_names); break;
	case SCHEMA_DURATION: check_duration(c, d); break;
	case SCHEMA_TIMESTAMP:
		if (d->kind != DOC_STRING)
			wrong(c, d, "a time such as \"2026-01-31T12:00:00Z\"");
		break;
	case SCHEMA_MESSAGE:
		if (f->message)
			check_message(c, d, f->message, false);
		else if (d->kind != DOC_MAP)
			wrong(c, d, "a map");
		break;
	case SCHEMA_ANY: check_any(c, d, optional); break;
	case SCHEMA_STRUCT:
		if (d->kind != DOC_MAP)
			wrong(c, d, "a map");
		else
			check_data(c, d);
		break;
	case SCHEMA_VALUE: check_data(c, d); break;
	}
}

static void check_shape(struct check *c, const struct doc *d, const struct schema_field *f,
			bool optional)
{
	if (f->shape == SCHEMA_ONE) {
		check_value(c, d, f, optional);
	} else if (f->shape == SCHEMA_LIST) {
		if (d->kind != DOC_LIST) {
			wrong(c, d, "a list");
			diag_hint(c->diags, d->kind == DOC_MAP ? "put \"- \" in front of it"
							       : "put it in brackets");
			return;
		}
		doc_each (e, d) {
			if (e->kind == DOC_NULL)
				diag_add(c->diags, DIAG_ERROR, e, "a list cannot hold null here");
			else
				check_value(c, e, f, optional);
		}
	} else {
		if (d->kind != DOC_MAP) {
			wrong(c, d, "a map");
			return;
		}
		doc_each (e, d) {
			if (e->kind == DOC_NULL)
				diag_add(c->diags, DIAG_ERROR, e, "a map cannot hold null here");
			else
				check_value(c, e, f, optional);
		}
	}
}

/* ---- fields ---- */

static bool key_is(struct str key, const char *snake)
{
	char camel[128];
	if (key.n == 0 || key.p[0] != snake[0])
		return false;
	if (str_eq(key, str_of(snake)))
		return true;
	scalar_camel(snake, camel, sizeof camel);
	return str_eq(key, str_of(camel));
}

const struct schema_field *schema_field_of(const struct schema_message *m, struct str key)
{
	for (const struct schema_field *f = m->fields; f->name; f++)
		if (key_is(key, f->name))
			return f;
	return NULL;
}

/* What protobuf would not even send. A wrapper's false is a value. */
static bool is_default(const struct doc *d, const struct schema_field *f)
{
	if (f->wrapper)
		return false;
	if (f->shape != SCHEMA_ONE)
		return (d->kind == DOC_LIST || d->kind == DOC_MAP) && d->n == 0;
	switch (d->kind) {
	case DOC_BOOL: return !d->boolean;
	case DOC_NUMBER: return d->number == 0;
	case DOC_STRING:
		return d->text.n == 0 ||
		       (f->kind == SCHEMA_ENUM && str_eq(d->text, str_of(f->enum_names[0])));
	default: return false;
	}
}

/* Judges where d stands: its own place, or that of its key. */
static void at_key(struct check *c, enum diag_level level, const struct doc *d, const char *fmt,
		   ...) __attribute__((format(printf, 4, 5)));
static void at_key(struct check *c, enum diag_level level, const struct doc *d, const char *fmt,
		   ...)
{
	struct doc at = *d;
	char text[256];
	va_list ap;
	at.at = d->key_at.file ? d->key_at : d->at;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	diag_add(c->diags, level, &at, "%s", text);
}

/* Fields slip to the wrong depth easily: one up, or into the message beside. */
static bool hint_misplaced(struct check *c, const struct doc *d, const struct schema_message *m)
{
	for (const struct schema_field *f = m->fields; f->name; f++)
		if (f->kind == SCHEMA_MESSAGE && f->message && f->shape == SCHEMA_ONE &&
		    f->status == SCHEMA_USED && schema_field_of(f->message, d->key)) {
			diag_hint(c->diags, "it is a field of %s", f->name);
			return true;
		}
	return false;
}

static void unknown(struct check *c, const struct doc *d, const struct schema_message *m)
{
	const char *names[FIELDS_MAX * 2 + 1], *near, *retired = schema_retired(m, d->key);
	char camel[FIELDS_MAX][64];
	unsigned n = 0, k = 0;
	const char *last = strrchr(m->name, '.');
	at_key(c, DIAG_ERROR, d, "unknown field of %s", last ? last + 1 : m->name);
	if (!c->diags->hintable) /* one of too many: what follows is slow */
		return;
	if (retired) {
		diag_hint(c->diags, "%s", retired);
		return;
	}
	for (const struct schema_field *f = m->fields; f->name && k < FIELDS_MAX; f++, k++) {
		names[n++] = f->name;
		scalar_camel(f->name, camel[k], sizeof camel[k]);
		if (strcmp(camel[k], f->name) != 0)
			names[n++] = camel[k];
	}
	names[n] = NULL;
	near = diag_nearest(d->key, names);
	if (near)
		diag_hint(c->diags, "%s", near);
	else
		hint_misplaced(c, d, m);
}

static void judge(struct check *c, const struct doc *d, const struct schema_field *f)
{
	if (c->lenient)
		return;
	const char *why = f->why && f->why[0] ? f->why : NULL;
	if (f->status == SCHEMA_REFUSED && !is_default(d, f))
		at_key(c, DIAG_ERROR, d, "known to Envoy, not supported by postern%s%s",
		       why ? ": " : "", why ? why : "");
	else if (f->status == SCHEMA_HARMLESS && first_time(c, f))
		at_key(c, DIAG_NOTICE, d, "has no effect here: %s", why);
	else if (f->deprecated && f->status == SCHEMA_USED && first_time(c, f))
		at_key(c, DIAG_NOTICE, d, "is deprecated in Envoy's API, and works");
}

/* is_optional of an HTTP filter or a per-route configuration: a type that is not known may be
 * left out. */
static bool is_optional(const struct doc *d, const struct schema_message *m)
{
	const struct doc *o = m == &schema_msg_http_filter || m == &schema_msg_filter_config
				      ? doc_field(d, "is_optional")
				      : NULL;
	return o && o->kind == DOC_BOOL && o->boolean;
}

static void check_fields(struct check *c, const struct doc *d, const struct schema_message *m,
			 bool any)
{
	const struct doc *seen[FIELDS_MAX] = {NULL}, *chosen[16] = {NULL};
	bool optional = is_optional(d, m);
	doc_each (e, d) {
		if (any && str_eq(e->key, STR("@type")))
			continue;
		const struct schema_field *f = schema_field_of(m, e->key);
		if (!f) {
			unknown(c, e, m);
			continue;
		}
		size_t i = (size_t)(f - m->fields);
		if (i < FIELDS_MAX) {
			if (seen[i])
				at_key(c, DIAG_ERROR, e, "is given twice, also as \"%.*s\"",
				       STR_ARG(seen[i]->key));
			seen[i] = e;
		}
		if (e->kind == DOC_NULL && f->kind != SCHEMA_VALUE)
			continue;
		if (f->oneof) {
			const struct doc **other = &chosen[f->oneof % 16];
			if (*other)
				at_key(c, DIAG_ERROR, e, "excludes \"%.*s\", give one of them",
				       STR_ARG((*other)->key));
			*other = e;
		}
		judge(c, e, f);
		if (f->status == SCHEMA_REFUSED && !c->lenient)
			continue; /* one mistake a field */
		bool outer = c->lenient;
		/* One word about a field without effect, none about those inside. */
		c->lenient = outer || f->lenient || f->status == SCHEMA_HARMLESS;
		check_shape(c, e, f, optional);
		c->lenient = outer;
	}
}

static void check_message(struct check *c, const struct doc *d, const struct schema_message *m,
			  bool any)
{
	if (d->kind != DOC_MAP) {
		const char *last = strrchr(m->name, '.');
		diag_add(c->diags, DIAG_ERROR, d, "%s where a map is needed (%s)", scalar_what(d),
			 last ? last + 1 : m->name);
		return;
	}
	if (c->depth >= DEPTH_MAX) {
		diag_add(c->diags, DIAG_ERROR, d, "is nested too deeply");
		return;
	}
	c->depth++;
	check_fields(c, d, m, any);
	c->depth--;
}

/* ---- Any ---- */

static const char *nearest_type(struct str type, unsigned best)
{
	const char *near = NULL;
	for (const struct schema_message *const *m = schema_messages; *m; m++) {
		unsigned n = str_distance(type, str_of((*m)->name), best);
		if (n <= best && (!near || n < best)) {
			near = (*m)->name;
			best = n;
		}
	}
	return near;
}

static void unknown_type(struct check *c, const struct doc *t, struct str type, bool optional)
{
	const char *why = schema_unsupported(type);
	enum diag_level level = optional ? DIAG_NOTICE : DIAG_ERROR;
	int shown = type.n > 200 ? 200 : (int)type.n;
	if (c->lenient)
		return; /* data of a type we do not look into */
	/* Of a package only the name is known: a slip of the finger in one of ours looks like
	 * one more type of it. */
	const char *near =
		!why || !why[0] ? nearest_type(type, why ? 2 : (unsigned)(type.n / 6) + 1) : NULL;
	if (why && !near) {
		diag_add(c->diags, level, t,
			 "%.*s is known to Envoy, not supported by postern%s%s%s", shown, type.p,
			 why[0] ? ": " : "", why, optional ? "; left out, it is optional" : "");
		return;
	}
	diag_add(c->diags, level, t, "unknown type %.*s%s", shown, type.p,
		 optional ? "; left out, it is optional" : "");
	if (near)
		diag_hint(c->diags, "%s", near);
}

/* xds.type.v3.TypedStruct: the type beside, the fields in value. */
static void check_typed_struct(struct check *c, const struct doc *d, bool optional)
{
	const struct doc *t = doc_field(d, "type_url"), *v = doc_field(d, "value");
	if (!t || t->kind != DOC_STRING) {
		diag_add(c->diags, DIAG_ERROR, t ? t : d, "type_url is missing");
		return;
	}
	const struct schema_message *m = schema_find(t->text);
	if (!m)
		unknown_type(c, t, without_host(t->text), optional);
	else if (v && v->kind != DOC_NULL)
		check_message(c, v, m, false);
	doc_each (e, d)
		if (e != t && e != v && !str_eq(e->key, STR("@type")))
			at_key(c, DIAG_ERROR, e, "unknown field of TypedStruct");
}

static void check_any(struct check *c, const struct doc *d, bool optional)
{
	if (d->kind != DOC_MAP) {
		wrong(c, d, "a map with \"@type\"");
		return;
	}
	const struct doc *t = doc_get(d, "@type");
	if (!t || t->kind != DOC_STRING || t->text.n == 0) {
		diag_add(c->diags, DIAG_ERROR, t ? t : d, "\"@type\" is missing");
		return;
	}
	struct str type = without_host(t->text), now = today(type);
	if (now.p && !str_eq(type, STR("udpa.type.v1.TypedStruct")) && first_time(c, now.p))
		diag_add(c->diags, DIAG_NOTICE, t, "is the old name of %.*s, and works",
			 STR_ARG(now));
	if (!now.p)
		now = type;
	if (str_eq(now, STR("xds.type.v3.TypedStruct"))) {
		check_typed_struct(c, d, optional);
		return;
	}
	const struct schema_message *m = find_exact(now);
	if (m)
		check_message(c, d, m, true);
	else
		unknown_type(c, t, type, optional);
}

void schema_check(struct diags *diags, const struct doc *d, const struct schema_message *m)
{
	struct check c = {.diags = diags};
	check_message(&c, d, m, doc_get(d, "@type") != NULL);
}

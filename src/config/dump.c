/* src/config/dump.c: a tree as JSON. */
#include "config/config.h"
#include "config/scalar_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* malloc's own memory: the caller gives it back with free (config.h). */
struct out {
	char *p;
	size_t n, cap;
	bool failed;
};

static void put(struct out *o, const char *p, size_t n)
{
	if (o->failed)
		return;
	if (n > o->cap - o->n) {
		size_t cap = o->cap ? o->cap : 1024;
		while (cap - o->n < n && cap <= SIZE_MAX / 4)
			cap *= 2;
		char *more = cap - o->n < n ? NULL : realloc(o->p, cap);
		if (!more) {
			o->failed = true;
			return;
		}
		o->p = more;
		o->cap = cap;
	}
	memcpy(o->p + o->n, p, n);
	o->n += n;
}

static void put_text(struct out *o, const char *z)
{
	put(o, z, strlen(z));
}

static void put_string(struct out *o, struct str s)
{
	put(o, "\"", 1);
	size_t from = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		char esc[8];
		if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
			continue;
		put(o, s.p + from, i - from);
		from = i + 1;
		if (c == '"' || c == '\\')
			snprintf(esc, sizeof esc, "\\%c", c);
		else if (c == '\n' || c == '\t' || c == '\r')
			snprintf(esc, sizeof esc, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
		else
			snprintf(esc, sizeof esc, "\\u%04x", c);
		put_text(o, esc);
	}
	put(o, s.p + from, s.n - from);
	put(o, "\"", 1);
}

static void put_number(struct out *o, const struct doc *d)
{
	char z[40];
	uint64_t u;
	if (!d->is_int && d->text.n && d->text.p[0] != '0' &&
	    str_u64(d->text, &u)) { /* beyond int64 */
		put(o, d->text.p, d->text.n);
		return;
	}
	if (d->is_int)
		snprintf(z, sizeof z, "%lld", (long long)d->integer);
	else if (isnan(d->number))
		snprintf(z, sizeof z, "\"NaN\"");
	else if (isinf(d->number))
		snprintf(z, sizeof z, "\"%sInfinity\"", d->number < 0 ? "-" : "");
	else
		snprintf(z, sizeof z, "%.17g", d->number);
	put_text(o, z);
}

/* Envoy's words for what is kept back: the second is the first in base64. */
static struct str kept_back(const struct doc *d)
{
	static const char *const secret[] = {
		"private_key",         "privateKey",        "password",       "pkcs12",
		"session_ticket_keys", "sessionTicketKeys", "generic_secret", "genericSecret"};
	bool bytes = str_eq(d->key, STR("inline_bytes")) || str_eq(d->key, STR("inlineBytes"));
	if (!bytes && !str_eq(d->key, STR("inline_string")) && !str_eq(d->key, STR("inlineString")))
		return (struct str){0};
	for (const struct doc *up = d->parent; up; up = up->parent)
		for (size_t i = 0; i < sizeof secret / sizeof *secret; i++)
			if (str_eq(up->key, str_of(secret[i])))
				return bytes ? STR("W3JlZGFjdGVkXQ==") : STR("[redacted]");
	return (struct str){0};
}

static void put_scalar(struct out *o, const struct doc *d, bool mask)
{
	struct str masked = mask && d->kind == DOC_STRING ? kept_back(d) : (struct str){0};
	switch (d->kind) {
	case DOC_BOOL: put_text(o, d->boolean ? "true" : "false"); break;
	case DOC_NUMBER: put_number(o, d); break;
	case DOC_STRING: put_string(o, masked.p ? masked : d->text); break;
	default: put_text(o, "null");
	}
}

static void new_line(struct out *o, unsigned depth)
{
	static const char blanks[] = "                                ";
	put(o, "\n", 1);
	for (; depth > 32; depth -= 32)
		put(o, blanks, 32);
	put(o, blanks, depth);
}

bool doc_to_json(const struct doc *d, char **out, size_t *n, bool mask_secrets)
{
	struct out o = {.p = *out, .n = *n, .cap = *n};
	unsigned depth = 0;
	/* Without recursion: patches and xDS make trees as deep as they like. */
	for (const struct doc *x = d; x;) {

		if (depth && x->parent->kind == DOC_MAP) {
			put_string(&o, x->key);
			put(&o, ": ", 2);
		}
		if (x->first) {
			put_text(&o, x->kind == DOC_MAP ? "{" : "[");
			new_line(&o, ++depth);
			x = x->first;
			continue;
		}
		if (x->kind == DOC_MAP || x->kind == DOC_LIST)
			put_text(&o, x->kind == DOC_MAP ? "{}" : "[]");
		else
			put_scalar(&o, x, mask_secrets);
		while (depth && !x->next) {
			x = x->parent;
			new_line(&o, --depth);
			put_text(&o, x->kind == DOC_MAP ? "}" : "]");
		}
		if (depth == 0)
			break;
		put_text(&o, ",");
		new_line(&o, depth);
		x = x->next;
	}
	*out = o.p;
	*n = o.n;
	return !o.failed;
}

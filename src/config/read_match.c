/* src/config/read_match.c: the matchers and header operations of read.h. */
#include "config/read.h"
#include "config/scalar_int.h"
#include "model/regex.h"
#include <ctype.h>

static void no_memory(struct reader *r)
{
	diag_at(r->diags, DIAG_ERROR, (struct doc_place){0}, "out of memory");
}

static void lower(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		((char *)s.p)[i] =
			(char)tolower((unsigned char)s.p[i]); /* our own copy in the arena */
}

static void free_regex(void *p)
{
	regex_free(p);
}

const struct regex *read_regex(struct reader *r, const struct doc *d)
{
	char err[200] = "";
	struct str pattern = read_str_needed(r, d, "regex");
	if (!pattern.p)
		return NULL;
	struct regex *rx = regex_new(pattern, err, sizeof err);
	if (!rx) {
		diag_add(r->diags, DIAG_ERROR, read_field(d, "regex"), "bad regular expression: %s",
			 err[0] ? err : "out of memory");
		return NULL;
	}
	if (!model_on_free(r->model, free_regex, rx)) {
		regex_free(rx);
		no_memory(r);
		return NULL;
	}
	return rx;
}

/* ".*wp=1.*" and its like are plain searches; a compiled expression costs 25 to 100 ns each
 * time. False: a real expression. */
static bool regex_is_plain(struct str p, char *out, struct string_match *m)
{
	bool head = false, tail = false;
	size_t n = 0;
	if (str_starts(p, STR("^")))
		p = str_from(p, 1);
	while (str_starts(p, STR(".*"))) {
		head = true;
		p = str_from(p, 2);
	}
	for (size_t i = 0; i < p.n; i++) {
		unsigned char c = (unsigned char)p.p[i];
		bool last = i + 1 == p.n;
		if (c == '$' && last)
			break;
		if (c == '.' && !last && p.p[i + 1] == '*') {
			struct str rest = str_from(p, i);
			while (str_starts(rest, STR(".*")))
				rest = str_from(rest, 2);
			if (rest.n && !str_eq(rest, STR("$")))
				return false;
			tail = true;
			break;
		}
		if (c == '\\') {
			if (last || !ispunct((unsigned char)p.p[i + 1]))
				return false;
			c = (unsigned char)p.p[++i];
		} else if (strchr(".*+?()[]{}|^$", c) || c >= 0x80 || c < 0x20) {
			return false;
		}
		/* What follows may be a repetition of this byte. */
		if (i + 1 < p.n && strchr("*+?{", p.p[i + 1]))
			return false;
		out[n++] = (char)c;
	}
	m->text = (struct str){out, n};
	m->kind = head && tail ? STRING_CONTAINS
		  : head       ? STRING_SUFFIX
		  : tail       ? STRING_PREFIX
			       : STRING_EXACT;
	if (n == 0)
		m->kind = head || tail ? STRING_ANY : STRING_EXACT;
	return true;
}

static bool read_regex_match(struct reader *r, const struct doc *d, struct string_match *out)
{
	out->ignore_case = false;
	const struct doc *v = read_field(d, "regex");
	if (v && v->kind == DOC_STRING && v->text.n) {
		char *text = arena_alloc(r->arena, v->text.n);
		if (!text) {
			no_memory(r);
			return false;
		}
		if (regex_is_plain(v->text, text, out))
			return true;
	}
	out->kind = STRING_REGEX;
	out->regex = read_regex(r, d);
	return out->regex != NULL;
}

static bool read_text_match(struct reader *r, const struct doc *v, enum string_kind kind,
			    bool needed, struct string_match *out)
{
	out->kind = kind;
	out->text = needed ? read_str_needed(r, v, NULL) : read_str(r, v, NULL);
	if (out->ignore_case)
		lower(out->text);
	return out->text.p != NULL;
}

bool read_string_match(struct reader *r, const struct doc *d, struct string_match *out)
{
	static const struct {
		const char *field;
		enum string_kind kind;
		bool needed; /* Envoy: at least one byte */
	} forms[] = {{"exact", STRING_EXACT, false},
		     {"prefix", STRING_PREFIX, true},
		     {"suffix", STRING_SUFFIX, true},
		     {"contains", STRING_CONTAINS, true}};
	const struct doc *v;
	*out = (struct string_match){.ignore_case = read_bool(r, d, "ignore_case", false)};
	for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++)
		if ((v = read_field(d, forms[i].field)))
			return read_text_match(r, v, forms[i].kind, forms[i].needed, out);
	if ((v = read_field(d, "safe_regex"))) {
		if (out->ignore_case) { /* Envoy refuses it too */
			diag_add(r->diags, DIAG_ERROR, read_field(d, "ignore_case"),
				 "has no effect on safe_regex");
			diag_hint(r->diags, "begin the expression with (?i)");
		}
		return read_regex_match(r, v, out);
	}
	diag_add(r->diags, DIAG_ERROR, d, "needs exact, prefix, suffix, contains or safe_regex");
	return false;
}

static bool read_range(struct reader *r, const struct doc *v, struct field_match *out)
{
	const struct doc *a = read_field(v, "start"), *b = read_field(v, "end");
	out->kind = FIELD_MATCH_RANGE;
	/* Wrong types are the schema's to report; then the values do not matter. */
	if ((a && !scalar_i64(a, &out->from)) || (b && !scalar_i64(b, &out->to)))
		return false;
	(void)r;
	return true;
}

/* long: one row per way to say it, today's and the four deprecated ones */
bool read_field_match(struct reader *r, const struct doc *d, struct field_match *out)
{
	static const struct {
		const char *field;
		enum string_kind kind;
		bool needed;
	} old[] = {{"exact_match", STRING_EXACT, false},
		   {"prefix_match", STRING_PREFIX, true},
		   {"suffix_match", STRING_SUFFIX, true},
		   {"contains_match", STRING_CONTAINS, true}};
	const struct doc *v;
	*out = (struct field_match){
		.name = read_str_needed(r, d, "name"),
		.kind = FIELD_MATCH_STRING,
		.invert = read_bool(r, d, "invert_match", false),
		.missing_as_empty = read_bool(r, d, "treat_missing_header_as_empty", false)};
	if (!out->name.p)
		return false;
	lower(out->name);
	if (str_eq(out->name, STR("host"))) /* Envoy's header map knows only :authority */
		out->name = STR(":authority");
	out->id = name_id(out->name.p, out->name.n);
	if (!field_name_ok(out->name) &&
	    !(out->name.p[0] == ':' && field_name_ok(str_from(out->name, 1)))) {
		diag_add(r->diags, DIAG_ERROR, read_field(d, "name"), "is no header name");
		return false;
	}
	if ((v = read_field(d, "string_match")))
		return read_string_match(r, v, &out->string);
	if ((v = read_field(d, "safe_regex_match")))
		return read_regex_match(r, v, &out->string);
	if ((v = read_field(d, "range_match")))
		return read_range(r, v, out);
	for (unsigned i = 0; i < sizeof old / sizeof *old; i++)
		if ((v = read_field(d, old[i].field)))
			return read_text_match(r, v, old[i].kind, old[i].needed, &out->string);
	/* Envoy: no condition means presence. */
	out->kind = FIELD_MATCH_PRESENT;
	out->present = read_bool(r, d, "present_match", true);
	return true;
}

/* ---- header operations ---- */

/* Envoy refuses these too: routing and framing have been decided when they would apply. */
static bool name_may_change(struct reader *r, const struct doc *at, struct str name)
{
	if (name.p[0] == ':' || str_ieq(name, STR("host"))) {
		diag_add(r->diags, DIAG_ERROR, at, "\":\" names and host cannot be changed here");
		return false;
	}
	if (!field_name_ok(name)) {
		diag_add(r->diags, DIAG_ERROR, at, "\"%.*s\" is no header name", STR_ARG(name));
		return false;
	}
	enum field_id id = name_id(name.p, name.n);
	if (id != FIELD_OTHER && name_infos[id].flags & NAME_FRAMING)
		diag_add(r->diags, DIAG_WARNING, at,
			 "%.*s is made from the message itself; this has no effect", STR_ARG(name));
	return true;
}

static struct str header_value(struct reader *r, const struct doc *h, const struct doc **at)
{
	struct str s = {"", 0};
	if ((*at = read_field(h, "raw_value")) && (*at)->kind == DOC_STRING) {
		size_t n;
		char *p = arena_alloc(r->arena, (*at)->text.n + 3);
		if (p && scalar_base64((*at)->text, p, &n))
			return (struct str){p, n};
		if (!p)
			no_memory(r);
		return s;
	}
	if ((*at = read_field(h, "value")))
		s = read_str(r, h, "value");
	return s;
}

static bool read_header_op(struct reader *r, const struct doc *d, struct header_op *out)
{
	static const char *const actions[] = {"APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT",
					      "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS",
					      NULL};
	static const unsigned char kinds[] = {HEADER_APPEND, HEADER_ADD_IF_ABSENT, HEADER_OVERWRITE,
					      HEADER_OVERWRITE_IF_EXISTS};
	const struct doc *h = read_field(d, "header"), *at;
	*out = (struct header_op){0};
	if (!h) {
		diag_add(r->diags, DIAG_ERROR, d, "header is missing");
		return false;
	}
	out->name = read_str_needed(r, h, "key");
	if (!out->name.p || !name_may_change(r, read_field(h, "key"), out->name))
		return false;
	out->action = kinds[read_enum(r, d, "append_action", actions, 0)];
	if (read_field(d, "append") && !read_field(d, "append_action"))
		out->action = read_bool(r, d, "append", true) ? HEADER_APPEND : HEADER_OVERWRITE;
	out->keep_empty = read_bool(r, d, "keep_empty_value", false);
	struct str value = header_value(r, h, &at);
	if (!value.p)
		return false;
	out->value = format_compile(r->arena, r->diags, at ? at : h, value);
	if (!out->value)
		return false;
	if (out->value->n == 0)
		out->plain = STR("");
	else if (out->value->n == 1 && out->value->parts[0].op == FMT_TEXT)
		out->plain = out->value->parts[0].text;
	if (out->plain.p && !field_value_ok(out->plain)) {
		diag_add(r->diags, DIAG_ERROR, at ? at : h, "is no header value (control bytes)");
		return false;
	}
	return true;
}

/* Removals stand in front: Envoy removes first, so that what is added stays. */
static unsigned read_ops(struct reader *r, const struct doc *d, const char *add, const char *remove,
			 struct header_op **out)
{
	const struct doc *a = read_field(d, add), *x = read_field(d, remove);
	unsigned n = 0, most = (a && a->kind == DOC_LIST ? a->n : 0) +
			       (x && x->kind == DOC_LIST ? x->n : 0);
	*out = NULL;
	if (most == 0)
		return 0;
	*out = arena_zalloc(r->arena, most * sizeof **out);
	if (!*out) {
		no_memory(r);
		return 0;
	}
	if (x && x->kind == DOC_LIST)
		doc_each (c, x) {
			struct str name = read_str_needed(r, c, NULL);
			if (name.p && name_may_change(r, c, name))
				(*out)[n++] =
					(struct header_op){.action = HEADER_REMOVE, .name = name};
		}
	if (a && a->kind == DOC_LIST)
		doc_each (c, a)
			if (read_header_op(r, c, &(*out)[n]))
				n++;
	return n;
}

void read_header_ops(struct reader *r, const struct doc *d, struct header_ops *out)
{
	out->nrequest = read_ops(r, d, "request_headers_to_add", "request_headers_to_remove",
				 &out->request);
	out->nresponse = read_ops(r, d, "response_headers_to_add", "response_headers_to_remove",
				  &out->response);
}

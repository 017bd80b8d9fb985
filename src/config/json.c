/* src/config/json.c: JSON into a tree. Only this file sees jansson.
 *
 * jansson judges the syntax, but tells places only of errors; so the tree is built by a walk over the text that it has found
 * good. The walk trusts nothing all the same: it stops at the end of the text and at what it does not expect. Depth (64),
 * values (1,000,000) and input (16 MiB) are counted before jansson spends memory on them. */
#include "base/map.h"
#include "config/config.h"
#include "config/doc_int.h"
#include "config/scalar_int.h"
#include <ctype.h>
#include <jansson.h>

enum { KEYS_LINEAR = 12 };

struct walk {
	struct arena *arena;
	struct diags *diags;
	const char *file;
	const char *p, *end;
	uint32_t line, column;
	unsigned depth;
	bool failed;
};

static struct doc_place here(const struct walk *w)
{
	return (struct doc_place){w->file, w->line, w->column};
}

static void *fail(struct walk *w, struct doc_place at, const char *text)
{
	if (!w->failed)
		diag_at(w->diags, DIAG_ERROR, at, "%s", text);
	w->failed = true;
	return NULL;
}

static void *no_memory(struct walk *w)
{
	return fail(w, (struct doc_place){w->file, 0, 0}, "out of memory");
}

/* Columns count characters, not bytes, as in YAML. */
static void step(struct walk *w)
{
	unsigned char c = (unsigned char)*w->p++;
	if (c == '\n') {
		w->line++;
		w->column = 1;
	} else if ((c & 0xc0) != 0x80) {
		w->column++;
	}
}

static int peek(struct walk *w)
{
	while (w->p < w->end && (*w->p == ' ' || *w->p == '\t' || *w->p == '\n' || *w->p == '\r'))
		step(w);
	return w->p < w->end ? (unsigned char)*w->p : -1;
}

static bool expect(struct walk *w, char c)
{
	if (peek(w) != c) {
		fail(w, here(w), "not JSON");
		return false;
	}
	step(w);
	return true;
}

static int hex4(const char *p, const char *end)
{
	int v = 0;
	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int c = tolower((unsigned char)p[i]);
		if (!isxdigit(c))
			return -1;
		v = v << 4 | (c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return v;
}

static size_t put_utf8(char *out, unsigned v)
{
	if (v < 0x80) {
		out[0] = (char)v;
		return 1;
	}
	if (v < 0x800) {
		out[0] = (char)(0xc0 | v >> 6);
		out[1] = (char)(0x80 | (v & 0x3f));
		return 2;
	}
	if (v < 0x10000) {
		out[0] = (char)(0xe0 | v >> 12);
		out[1] = (char)(0x80 | (v >> 6 & 0x3f));
		out[2] = (char)(0x80 | (v & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | v >> 18);
	out[1] = (char)(0x80 | (v >> 12 & 0x3f));
	out[2] = (char)(0x80 | (v >> 6 & 0x3f));
	out[3] = (char)(0x80 | (v & 0x3f));
	return 4;
}

/* p stands behind the backslash. Bytes used, 0: bad. An escape is never shorter than what it
 * stands for. */
static size_t unescape(const char *p, const char *end, char *out, size_t *n)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	if (p >= end)
		return 0;
	const char *at = *p ? strchr(from, *p) : NULL;
	if (at) {
		out[(*n)++] = to[at - from];
		return 1;
	}
	if (*p != 'u')
		return 0;
	int v = hex4(p + 1, end), low;
	if (v < 0)
		return 0;
	if (v < 0xd800 || v > 0xdfff) {
		*n += put_utf8(out + *n, (unsigned)v);
		return 5;
	}
	if (v > 0xdbff || end - p < 11 || p[5] != '\\' || p[6] != 'u')
		return 0;
	low = hex4(p + 7, end);
	if (low < 0xdc00 || low > 0xdfff)
		return 0;
	*n += put_utf8(out + *n,
		       0x10000u + (((unsigned)v & 0x3ff) << 10 | ((unsigned)low & 0x3ff)));
	return 11;
}

static struct str read_string(struct walk *w)
{
	struct doc_place at = here(w);
	const char *close = w->p + 1;
	while (close < w->end && *close != '"')
		close += *close == '\\' ? 2 : 1;
	if (peek(w) != '"' || close >= w->end) {
		fail(w, at, "not JSON");
		return (struct str){0};
	}
	char *out = arena_alloc(w->arena, (size_t)(close - w->p));
	size_t n = 0;
	if (!out) {
		no_memory(w);
		return (struct str){0};
	}
	step(w);
	while (w->p < close) {
		if (*w->p != '\\') {
			out[n++] = *w->p;
			step(w);
			continue;
		}
		size_t used = unescape(w->p + 1, close, out, &n);
		if (used == 0) {
			fail(w, here(w), "not JSON: a bad escape");
			return (struct str){0};
		}
		for (size_t i = 0; i <= used; i++)
			step(w);
	}
	step(w);
	return (struct str){out, n};
}

static bool word(struct walk *w, const char *text)
{
	size_t n = strlen(text);
	if ((size_t)(w->end - w->p) < n || memcmp(w->p, text, n) != 0)
		return false;
	w->p += n;
	w->column += (uint32_t)n;
	return true;
}

static struct doc *scalar(struct walk *w, struct doc *d)
{
	const char *start = w->p;
	if (*start == '"') {
		d->kind = DOC_STRING;
		d->text = read_string(w);
		return d->text.p ? d : NULL;
	}
	if (word(w, "null"))
		return d;
	if (word(w, "true") || word(w, "false")) {
		d->kind = DOC_BOOL;
		d->boolean = *start == 't';
		d->text = d->boolean ? STR("true") : STR("false");
		return d;
	}
	while (w->p < w->end && (isalnum((unsigned char)*w->p) || memchr("+-.", *w->p, 3)))
		step(w);
	d->text = arena_str(w->arena, (struct str){start, (size_t)(w->p - start)});
	if (!d->text.p)
		return no_memory(w);
	return scalar_number(d) ? d : fail(w, d->at, "not JSON");
}

static struct doc *value(struct walk *w);

static struct doc *list(struct walk *w, struct doc *d)
{
	d->kind = DOC_LIST;
	step(w);
	if (peek(w) == ']') {
		step(w);
		return d;
	}
	for (;;) {
		struct doc *e = value(w);
		if (!e)
			return NULL;
		doc_add(d, STR(""), e);
		if (peek(w) != ',')
			return expect(w, ']') ? d : NULL;
		step(w);
	}
}

/* keys helps large maps; small ones are searched. */
static bool entry(struct walk *w, struct doc *d, struct map *keys)
{
	int c = peek(w);
	struct doc_place at = here(w);
	struct str key = c == '"' ? read_string(w) : (struct str){0};
	if (!key.p) {
		fail(w, at, "not JSON");
		return false;
	}
	struct doc *before = keys->n ? map_get(keys, key) : doc_get_str(d, key);
	struct doc *v = expect(w, ':') ? value(w) : NULL;
	if (!v)
		return false;
	if (before) {
		diag_at(w->diags, DIAG_ERROR, at, "the key \"%.*s\" is already in line %u",
			key.n > 100 ? 100 : (int)key.n, key.p, before->key_at.line);
		w->failed = true;
		return true;
	}
	v->key_at = at;
	doc_add(d, key, v);
	if (d->n <= KEYS_LINEAR)
		return true;
	if (keys->n == 0)
		doc_each (e, d)
			if (!map_put(keys, e->key, e))
				return no_memory(w);
	return map_put(keys, key, v) || no_memory(w);
}

static struct doc *map(struct walk *w, struct doc *d)
{
	struct map keys;
	bool ok = true;
	d->kind = DOC_MAP;
	step(w);
	if (peek(w) == '}') {
		step(w);
		return d;
	}
	map_init(&keys, MEM_CONFIG);
	while ((ok = entry(w, d, &keys)) && peek(w) == ',')
		step(w);
	map_fini(&keys);
	return ok && expect(w, '}') ? d : NULL;
}

static struct doc *value(struct walk *w)
{
	int c = peek(w);
	if (c < 0)
		return fail(w, here(w), "not JSON: it ends too early");
	struct doc *d = doc_new(w->arena, DOC_NULL, here(w));
	if (!d)
		return no_memory(w);
	if (c != '{' && c != '[')
		return scalar(w, d);
	if (w->depth >= DOC_DEPTH_MAX)
		return fail(w, d->at, "more than 64 levels deep");
	w->depth++;
	d = c == '{' ? map(w, d) : list(w, d);
	w->depth--;
	return d;
}

/* Levels and an upper bound of the values, before anything is allocated for them. */
static bool within_bounds(struct walk *w)
{
	struct walk at = *w;
	unsigned depth = 0;
	uint32_t n = 1;
	bool quoted = false;
	for (; at.p < at.end; step(&at)) {
		char c = *at.p;
		if (quoted) {
			if (c == '\\' && at.p + 1 < at.end)
				step(&at);
			quoted = c != '"';
			continue;
		}
		quoted = c == '"';
		if (c == '{' || c == '[') {
			n++;
			if (++depth > DOC_DEPTH_MAX)
				return fail(w, here(&at), "more than 64 levels deep");
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if (c == ',') {
			n++;
		}
		if (n > DOC_NODES_MAX)
			return fail(w, here(&at), "more than 1000000 values");
	}
	return true;
}

static bool judge(struct walk *w)
{
	json_error_t e;
	json_t *j = json_loadb(w->p, (size_t)(w->end - w->p),
			       JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &e);
	if (j) {
		json_decref(j);
		return true;
	}
	struct doc_place at = {w->file, e.line > 0 ? (uint32_t)e.line : 0,
			       e.column > 0 ? (uint32_t)e.column : 1};
	return fail(w, at, e.text);
}

struct doc *doc_from_json(struct arena *a, struct diags *d, const char *file, struct str text)
{
	struct walk w = {.arena = a, .diags = d, .file = file, .line = 1, .column = 1};
	if (text.n > DOC_BYTES_MAX)
		return fail(&w, (struct doc_place){file, 0, 0}, "is larger than 16 MiB");
	/* editors write a byte order mark, RFC 8259 8.1 lets us pass over it */
	if (str_starts(text, STR("\xef\xbb\xbf")))
		text = str_from(text, 3);
	w.p = text.p;
	w.end = text.p + text.n;
	if (!within_bounds(&w) || !judge(&w))
		return NULL;
	struct doc *root = value(&w);
	if (root && peek(&w) >= 0)
		fail(&w, here(&w), "not JSON: something follows its end");
	return w.failed ? NULL : root;
}

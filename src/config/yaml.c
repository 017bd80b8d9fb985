/* src/config/yaml.c: libyaml's events into a tree. Only this file sees libyaml.
 *
 * The scanner is fed event by event so that depth (64), nodes (1,000,000 after aliases) and input (16 MiB) are bounded before
 * memory is spent. Plain scalars are resolved by YAML 1.1 rules as Go's YAML-to-JSON does. */
#include "base/map.h"
#include "base/must.h"
#include "config/config.h"
#include "config/doc_int.h"
#include "config/scalar_int.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

enum { KEYS_LINEAR = 12 };

struct frame {
	struct doc *d;
	struct str key; /* map: the key read, .p NULL when one is awaited */
	struct doc_place key_at;
	bool key_merges; /* the key is a plain << */
	struct doc *merge;
	struct map keys; /* once there are more than KEYS_LINEAR of them */
};

struct composer {
	struct arena *arena;
	struct diags *diags;
	const char *file;
	yaml_parser_t parser;
	struct frame stack[DOC_DEPTH_MAX];
	unsigned depth;
	uint32_t nodes;
	struct map anchors; /* of this document: name -> doc */
	struct doc *root;   /* the finished document */
	bool go_keys;       /* keys that are booleans and numbers are written as Go does */
	bool failed;
};

static struct doc_place place_of(const struct composer *c, yaml_mark_t m)
{
	return (struct doc_place){c->file, (uint32_t)m.line + 1, (uint32_t)m.column + 1};
}

static bool fail(struct composer *c, struct doc_place at, const char *text)
{
	diag_at(c->diags, DIAG_ERROR, at, "%s", text);
	c->failed = true;
	return false;
}

static bool no_memory(struct composer *c)
{
	return fail(c, (struct doc_place){c->file, 0, 0}, "out of memory");
}

static bool count(struct composer *c, struct doc_place at, uint32_t n)
{
	if (n > DOC_NODES_MAX - c->nodes)
		return fail(c, at, "more than 1000000 values, aliases expanded");
	c->nodes += n;
	return true;
}

/* ---- scalars ---- */

static bool is_one_of(struct str s, const char *const *words)
{
	for (; *words; words++)
		if (str_eq(s, str_of(*words)))
			return true;
	return false;
}

/* Go's strconv.ParseInt(s, 0, 64) after the underscores are gone, unsigned 64 bits too. */
static bool integer_of(const char *z, bool *minus, uint64_t *out)
{
	unsigned base = 10;
	uint64_t v = 0;
	*minus = *z == '-';
	if (*z == '-' || *z == '+')
		z++;
	if (z[0] == '0' && z[1]) {
		char c = (char)tolower((unsigned char)z[1]);
		base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
		z += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
	}
	if (!*z)
		return false;
	for (; *z; z++) {
		unsigned digit = isdigit((unsigned char)*z) ? (unsigned)(*z - '0')
				 : isalpha((unsigned char)*z)
					 ? (unsigned)(tolower((unsigned char)*z) - 'a') + 10
					 : 99;
		if (digit >= base || v > (UINT64_MAX - digit) / base)
			return false;
		v = v * base + digit;
	}
	*out = v;
	return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool float_of(const char *z, double *out)
{
	const char *p = z;
	size_t whole = 0, part = 0;
	p += *p == '-' || *p == '+';
	for (; isdigit((unsigned char)*p); p++)
		whole++;
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p); p++)
			part++;
	if (whole + part == 0)
		return false;
	if (*p == 'e' || *p == 'E') {
		p++;
		p += *p == '-' || *p == '+';
		if (!isdigit((unsigned char)*p))
			return false;
		while (isdigit((unsigned char)*p))
			p++;
	}
	if (*p)
		return false;
	*out = strtod(z, NULL);
	return isfinite(*out);
}

static bool resolve_number(struct doc *d)
{
	static const char *const infinite[] = {".inf",  ".Inf",  ".INF", "+.inf",
					       "+.Inf", "+.INF", NULL};
	static const char *const minus_infinite[] = {"-.inf", "-.Inf", "-.INF", NULL};
	static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};
	char z[80];
	size_t n = 0;
	uint64_t u;
	bool minus;
	if (d->text.n == 0 || d->text.n >= sizeof z || !memchr("+-.0123456789", d->text.p[0], 13))
		return false;
	if (is_one_of(d->text, infinite)) {
		d->number = (double)INFINITY;
		return true;
	}
	if (is_one_of(d->text, minus_infinite)) {
		d->number = -(double)INFINITY;
		return true;
	}
	if (is_one_of(d->text, nans)) {
		d->number = (double)NAN;
		return true;
	}
	for (size_t i = 0; i < d->text.n; i++) {
		if (d->text.p[i] == 0)
			return false;
		if (d->text.p[i] != '_')
			z[n++] = d->text.p[i];
	}
	z[n] = 0;
	if (integer_of(z, &minus, &u)) {
		d->number = minus ? -(double)u : (double)u;
		d->is_int = u <= (uint64_t)INT64_MAX + minus;
		if (d->is_int)
			d->integer = minus ? (int64_t)(0 - u) : (int64_t)u;
		return true;
	}
	if (!float_of(z, &d->number))
		return false;
	if (fabs(d->number) < 9007199254740992.0 && d->number == floor(d->number)) {
		d->is_int = true;
		d->integer = (int64_t)d->number;
	}
	return true;
}

/* A plain, untagged scalar. */
static void resolve(struct doc *d)
{
	static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
					  "True", "TRUE", "on",  "On",  "ON",  NULL};
	static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
					 "False", "FALSE", "off", "Off", "OFF", NULL};
	static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL};
	if (is_one_of(d->text, null)) {
		d->kind = DOC_NULL;
	} else if (is_one_of(d->text, yes)) {
		d->kind = DOC_BOOL;
		d->boolean = true;
	} else if (is_one_of(d->text, no)) {
		d->kind = DOC_BOOL;
		d->boolean = false;
	} else if (resolve_number(d)) {
		d->kind = DOC_NUMBER;
	}
}

static bool tag_scalar(struct composer *c, struct doc *d, const char *tag)
{
	static const char prefix[] = "tag:yaml.org,2002:";
	static const struct {
		const char *name;
		enum doc_kind kind;
	} tags[] = {
		{"bool", DOC_BOOL}, {"int", DOC_NUMBER}, {"float", DOC_NUMBER}, {"null", DOC_NULL}};
	if (strcmp(tag, "!") == 0)
		return true;
	if (strncmp(tag, prefix, sizeof prefix - 1) == 0) {
		const char *name = tag + sizeof prefix - 1;
		if (strcmp(name, "str") == 0)
			return true;
		for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
			if (strcmp(name, tags[i].name) == 0) {
				resolve(d);
				return d->kind == tags[i].kind ||
				       fail(c, d->at, "does not fit its tag");
			}
	}
	diag_at(c->diags, DIAG_ERROR, d->at, "the tag %.100s is not supported", tag);
	c->failed = true;
	return false;
}

/* ---- building ---- */

static struct doc *new_node(struct composer *c, enum doc_kind kind, struct doc_place at)
{
	if (!count(c, at, 1))
		return NULL;
	struct doc *d = doc_new(c->arena, kind, at);
	if (!d)
		no_memory(c);
	return d;
}

/* Values below and including d, at most `most` + 1 of them; *height: levels of lists and maps. */
static uint32_t measure(const struct doc *d, uint32_t most, unsigned *height)
{
	uint32_t n = 0;
	unsigned level = 0;
	*height = 0;
	for (const struct doc *x = d; x;) {
		unsigned here = level + (x->kind == DOC_LIST || x->kind == DOC_MAP);
		*height = here > *height ? here : *height;
		if (++n > most)
			return n;
		if (x->first) {
			x = x->first;
			level++;
			continue;
		}
		for (; x != d && !x->next; level--)
			x = x->parent;
		x = x == d ? NULL : x->next;
	}
	return n;
}

/* Texts are shared: an alias costs its nodes, not its bytes. */
static struct doc *copy(struct composer *c, const struct doc *d, struct doc_place at)
{
	struct doc *root = NULL, *parent = NULL;
	unsigned height;
	if (!count(c, at, measure(d, DOC_NODES_MAX, &height)))
		return NULL;
	/* Deeper than the source may be itself: what follows walks trees by recursion. */
	if (c->depth + height > DOC_DEPTH_MAX) {
		fail(c, at, "more than 64 levels deep, aliases expanded");
		return NULL;
	}
	for (const struct doc *from = d; from;) {
		struct doc *to = doc_new(c->arena, from->kind, from->at);
		if (!to) {
			no_memory(c);
			return NULL;
		}
		*to = *from;
		to->first = to->last = to->next = to->parent = NULL;
		to->n = 0;
		if (parent)
			doc_add(parent, from->key, to);
		else
			root = to;
		if (from->first) {
			parent = to;
			from = from->first;
			continue;
		}
		while (from != d && !from->next) {
			must(parent);
			from = from->parent;
			parent = parent->parent;
		}
		from = from == d ? NULL : from->next;
	}
	return root;
}

static struct doc *key_taken(struct frame *f, struct str key)
{
	if (f->keys.n)
		return map_get(&f->keys, key);
	return doc_get_str(f->d, key);
}

static bool key_note(struct composer *c, struct frame *f, struct doc *child)
{
	if (f->d->n <= KEYS_LINEAR)
		return true;
	if (f->keys.n == 0)
		doc_each (e, f->d)
			if (!map_put(&f->keys, e->key, e))
				return no_memory(c);
	return map_put(&f->keys, child->key, child) || no_memory(c);
}

static bool add_to_map(struct composer *c, struct frame *f, struct doc *child)
{
	struct doc *before = key_taken(f, f->key);
	if (before) {
		/* Go on: the next mistake is worth telling too. */
		diag_at(c->diags, DIAG_ERROR, f->key_at, "the key \"%.*s\" is already in line %u",
			f->key.n > 100 ? 100 : (int)f->key.n, f->key.p, before->key_at.line);
		c->failed = true;
		f->key.p = NULL;
		return true;
	}
	if (f->key_merges) {
		if (f->merge) {
			diag_at(c->diags, DIAG_ERROR, f->key_at, "a second merge in one map");
			c->failed = true;
		}
		f->merge = child;
		f->key.p = NULL;
		return true;
	}
	child->key_at = f->key_at;
	doc_add(f->d, f->key, child);
	f->key.p = NULL;
	return key_note(c, f, child);
}

/* A finished value: the document, an element, or the value of the key read. */
static bool place(struct composer *c, struct doc *d)
{
	if (c->depth == 0) {
		c->root = d;
		return true;
	}
	struct frame *f = &c->stack[c->depth - 1];
	d->key = STR(""); /* an alias's copy brought its own along */
	d->key_at = (struct doc_place){0};
	if (f->d->kind == DOC_MAP)
		return add_to_map(c, f, d);
	doc_add(f->d, STR(""), d);
	return true;
}

static bool take_key(struct composer *c, struct frame *f, const struct doc *d, bool merges)
{
	char number[24];
	f->key = d->text;
	f->key_at = d->at;
	f->key_merges = merges;
	if (d->kind == DOC_LIST || d->kind == DOC_MAP)
		return fail(c, d->at, "a key must be plain text");
	if (!c->go_keys)
		return true;
	if (d->kind == DOC_BOOL) {
		f->key = d->boolean ? STR("true") : STR("false");
	} else if (d->kind == DOC_NUMBER && d->is_int) {
		snprintf(number, sizeof number, "%lld", (long long)d->integer);
		f->key = arena_str(c->arena, str_of(number));
		if (!f->key.p)
			return no_memory(c);
	}
	return true;
}

static bool awaits_key(const struct composer *c)
{
	const struct frame *f = c->depth ? &c->stack[c->depth - 1] : NULL;
	return f && f->d->kind == DOC_MAP && !f->key.p;
}

static bool set_anchor(struct composer *c, const yaml_char_t *anchor, struct doc *d)
{
	if (!anchor)
		return true;
	struct str name = arena_str(c->arena, str_of((const char *)anchor));
	return (name.p && map_put(&c->anchors, name, d)) || no_memory(c);
}

static bool on_scalar(struct composer *c, const yaml_event_t *e)
{
	struct doc_place at = place_of(c, e->start_mark);
	bool is_key = awaits_key(c);
	struct doc key = {.kind = DOC_STRING, .at = at}, *d = &key;
	if ((!is_key || e->data.scalar.anchor) && !(d = new_node(c, DOC_STRING, at)))
		return false;
	bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !e->data.scalar.tag;
	d->text = arena_str(
		c->arena, (struct str){(const char *)e->data.scalar.value, e->data.scalar.length});
	if (!d->text.p)
		return no_memory(c);
	if (e->data.scalar.tag) {
		if (!tag_scalar(c, d, (const char *)e->data.scalar.tag))
			return false;
	} else if (plain) {
		resolve(d);
	}
	if (!set_anchor(c, e->data.scalar.anchor, d))
		return false;
	if (is_key)
		return take_key(c, &c->stack[c->depth - 1], d, plain && str_eq(d->text, STR("<<")));
	return place(c, d);
}

static bool on_alias(struct composer *c, const yaml_event_t *e)
{
	struct doc_place at = place_of(c, e->start_mark);
	struct doc *d = map_get(&c->anchors, str_of((const char *)e->data.alias.anchor));
	if (!d) {
		diag_at(c->diags, DIAG_ERROR, at, "no anchor is named %.100s",
			(const char *)e->data.alias.anchor);
		c->failed = true;
		return false;
	}
	for (unsigned i = 0; i < c->depth; i++)
		if (c->stack[i].d == d)
			return fail(c, at, "the alias stands inside what it names");
	if (awaits_key(c))
		return take_key(c, &c->stack[c->depth - 1], d, false);
	d = copy(c, d, at);
	return d && place(c, d);
}

static bool on_start(struct composer *c, enum doc_kind kind, const yaml_char_t *anchor,
		     const yaml_char_t *tag, const char *own_tag, struct doc_place at)
{
	if (awaits_key(c))
		return fail(c, at, "a key must be plain text");
	if (tag && strcmp((const char *)tag, own_tag) != 0 && strcmp((const char *)tag, "!") != 0) {
		diag_at(c->diags, DIAG_ERROR, at, "the tag %.100s is not supported",
			(const char *)tag);
		c->failed = true;
		return false;
	}
	if (c->depth >= DOC_DEPTH_MAX)
		return fail(c, at, "more than 64 levels deep");
	struct doc *d = new_node(c, kind, at);
	if (!d || !set_anchor(c, anchor, d))
		return false;
	struct frame *f = &c->stack[c->depth++];
	*f = (struct frame){.d = d};
	map_init(&f->keys, MEM_CONFIG);
	return true;
}

/* YAML 1.1's merge: keys of its own win, then the first map that has it. */
static bool merge_one(struct composer *c, struct frame *f, const struct doc *from)
{
	if (from->kind != DOC_MAP)
		return fail(c, from->at, "only maps can be merged with <<");
	doc_each (e, from) {
		if (key_taken(f, e->key))
			continue;
		struct doc *d = copy(c, e, e->at);
		if (!d)
			return false;
		doc_add(f->d, e->key, d);
		if (!key_note(c, f, d))
			return false;
	}
	return true;
}

static bool on_end(struct composer *c)
{
	struct frame *f = &c->stack[c->depth - 1];
	bool ok = true;
	if (f->merge && f->merge->kind == DOC_LIST) {
		doc_each (e, f->merge)
			ok = ok && merge_one(c, f, e);
	} else if (f->merge) {
		ok = merge_one(c, f, f->merge);
	}
	map_fini(&f->keys);
	c->depth--;
	return ok && place(c, f->d);
}

static bool on_event(struct composer *c, const yaml_event_t *e)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT: return on_scalar(c, e);
	case YAML_ALIAS_EVENT: return on_alias(c, e);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(c, DOC_LIST, e->data.sequence_start.anchor,
				e->data.sequence_start.tag, YAML_SEQ_TAG,
				place_of(c, e->start_mark));
	case YAML_MAPPING_START_EVENT:
		return on_start(c, DOC_MAP, e->data.mapping_start.anchor, e->data.mapping_start.tag,
				YAML_MAP_TAG, place_of(c, e->start_mark));
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT: return on_end(c);
	default: return true;
	}
}

/* ---- documents ---- */

static struct doc_place place_at_offset(const struct composer *c, struct str text, size_t offset)
{
	struct doc_place at = {c->file, 1, 1};
	for (size_t i = 0; i < offset && i < text.n; i++) {
		at.column++;
		if (text.p[i] == '\n') {
			at.line++;
			at.column = 1;
		}
	}
	return at;
}

static void report_syntax(struct composer *c, struct str text)
{
	const yaml_parser_t *p = &c->parser;
	const char *what = p->problem ? p->problem : "not YAML";
	c->failed = true;
	if (p->error == YAML_MEMORY_ERROR) {
		no_memory(c);
	} else if (p->error == YAML_READER_ERROR) {
		diag_at(c->diags, DIAG_ERROR, place_at_offset(c, text, p->problem_offset), "%s",
			what);
	} else {
		diag_at(c->diags, DIAG_ERROR, place_of(c, p->problem_mark), "%s%s%s", what,
			p->context ? ", " : "", p->context ? p->context : "");
		if (p->problem_mark.index < text.n && text.p[p->problem_mark.index] == '\t')
			diag_hint(c->diags, "YAML indents with spaces, not with tabs");
	}
}

/* The next document into c->root (NULL when it is empty). False: the end, or c->failed. */
static bool next_document(struct composer *c, struct str text)
{
	yaml_event_t e;
	bool more = true;
	c->root = NULL;
	while (more) {
		if (!yaml_parser_parse(&c->parser, &e)) {
			report_syntax(c, text);
			more = false;
			break;
		}
		yaml_event_type_t type = e.type;
		more = type != YAML_STREAM_END_EVENT && on_event(c, &e);
		yaml_event_delete(&e);
		if (type == YAML_DOCUMENT_END_EVENT)
			break;
	}
	while (c->depth)
		map_fini(&c->stack[--c->depth].keys);
	map_fini(&c->anchors);
	map_init(&c->anchors, MEM_CONFIG);
	return more;
}

static struct composer *composer_new(struct arena *a, struct diags *d, const char *file,
				     struct str text)
{
	struct composer *c = NULL;
	if (text.n > DOC_BYTES_MAX) {
		diag_at(d, DIAG_ERROR, (struct doc_place){file, 0, 0}, "is larger than 16 MiB");
		return NULL;
	}
	c = mem_zalloc(MEM_CONFIG, sizeof *c);
	if (!c || !yaml_parser_initialize(&c->parser)) {
		diag_at(d, DIAG_ERROR, (struct doc_place){file, 0, 0}, "out of memory");
		mem_free(MEM_CONFIG, c);
		return NULL;
	}
	c->arena = a;
	c->diags = d;
	c->file = file;
	map_init(&c->anchors, MEM_CONFIG);
	yaml_parser_set_input_string(&c->parser, (const unsigned char *)text.p, text.n);
	return c;
}

static void composer_free(struct composer *c)
{
	map_fini(&c->anchors);
	yaml_parser_delete(&c->parser);
	mem_free(MEM_CONFIG, c);
}

static bool is_empty(const struct doc *d)
{
	return !d || (d->kind == DOC_NULL && d->text.n == 0);
}

struct doc *doc_from_yaml(struct arena *a, struct diags *d, const char *file, struct str text)
{
	struct composer *c = composer_new(a, d, file, text);
	struct doc *root = NULL;
	if (!c)
		return NULL;
	while (next_document(c, text)) {
		if (is_empty(c->root))
			continue;
		if (root) {
			diag_add(d, DIAG_ERROR, c->root, "a second document; only one is expected");
			c->failed = true;
			break;
		}
		root = c->root;
	}
	if (!root && !c->failed) {
		root = doc_new(a, DOC_NULL, (struct doc_place){file, 1, 1});
		if (!root)
			no_memory(c);
	}
	if (c->failed)
		root = NULL;
	composer_free(c);
	return root;
}

struct doc *doc_from_yaml_all(struct arena *a, struct diags *d, const char *file, struct str text)
{
	struct composer *c = composer_new(a, d, file, text);
	if (!c)
		return NULL;
	struct doc *list = doc_new(a, DOC_LIST, (struct doc_place){file, 1, 1});
	c->go_keys = true;
	if (!list)
		no_memory(c);
	while (list && next_document(c, text))
		if (!is_empty(c->root))
			doc_add(list, STR(""), c->root);
	if (c->failed)
		list = NULL;
	composer_free(c);
	return list;
}

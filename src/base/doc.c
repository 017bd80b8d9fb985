/* src/base/doc.c */
#include "base/doc.h"
#include "base/must.h"
#include <ctype.h>
#include <stdio.h>

struct doc *doc_new(struct arena *a, enum doc_kind kind, struct doc_place at)
{
	struct doc *d = arena_zalloc(a, sizeof *d);
	if (!d)
		return NULL;
	d->kind = kind;
	d->at = at;
	d->text = d->key = STR("");
	return d;
}

void doc_add(struct doc *parent, struct str key, struct doc *child)
{
	must(parent->kind == DOC_LIST || parent->kind == DOC_MAP);
	must(child->parent == NULL && child->next == NULL);
	child->parent = parent;
	child->key = key;
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->n++;
}

struct doc *doc_get_str(const struct doc *d, struct str key)
{
	if (!d || d->kind != DOC_MAP)
		return NULL;
	doc_each (c, d)
		if (str_eq(c->key, key))
			return c;
	return NULL;
}

struct doc *doc_get(const struct doc *d, const char *key)
{
	return doc_get_str(d, str_of(key));
}

/* True: key is snake, or its lowerCamelCase (protobuf's json_name: '_' goes, what follows is
 * raised). */
static bool is_field(struct str key, const char *snake)
{
	bool same = true, camel = true, raise = false;
	size_t s = 0, c = 0;
	for (; snake[s]; s++) {
		same = same && s < key.n && key.p[s] == snake[s];
		if (snake[s] == '_') {
			raise = true;
			continue;
		}
		int want = raise ? toupper((unsigned char)snake[s]) : (unsigned char)snake[s];
		camel = camel && c < key.n && (unsigned char)key.p[c] == want;
		raise = false;
		c++;
		if (!same && !camel)
			return false;
	}
	return (same && s == key.n) || (camel && c == key.n);
}

struct doc *doc_field(const struct doc *d, const char *snake)
{
	if (!d || d->kind != DOC_MAP)
		return NULL;
	doc_each (c, d)
		if (is_field(c->key, snake))
			return c;
	return NULL;
}

static bool plain_key(struct str key)
{
	for (size_t i = 0; i < key.n; i++)
		if (!isalnum((unsigned char)key.p[i]) && !strchr("_-@/", key.p[i]))
			return false;
	return key.n > 0;
}

static uint32_t index_of(const struct doc *d)
{
	uint32_t i = 0;
	for (const struct doc *c = d->parent->first; c != d; c = c->next)
		i++;
	return i;
}

struct str doc_path(struct arena *a, const struct doc *d)
{
	/* From the leaf up, written from the end of a buffer of bounded size to its start. */
	char out[1024];
	size_t at = sizeof out;
	for (; d && d->parent; d = d->parent) {
		char step[300];
		int n;
		if (d->parent->kind == DOC_LIST)
			n = snprintf(step, sizeof step, "[%u]", index_of(d));
		else if (plain_key(d->key))
			n = snprintf(step, sizeof step, "%s%.*s", d->parent->parent ? "." : "",
				     d->key.n > 256 ? 256 : (int)d->key.n, d->key.p);
		else
			n = snprintf(step, sizeof step, "[\"%.*s\"]",
				     d->key.n > 256 ? 256 : (int)d->key.n, d->key.p);
		if (n < 0 || (size_t)n > at - 3) {
			at -= 3;
			memcpy(out + at, "...", 3);
			break;
		}
		at -= (size_t)n;
		memcpy(out + at, step, (size_t)n);
	}
	return arena_str(a, (struct str){out + at, sizeof out - at});
}

struct doc *doc_copy(struct arena *a, const struct doc *d)
{
	/* Walks without recursion: a tree from xDS may be as deep as its decoder allows. */
	struct doc *root = NULL, *parent = NULL;
	for (const struct doc *from = d; from;) {
		struct doc *c = doc_new(a, from->kind, from->at);
		if (!c)
			return NULL;
		c->key_at = from->key_at;
		c->is_int = from->is_int;
		c->integer = from->integer;
		if (from->kind == DOC_BOOL)
			c->boolean = from->boolean;
		else
			c->number = from->number;
		c->text = arena_str(a, from->text);
		struct str key = arena_str(a, from->key);
		if (!c->text.p || !key.p)
			return NULL;
		if (parent)
			doc_add(parent, key, c);
		else
			root = c, c->key = key;
		if (from->first) {
			parent = c;
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

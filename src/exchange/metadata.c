/* src/exchange/metadata.c */
#include "exchange/metadata.h"
#include "base/doc.h"

struct value *value_new(struct arena *a, enum value_kind kind)
{
	struct value *v = arena_zalloc(a, sizeof *v);
	if (v)
		v->kind = kind;
	return v;
}

void value_add(struct value *parent, struct value *child)
{
	child->next = NULL;
	if (parent->list.last)
		parent->list.last->next = child;
	else
		parent->list.first = child;
	parent->list.last = child;
	parent->list.n++;
}

struct value *metadata_get(const struct metadata *m, struct str ns)
{
	for (struct value *v = m->first; v; v = v->next)
		if (str_eq(v->key, ns))
			return v;
	return NULL;
}

struct value *value_get(const struct value *map, struct str key)
{
	if (!map || map->kind != VALUE_MAP)
		return NULL;
	for (struct value *v = map->list.first; v; v = v->next)
		if (str_eq(v->key, key))
			return v;
	return NULL;
}

/* The list's MAP of that key, added when missing. */
static struct value *map_in(struct value **at, struct arena *a, struct str ns)
{
	for (; *at; at = &(*at)->next)
		if (str_eq((*at)->key, ns))
			return *at;
	struct str k = arena_str(a, ns);
	struct value *map = value_new(a, VALUE_MAP);
	if (!map || !k.p)
		return NULL;
	map->key = k;
	*at = map;
	return map;
}

struct value *metadata_namespace(struct metadata *m, struct arena *a, struct str ns)
{
	return map_in(&m->first, a, ns);
}

struct value *metadata_typed(const struct metadata *m, struct str ns)
{
	for (struct value *v = m->typed; v; v = v->next)
		if (str_eq(v->key, ns))
			return v;
	return NULL;
}

bool metadata_set_typed(struct metadata *m, struct arena *a, struct str ns,
			const struct value *message)
{
	struct value *map = map_in(&m->typed, a, ns);
	if (map)
		map->list = message->list;
	return map != NULL;
}

struct state_entry *state_find(struct state_entry *first, struct str name)
{
	while (first && !str_eq(first->name, name))
		first = first->next;
	return first;
}

static struct value *value_share(struct arena *a, const struct value *v)
{
	struct value *c = arena_alloc(a, sizeof *c);
	if (c) {
		*c = *v;
		c->next = NULL;
	}
	return c;
}

static bool share_all(struct arena *a, struct value *to, const struct value *first)
{
	for (; first; first = first->next) {
		struct value *c = value_share(a, first);
		if (!c)
			return false;
		value_add(to, c);
	}
	return true;
}

struct value *value_merge(struct arena *a, const struct value *old, const struct value *with)
{
	if (!old || old->kind != with->kind ||
	    (with->kind != VALUE_LIST && with->kind != VALUE_MAP))
		return value_share(a, with);
	struct value *to = value_new(a, with->kind);
	if (!to)
		return NULL;
	to->key = with->key;
	if (with->kind == VALUE_LIST)
		return share_all(a, to, old->list.first) && share_all(a, to, with->list.first)
			       ? to
			       : NULL;
	for (const struct value *c = old->list.first; c; c = c->next) {
		const struct value *over = value_get(with, c->key);
		struct value *m = over ? value_merge(a, c, over) : value_share(a, c);
		if (!m)
			return NULL;
		value_add(to, m);
	}
	for (const struct value *c = with->list.first; c; c = c->next) {
		struct value *m = value_get(old, c->key) ? NULL : value_share(a, c);
		if (m)
			value_add(to, m);
		else if (a->over)
			return NULL;
	}
	return to;
}

bool metadata_set(struct metadata *m, struct arena *a, struct str ns, struct str key,
		  struct value *v)
{
	struct value *map = metadata_namespace(m, a, ns);
	if (!map)
		return false;
	struct value *prev = NULL;
	for (struct value *old = map->list.first; old; prev = old, old = old->next) {
		if (!str_eq(old->key, key))
			continue;
		v->key = old->key;
		v->next = old->next;
		if (prev)
			prev->next = v;
		else
			map->list.first = v;
		if (map->list.last == old)
			map->list.last = v;
		return true;
	}
	v->key = arena_str(a, key);
	if (!v->key.p)
		return false;
	value_add(map, v);
	return true;
}

struct value *value_from_doc(struct arena *a, const struct doc *d)
{
	static const enum value_kind kinds[] = {
		[DOC_NULL] = VALUE_NULL,     [DOC_BOOL] = VALUE_BOOL, [DOC_NUMBER] = VALUE_NUMBER,
		[DOC_STRING] = VALUE_STRING, [DOC_LIST] = VALUE_LIST, [DOC_MAP] = VALUE_MAP};
	const char *dot = d->at.file ? strrchr(d->at.file, '.') : NULL;
	bool text = d->kind == DOC_NUMBER && !d->is_int && d->text.n &&
		    !(dot && strcmp(dot, ".json") == 0);
	struct value *v = value_new(a, text ? VALUE_STRING : kinds[d->kind]);
	if (!v)
		return NULL;
	if (text) {
		v->string = d->text;
		return v;
	}
	switch (d->kind) {
	case DOC_NULL: break;
	case DOC_BOOL: v->boolean = d->boolean; break;
	case DOC_NUMBER: v->number = d->number; break;
	case DOC_STRING: v->string = d->text; break;
	case DOC_LIST:
	case DOC_MAP:
		doc_each (c, d) {
			struct value *child = value_from_doc(a, c);
			if (!child)
				return NULL;
			child->key = c->key;
			value_add(v, child);
		}
		break;
	}
	return v;
}

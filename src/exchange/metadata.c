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

bool metadata_set(struct metadata *m, struct arena *a, struct str ns, struct str key, struct value *v)
{
	struct value *map = metadata_get(m, ns);
	if (!map) {
		struct str k = arena_str(a, ns);
		map = value_new(a, VALUE_MAP);
		if (!map || !k.p)
			return false;
		map->key = k;
		struct value **at = &m->first;
		while (*at)
			at = &(*at)->next;
		*at = map;
	}
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
	static const enum value_kind kinds[] = {[DOC_NULL] = VALUE_NULL,     [DOC_BOOL] = VALUE_BOOL, [DOC_NUMBER] = VALUE_NUMBER,
						[DOC_STRING] = VALUE_STRING, [DOC_LIST] = VALUE_LIST, [DOC_MAP] = VALUE_MAP};
	struct value *v = value_new(a, kinds[d->kind]);
	if (!v)
		return NULL;
	switch (d->kind) {
	case DOC_NULL:
		break;
	case DOC_BOOL:
		v->boolean = d->boolean;
		break;
	case DOC_NUMBER:
		v->number = d->number;
		break;
	case DOC_STRING:
		v->string = d->text;
		break;
	case DOC_LIST:
	case DOC_MAP:
		doc_each(c, d) {
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

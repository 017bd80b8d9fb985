/* src/exchange/metadata_test.c: namespaces, typed ones, merging, filter state; every allocation
 * may fail. */
#include "base/doc.h"
#include "base/mem.h"
#include "exchange/metadata.h"
#include <stdio.h>

static struct arena a;

static struct value *number(double d)
{
	struct value *v = value_new(&a, VALUE_NUMBER);
	v->number = d;
	return v;
}

static void add(struct value *to, const char *key, struct value *v)
{
	v->key = str_of(key);
	value_add(to, v);
}

/* {n: 1, l: [1], m: {x: 1, y: 2}} */
static struct value *old_tree(void)
{
	struct value *t = value_new(&a, VALUE_MAP), *l = value_new(&a, VALUE_LIST),
		     *m = value_new(&a, VALUE_MAP);
	add(t, "n", number(1));
	add(l, "", number(1));
	add(t, "l", l);
	add(m, "x", number(1));
	add(m, "y", number(2));
	add(t, "m", m);
	return t;
}

/* {n: 5, l: [2, 3], m: {y: 7, z: 8}, o: 9} */
static struct value *new_tree(void)
{
	struct value *t = value_new(&a, VALUE_MAP), *l = value_new(&a, VALUE_LIST),
		     *m = value_new(&a, VALUE_MAP);
	add(t, "n", number(5));
	add(l, "", number(2));
	add(l, "", number(3));
	add(t, "l", l);
	add(m, "y", number(7));
	add(m, "z", number(8));
	add(t, "m", m);
	add(t, "o", number(9));
	return t;
}

static double at(const struct value *t, const char *key, const char *below)
{
	const struct value *v = value_get(t, str_of(key));
	if (v && below)
		v = value_get(v, str_of(below));
	return v && v->kind == VALUE_NUMBER ? v->number : -1;
}

static void merging(void)
{
	struct value *old = old_tree(), *m = value_merge(&a, old, new_tree());
	must(m->list.n == 4 && at(m, "n", NULL) == 5 && at(m, "o", NULL) == 9);
	must(at(m, "m", "x") == 1 && at(m, "m", "y") == 7 && at(m, "m", "z") == 8);
	const struct value *l = value_get(m, STR("l"));
	must(l->list.n == 3 && l->list.first->number == 1 && l->list.last->number == 3);
	/* what was there is as it was */
	must(old->list.n == 3 && at(old, "n", NULL) == 1 && at(old, "m", "y") == 2 &&
	     value_get(old, STR("l"))->list.n == 1);
	/* another kind replaces */
	must(value_merge(&a, old, number(3))->number == 3);
	must(value_merge(&a, NULL, number(4))->number == 4);
}

static void namespaces(void)
{
	struct metadata m = {0};
	must(!metadata_get(&m, STR("a")) && metadata_namespace(&m, &a, STR("a")) &&
	     metadata_get(&m, STR("a"))->list.n == 0);
	must(metadata_set(&m, &a, STR("a"), STR("k"), number(1)) &&
	     metadata_set(&m, &a, STR("a"), STR("k"), number(2)));
	must(metadata_get(&m, STR("a"))->list.n == 1 &&
	     at(metadata_get(&m, STR("a")), "k", NULL) == 2);
	must(!metadata_typed(&m, STR("a")) && metadata_set_typed(&m, &a, STR("a"), old_tree()));
	must(at(metadata_typed(&m, STR("a")), "n", NULL) == 1);
	must(metadata_set_typed(&m, &a, STR("a"), new_tree()) &&
	     at(metadata_typed(&m, STR("a")), "n", NULL) == 5 && !m.typed->next);
	struct state_entry one = {.name = {"one", 3}}, two = {.name = {"two", 3}, .next = &one};
	must(state_find(&two, STR("one")) == &one && state_find(&two, STR("two")) == &two &&
	     !state_find(&two, STR("on")));
}

/* Envoy's YAML reader keeps 1.5 as a string. */
static void numbers_of_yaml(void)
{
	struct doc d = {
		.kind = DOC_NUMBER, .text = {"1.5", 3}, .number = 1.5, .at = {"x.yaml", 1, 1}};
	must(value_from_doc(&a, &d)->kind == VALUE_STRING);
	d.at.file = "x.json";
	must(value_from_doc(&a, &d)->number == 1.5);
	d.is_int = true;
	d.at.file = "x.yaml";
	must(value_from_doc(&a, &d)->kind == VALUE_NUMBER);
}

static void short_of_memory(void)
{
	struct value *old = old_tree(), *with = new_tree();
	for (size_t cap = 1; cap < 600; cap += 8) {
		struct arena small;
		struct metadata m = {0};
		arena_init(&small, cap);
		const struct value *v = value_merge(&small, old, with);
		must(!v || (at(v, "m", "z") == 8 && v->list.n == 4));
		if (!metadata_set_typed(&m, &small, STR("ns"), with))
			must(small.over);
		arena_fini(&small);
	}
}

int main(void)
{
	arena_init(&a, SIZE_MAX);
	merging();
	namespaces();
	numbers_of_yaml();
	short_of_memory();
	arena_fini(&a);
	puts("metadata ok");
	return 0;
}

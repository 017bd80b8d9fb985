/* src/base/doc_test.c: documents and diagnostics. */
#include "base/diags.h"
#include "base/doc.h"
#include "base/mem.h"
#include "base/must.h"
#include <stdlib.h>

static struct doc *scalar(struct arena *a, const char *text, uint32_t line)
{
	struct doc *d = doc_new(a, DOC_STRING, (struct doc_place){"f.yaml", line, 3});
	if (d)
		d->text = str_of(text);
	return d;
}

/* {static_resources: {listeners: [{name: x}, {name: y, "a.b": z}]}}; NULL: no memory. */
static struct doc *sample(struct arena *a)
{
	struct doc_place at = {"f.yaml", 1, 1};
	struct doc *root = doc_new(a, DOC_MAP, at), *res = doc_new(a, DOC_MAP, at);
	struct doc *list = doc_new(a, DOC_LIST, at), *one = doc_new(a, DOC_MAP, at);
	struct doc *two = doc_new(a, DOC_MAP, at);
	struct doc *x = scalar(a, "x", 4), *y = scalar(a, "y", 5), *z = scalar(a, "z", 6);
	if (a->over)
		return NULL;
	doc_add(root, STR("static_resources"), res);
	doc_add(res, STR("listeners"), list);
	doc_add(list, STR(""), one);
	doc_add(list, STR(""), two);
	doc_add(one, STR("name"), x);
	doc_add(two, STR("name"), y);
	doc_add(two, STR("a.b"), z);
	return root;
}

static bool same(const struct doc *a, const struct doc *b)
{
	if (a->kind != b->kind || a->n != b->n || !str_eq(a->text, b->text) ||
	    !str_eq(a->key, b->key) || a->at.line != b->at.line)
		return false;
	const struct doc *y = b->first;
	doc_each (x, a) {
		if (!same(x, y) || y->parent != b)
			return false;
		y = y->next;
	}
	return y == NULL;
}

static void trees(void)
{
	struct arena a;
	arena_init(&a, SIZE_MAX);
	struct doc *root = sample(&a);
	struct doc *list = doc_get(doc_get(root, "static_resources"), "listeners");
	must(list && list->n == 2);
	must(!doc_get(NULL, "x") && !doc_get(list, "x") && !doc_get(root, "x"));
	must(str_eq(doc_path(&a, list->last->first), STR("static_resources.listeners[1].name")));
	must(str_eq(doc_path(&a, list->last->last), STR("static_resources.listeners[1][\"a.b\"]")));
	must(doc_path(&a, root).n == 0);
	must(same(root, doc_copy(&a, root)));
	struct doc *part = doc_copy(&a, list->first); /* of a child: no sibling comes along */
	must(part && !part->parent && !part->next && same(part, list->first));

	struct doc *m = doc_new(&a, DOC_MAP, (struct doc_place){0});
	doc_add(m, STR("perTryTimeout"), scalar(&a, "1", 1));
	doc_add(m, STR("retry_on"), scalar(&a, "2", 1));
	doc_add(m, STR("http2Options"), scalar(&a, "3", 1));
	must(doc_field(m, "per_try_timeout") == m->first);
	must(doc_field(m, "retry_on") == m->first->next);
	must(doc_field(m, "http2_options") == m->last);
	must(!doc_field(m, "per_try_timeou") && !doc_field(m, "per_try_timeout_x"));
	must(!doc_field(m, "retry") && !doc_field(m, "retry_o") && !doc_field(NULL, "x"));
	arena_fini(&a);
}

static void memory_may_end_anywhere(void)
{
	for (uint64_t n = 1;; n++) {
		struct arena a;
		arena_trim();
		arena_init(&a, SIZE_MAX);
		mem_fail_nth(n);
		struct doc *root = sample(&a);
		struct doc *copy = root ? doc_copy(&a, root) : NULL;
		struct diags d;
		diags_init(&d);
		diag_add(&d, DIAG_ERROR, root, "wrong: %d", 1);
		diag_hint(&d, "%s", "x");
		must(d.errors == 1);
		diags_fini(&d);
		bool fired = mem_fail_left() == 0;
		mem_fail_nth(0);
		must(fired || (copy && same(root, copy)));
		arena_fini(&a);
		if (!fired)
			break;
	}
}

static void messages(void)
{
	static const char *const names[] = {"connect_timeout", "name", "type", "lb_policy", NULL};
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root = sample(&a);
	struct doc *list = doc_get(doc_get(root, "static_resources"), "listeners");
	diag_add(&d, DIAG_WARNING, list->last->first, "odd %s", "thing");
	diag_add(&d, DIAG_ERROR, list->first->first, "unknown field \"a\nb\"");
	diag_hint(&d, "%s", diag_nearest(STR("conect_timeout"), names));
	diag_at(&d, DIAG_NOTICE, (struct doc_place){0}, "seen");
	must(d.errors == 1 && d.warnings == 1 && d.notices == 1);
	char *text;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	diags_print(&d, f);
	fclose(f);
	must(str_eq(str_of(text),
		    STR("notice: seen\n"
			"f.yaml:4:3: error: static_resources.listeners[0].name: unknown field "
			"\"a\\x0ab\" (did you mean \"connect_timeout\"?)\n"
			"f.yaml:5:3: warning: static_resources.listeners[1].name: odd thing\n")));
	free(text);
	must(!diag_nearest(STR("zzz"), names) && !diag_nearest(STR("completely_else"), names));
	must(str_eq(str_of(diag_nearest(STR("tpye"), names)), STR("type")));
	for (int i = 0; i < 1000; i++)
		diag_at(&d, DIAG_ERROR, (struct doc_place){"g", 1, 1}, "again");
	diag_hint(&d, "a hint to one that was not kept");
	must(d.errors == 1001 && d.last->hint.n == 0);
	diags_fini(&d);
	arena_fini(&a);
}

int main(void)
{
	trees();
	messages();
	memory_may_end_anywhere();
	arena_trim();
	return 0;
}

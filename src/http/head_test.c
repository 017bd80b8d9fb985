/* src/http/head_test.c: heads against a list model, then what the model does not say. */
#include "base/must.h"
#include "http/head.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- the model: names and values in order */

enum { MODEL = 64 };
struct model {
	struct {
		const char *name, *value;
	} f[MODEL];
	unsigned n;
	bool response;
};

static const char *real_name(const struct model *m, const char *name)
{
	return !m->response && !strcasecmp(name, "host") ? ":authority" : name;
}

static void model_add(struct model *m, const char *name, const char *value)
{
	unsigned at = m->n;
	name = real_name(m, name);
	if (*name == ':')
		for (at = 0; at < m->n && *m->f[at].name == ':'; at++)
			;
	memmove(&m->f[at + 1], &m->f[at], (m->n - at) * sizeof m->f[0]);
	m->f[at].name = name;
	m->f[at].value = value;
	m->n++;
}

static void model_remove_at(struct model *m, unsigned i)
{
	m->n--;
	memmove(&m->f[i], &m->f[i + 1], (m->n - i) * sizeof m->f[0]);
}

static unsigned model_remove(struct model *m, const char *name, unsigned from)
{
	unsigned removed = 0;
	name = real_name(m, name);
	for (unsigned i = from; i < m->n;) {
		if (strcasecmp(m->f[i].name, name)) {
			i++;
		} else {
			model_remove_at(m, i);
			removed++;
		}
	}
	return removed;
}

static void model_set(struct model *m, const char *name, const char *value)
{
	name = real_name(m, name);
	for (unsigned i = 0; i < m->n; i++)
		if (!strcasecmp(m->f[i].name, name)) {
			m->f[i].value = value;
			model_remove(m, name, i + 1);
			return;
		}
	model_add(m, name, value);
}

static void same(const struct head *h, const struct model *m)
{
	uint64_t has[2] = {0, 0};
	unsigned pseudo = 0, status = 0;
	const char *method = "";
	must(h->n == m->n && h->n <= h->cap);
	for (unsigned i = m->n; i-- > 0;) {
		must(str_ieq(field_name(&h->f[i]), str_of(m->f[i].name)));
		must(str_eq(field_value(&h->f[i]), str_of(m->f[i].value)));
		enum field_id id = name_id(m->f[i].name, strlen(m->f[i].name));
		must(h->f[i].id == id);
		has[id / 64] |= (uint64_t)1 << id % 64;
		pseudo += *m->f[i].name == ':';
		if (id == FIELD_METHOD)
			method = m->f[i].value;
		if (id == FIELD_STATUS)
			status = strlen(m->f[i].value) == 3 ? (unsigned)atoi(m->f[i].value) : 0;
	}
	must((h->has[0] | 1) == (has[0] | 1) && h->has[1] == has[1]);
	must(h->pseudo == pseudo && h->status == status);
	must(h->method == (unsigned)method_of(str_of(method)));
}

static unsigned next_random(unsigned *seed)
{
	return (*seed = *seed * 1664525u + 1013904223u) >> 8;
}

static void test_model(void)
{
	static const char *const names[] = {"host",    ":authority", ":path",  ":method",
					    ":status", "Accept",     "accept", "Set-Cookie",
					    "x-a",     "X-A",        "X-B",    "content-length",
					    ":odd"};
	static const char *const values[] = {"",    "a",   "GET",   "POST",
					     "200", "404", "99999", "a longer value"};
	unsigned seed = 1;
	for (unsigned round = 0; round < 400; round++) {
		struct arena a;
		struct head h, copy;
		struct model m = {.response = round & 1};
		arena_init(&a, SIZE_MAX);
		must(head_init(&h, &a, m.response, round % 3));
		for (unsigned step = 0; step < 60; step++) {
			const char *name = names[next_random(&seed) % 13];
			const char *value = values[next_random(&seed) % 8];
			struct str n = str_of(name), v = str_of(value);
			enum field_id id = name_id(n.p, n.n);
			unsigned what = next_random(&seed) % 8, i;
			if (what <= 2 || (what == 3 && !id)) {
				must(what == 1 ? head_add_copy(&h, n, v) : head_add(&h, n, v));
				model_add(&m, name, value);
			} else if (what == 3) {
				must(head_set_id(&h, id, v));
				model_set(&m, name, value);
			} else if (what == 4) {
				must(head_replace(&h, n, v));
				model_remove(&m, name, 0);
				model_add(&m, name, value);
			} else if (what == 5) {
				must(head_remove(&h, n) == model_remove(&m, name, 0));
			} else if (what == 6 && id) {
				must(head_remove_id(&h, id) == model_remove(&m, name, 0));
			} else if (m.n && next_random(&seed) % 2) {
				i = next_random(&seed) % m.n;
				head_remove_at(&h, i);
				model_remove_at(&m, i);
			}
			same(&h, &m);
			unsigned k = 0;
			const struct field *f = head_find(&h, n);
			for (i = 0; i < m.n; i++)
				if (!strcasecmp(m.f[i].name, real_name(&m, name))) {
					must(f == &h.f[i]);
					must(k++ || !id || id == FIELD_HOST ||
					     f == head_get(&h, id));
					f = head_find_next(&h, f, n);
				}
			must(!f);
		}
		struct arena b;
		arena_init(&b, SIZE_MAX);
		must(head_copy(&copy, &b, &h));
		arena_fini(&a);
		same(&copy, &m);
		must(head_add(&copy, STR("x"), STR("y")));
		arena_fini(&b);
	}
}

static void test_join(void)
{
	struct arena a;
	struct head h;
	arena_init(&a, SIZE_MAX);
	must(head_init(&h, &a, false, 4));
	must(head_add(&h, STR("Accept"), STR("a")) && head_add(&h, STR("Cookie"), STR("x=1")));
	must(head_add(&h, STR("X-A"), STR("1")) && head_add(&h, STR("accept"), STR("b")));
	must(head_add(&h, STR("cookie"), STR("y=2")) && head_add(&h, STR("ACCEPT"), STR("")));
	must(head_add(&h, STR("x-a"), STR("2")));
	must(str_eq(head_joined(&h, STR("x-A"), ", ", &a), STR("1, 2")));
	must(str_eq(head_joined(&h, STR("cookie"), "; ", &a), STR("x=1; y=2")));
	must(!head_joined(&h, STR("absent"), ",", &a).p);
	must(head_join_single(&h));
	must(h.n == 5);
	must(str_eq(head_value(&h, FIELD_ACCEPT), STR("a,b,")));
	must(str_eq(field_value(&h.f[1]), STR("x=1")) && str_eq(field_value(&h.f[3]), STR("y=2")));
	must(head_joined(&h, STR("accept"), ",", &a).p == h.f[0].value_p);
	arena_fini(&a);

	arena_init(&a, SIZE_MAX); /* an answer has other single slots */
	must(head_init(&h, &a, true, 4));
	must(head_add(&h, STR("Vary"), STR("a")) && head_add(&h, STR("Accept"), STR("1")));
	must(head_add(&h, STR("Vary"), STR("b")) && head_add(&h, STR("Accept"), STR("2")));
	must(head_add(&h, STR("Host"), STR("h")));
	must(head_join_single(&h) && h.n == 4 &&
	     str_eq(h.f[0].name_n == 4 ? field_value(&h.f[0]) : STR(""), STR("a,b")));
	must(head_has(&h, FIELD_HOST) && h.pseudo == 0);
	must(head_set_status(&h, 204) && h.status == 204 && h.f[0].id == FIELD_STATUS &&
	     h.pseudo == 1);
	must(head_set_status(&h, 7) && str_eq(head_value(&h, FIELD_STATUS), STR("007")));
	arena_fini(&a);
}

static void test_no_memory(void)
{
	unsigned done = 0;
	for (size_t cap = 0; cap < 3000; cap += 8) {
		struct arena a;
		struct head h, copy;
		arena_init(&a, cap);
		bool ok = head_init(&h, &a, false, 8);
		for (unsigned i = 0; ok && i < 20; i++)
			ok = head_add_copy(&h, STR("accept"), STR("value"));
		ok = ok && head_join_single(&h) && head_set_status(&h, 200) &&
		     head_copy(&copy, &a, &h);
		must(ok != a.over);
		done += ok;
		arena_fini(&a);
	}
	must(done > 0 && done < 300);
}

/* As many as the 16 bits of n can count, and not one more. */
static void test_full(void)
{
	struct arena a;
	struct head h;
	arena_init(&a, SIZE_MAX);
	must(head_init(&h, &a, false, 40000));
	for (unsigned i = 0; i < UINT16_MAX; i++)
		must(head_add(&h, STR("x"), STR("")));
	must(h.n == UINT16_MAX && !a.over);
	must(!head_add(&h, STR("x"), STR("")) && a.over && h.n == UINT16_MAX);
	must(!head_replace(&h, STR("y"), STR("")) && h.n == UINT16_MAX);
	must(head_remove(&h, STR("X")) == UINT16_MAX && h.n == 0);
	arena_fini(&a);
}

static void test_words(void)
{
	static const struct {
		const char *text;
		bool ok;
	} hosts[] = {{"a", true},
		     {"a.b-c_d~e", true},
		     {"a:80", true},
		     {"a:0", true},
		     {"a:65535", true},
		     {"127.0.0.1", true},
		     {"[::1]", true},
		     {"[::1]:8080", true},
		     {"[::ffff:1.2.3.4]", true},
		     {"%41b", true},
		     {"", false},
		     {":80", false},
		     {"a:", false},
		     {"a:65536", false},
		     {"a:99999999999999999999", false},
		     {"a:8a", false},
		     {"a:80:80", false},
		     {"a b", false},
		     {"a@b", false},
		     {"a/b", false},
		     {"a,b", false},
		     {"a\\b", false},
		     {"%4", false},
		     {"%zz", false},
		     {"[::1", false},
		     {"[]", false},
		     {"[::1]x", false},
		     {"[::1]:", false},
		     {"[1.2.3.4]", false},
		     {"[fe80::1%25eth0]", false},
		     {"[v1.a]", false},
		     {"\xc3\xa9", false},
		     {"a?b", false},
		     {"a#b", false},
		     {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]", false}};
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
		must(authority_ok(str_of(hosts[i].text)) == hosts[i].ok);
	must(!authority_ok((struct str){"a\0b", 3}));
	for (unsigned n = 40; n < 50; n++) { /* around what inet_pton's buffer takes */
		char text[64];
		snprintf(text, sizeof text, "[%0*d::1]", (int)n, 0);
		must(!authority_ok(str_of(text)));
	}

	must(field_name_ok(STR("X-a_b!")) && !field_name_ok(STR("")) && !field_name_ok(STR("a b")));
	must(!field_name_ok(STR(":path")) && !field_name_ok(STR("a:")) &&
	     !field_name_ok(STR("\xff")));
	must(field_value_ok(STR("")) && field_value_ok(STR("a\tb \xff")) &&
	     !field_value_ok(STR("a\r\nb")));
	must(!field_value_ok((struct str){"a\0", 2}) && !field_value_ok(STR("\x7f")));
	must(list_has(STR("a, B ,c"), STR("b")) && list_has(STR("c"), STR("C")) &&
	     !list_has(STR("ab"), STR("a")));
	must(!list_has(STR(""), STR("a")));
	must(!strcmp(status_text(404), "Not Found") && !strcmp(status_text(299), "") &&
	     !strcmp(status_text(9999), ""));
	must(method_of(STR("GET")) == METHOD_GET && method_of(STR("get")) == METHOD_OTHER);
	must(method_of(STR("OPTIONS")) == METHOD_OPTIONS &&
	     method_of(STR("DELETE")) == METHOD_DELETE);
	must(method_of(STR("PATCH")) == METHOD_PATCH && method_of(STR("")) == METHOD_OTHER);
}

int main(void)
{
	test_model();
	test_join();
	test_no_memory();
	test_full();
	test_words();
	arena_trim();
	return 0;
}

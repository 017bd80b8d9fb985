/* src/config/yaml_test.c: YAML in, JSON or complaints out. */
#include "config/test_int.h"

static char *outcome(const char *yaml, size_t n, bool all)
{
	struct arena a;
	struct diags d;
	char *out;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root =
		(all ? doc_from_yaml_all : doc_from_yaml)(&a, &d, "t", (struct str){yaml, n});
	must((root != NULL) == (d.errors == 0));
	out = root ? test_json(root, false) : test_diags(&d);
	diags_fini(&d);
	arena_fini(&a);
	return out;
}

static void check(const char *yaml, const char *wanted, bool all)
{
	char *got = outcome(yaml, strlen(yaml), all);
	test_same(yaml, got, wanted);
	free(got);
}

static void scalars(void)
{
	static const struct {
		const char *yaml, *json;
	} cases[] = {
		{"", "null"},
		{"# nothing\n", "null"},
		{"~", "null"},
		{"[null, Null, NULL, ~, ]", "[null,null,null,null]"},
		{"[y, Y, yes, Yes, YES, on, On, ON, true, True, TRUE]",
		 "[true,true,true,true,true,true,true,true,true,true,true]"},
		{"[n, N, no, No, NO, off, Off, OFF, false, False, FALSE]",
		 "[false,false,false,false,false,false,false,false,false,false,false]"},
		{"[yEs, oN, tRUE, nULL]", "[\"yEs\",\"oN\",\"tRUE\",\"nULL\"]"},
		{"['yes', \"no\", '~', '1', \"1.5\"]", "[\"yes\",\"no\",\"~\",\"1\",\"1.5\"]"},
		{"[0, 1, -1, +1, 1_000, 0x1F, -0x10, 0b101, 0o17, 017, 08]",
		 "[0,1,-1,1,1000,31,-16,5,15,15,8]"},
		{"[9223372036854775807, -9223372036854775808]",
		 "[9223372036854775807,-9223372036854775808]"},
		{"[18446744073709551615]", "[18446744073709551615]"},
		{"[1.5, .5, -.5, 1., 1e3, 1.5E-3, +2.5]", "[1.5,0.5,-0.5,1,1000,0.0015,2.5]"},
		{"[.inf, -.INF, .nan]", "[\"Infinity\",\"-Infinity\",\"NaN\"]"},
		{"[1s, 1.5s, 127.0.0.1, 1:30, 2026-01-31, -, +, ., 0x, 1e, 1e400, _1, 1__0]",
		 "[\"1s\",\"1.5s\",\"127.0.0.1\",\"1:30\",\"2026-01-31\",\"-\",\"+\",\".\",\"0x\","
		 "\"1e\","
		 "\"1e400\",\"_1\",10]"},
		{"[!!str 12, !!int 12, !!bool yes, !!float 1, ! 5, !!null ~]",
		 "[\"12\",12,true,1,\"5\",null]"},
		{"a: |\n  x\n  y\nb: >\n  x\n  y\n", "{\"a\": \"x\\ny\\n\",\"b\": \"x y\\n\"}"},
		{"a: \"\\t\\x41\\0\\u00e9\"", "{\"a\": \"\\tA\\u0000\xc3\xa9\"}"},
		{"{a: {}, b: [], c: }", "{\"a\": {},\"b\": [],\"c\": null}"},
		{"a: 1\r\nb: 2\r\n", "{\"a\": 1,\"b\": 2}"},
		{"\xef\xbb\xbf"
		 "a: 1",
		 "{\"a\": 1}"},
		{"on: 1\n1: 2\n", "{\"on\": 1,\"1\": 2}"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		check(cases[i].yaml, cases[i].json, false);
}

static void aliases(void)
{
	static const struct {
		const char *yaml, *json;
	} cases[] = {
		{"a: &x {k: [1]}\nb: *x\nc: *x",
		 "{\"a\": {\"k\": [1]},\"b\": {\"k\": [1]},\"c\": {\"k\": [1]}}"},
		{"- &x 1\n- *x\n- &x 2\n- *x", "[1,1,2,2]"},
		{"&k a: 1\nb: *k\n", "{\"a\": 1,\"b\": \"a\"}"},
		{"x: &b {a: 1, b: 2}\ny: {<<: *b, b: 3}",
		 "{\"x\": {\"a\": 1,\"b\": 2},\"y\": {\"b\": 3,\"a\": 1}}"},
		{"x: &b {a: 1}\ny: &c {a: 2, d: 4}\nz: {<<: [*b, *c]}",
		 "{\"x\": {\"a\": 1},\"y\": {\"a\": 2,\"d\": 4},\"z\": {\"a\": 1,\"d\": 4}}"},
		{"z: {<<: {a: 1}, b: 2}", "{\"z\": {\"b\": 2,\"a\": 1}}"},
		{"z: {\"<<\": {a: 1}}", "{\"z\": {\"<<\": {\"a\": 1}}}"},
		{"a: *x", "E 1:4: no anchor is named x"},
		{"a: &x [*x]", "E 1:8: the alias stands inside what it names"},
		{"a: {<<: 5}", "E 1:9: only maps can be merged with <<"},
		{"a: {<<: {a: 1}, <<: {b: 1}}", "E 1:17: a second merge in one map"},
		{"a: &x 1\n---\nb: *x", "E 3:4: no anchor is named x"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		check(cases[i].yaml, cases[i].json, false);
}

static void mistakes(void)
{
	static const struct {
		const char *yaml, *text;
	} cases[] = {
		{"a: 1\nb: 2\na: 3\nb: 4", "E 3:1: the key \"a\" is already in line 1\n"
					   "E 4:1: the key \"b\" is already in line 2"},
		{"a: 1\n'a': 2", "E 2:1: the key \"a\" is already in line 1"},
		{"[a, b", "E 2:1: did not find expected ',' or ']', while parsing a flow sequence"},
		{"a:\n\tb: 1",
		 "E 2:1: found character that cannot start any token, while scanning for the next "
		 "token (YAML indents with spaces, not with tabs)"},
		{"? [a]\n: 1", "E 1:3: a key must be plain text"},
		{"a: !env X", "E 1:4: the tag !env is not supported"},
		{"a: !!binary aGk=", "E 1:4: the tag tag:yaml.org,2002:binary is not supported"},
		{"a: !!int x", "E 1:4: does not fit its tag"},
		{"a: !!set {b: }", "E 1:4: the tag tag:yaml.org,2002:set is not supported"},
		{"a: 1\n---\nb: 2", "E 3:1: a second document; only one is expected"},
		{"a: \xff", "E 1:4: invalid leading UTF-8 octet"},
		{"a: b\n  c: d", "E 2:4: mapping values are not allowed in this context"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		check(cases[i].yaml, cases[i].text, false);
}

static void documents(void)
{
	check("", "[]", true);
	check("---\n---\n# x\n---\na: 1\n...\n---\n{b: 2}\n", "[{\"a\": 1},{\"b\": 2}]", true);
	check("queryParams: {n: 1, 0x10: 2, yes: 3, 1.5: 4}",
	      "[{\"queryParams\": {\"false\": 1,\"16\": 2,\"true\": 3,\"1.5\": 4}}]", true);
	check("a: 1\na: 2\n---\nb: 1\nb: 2\n",
	      "E 2:1: the key \"a\" is already in line 1\n"
	      "E 5:1: the key \"b\" is already in line 4",
	      true);
	check("---\na: 1\n---\n# only one\n", "{\"a\": 1}", false);
}

static char *repeat(const char *what, unsigned n, const char *middle, const char *back)
{
	size_t w = strlen(what), b = strlen(back), m = strlen(middle);
	char *out = malloc(n * (w + b) + m + 1), *p = out;
	must(out != NULL);
	for (unsigned i = 0; i < n; i++, p += w)
		memcpy(p, what, w);
	memcpy(p, middle, m);
	p += m;
	for (unsigned i = 0; i < n; i++, p += b)
		memcpy(p, back, b);
	*p = 0;
	return out;
}

static void bounds(void)
{
	char *deep = repeat("[", 64, "1", "]"), *deeper = repeat("[", 65, "1", "]");
	char *got = outcome(deep, strlen(deep), false);
	must(got[0] == '[');
	free(got);
	check(deeper, "E 1:65: more than 64 levels deep", false);
	free(deep);
	free(deeper);

	/* Nine levels of ten aliases each are a thousand million values. */
	char laughs[2000], *p = laughs;
	p += sprintf(p, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
	for (int i = 1; i < 9; i++) {
		p += sprintf(p, "a%d: &a%d [", i, i);
		for (int k = 0; k < 10; k++)
			p += sprintf(p, "%s*a%d", k ? "," : "", i - 1);
		p += sprintf(p, "]\n");
	}
	got = outcome(laughs, strlen(laughs), false);
	must(strstr(got, "more than 1000000 values, aliases expanded"));
	free(got);

	/* Depth through aliases. */
	p = laughs;
	p += sprintf(p, "a0: &a0 [[[[[[[[x]]]]]]]]\n");
	for (int i = 1; i < 9; i++)
		p += sprintf(p, "a%d: &a%d [[[[[[[[*a%d]]]]]]]]\n", i, i, i - 1);
	got = outcome(laughs, strlen(laughs), false);
	must(strstr(got, "more than 64 levels deep, aliases expanded"));
	free(got);

	char *big = repeat("- a\n", 300000, "", "");
	got = outcome(big, strlen(big), false);
	must(got[0] == '[');
	free(got);
	free(big);
	big = malloc(17 << 20);
	must(big != NULL);
	memset(big, ' ', 17 << 20);
	got = outcome(big, 17 << 20, false);
	must(strcmp(got, "E 0:0: is larger than 16 MiB") == 0);
	free(got);
	free(big);

	/* A map with many keys finds its duplicates, and in time. */
	big = malloc(3000000);
	must(big != NULL);
	p = big;
	for (int i = 0; i < 200000; i++)
		p += sprintf(p, "k%d: 1\n", i);
	sprintf(p, "k77: 2\n");
	got = outcome(big, strlen(big), false);
	must(strcmp(got, "E 200001:1: the key \"k77\" is already in line 78") == 0);
	free(got);
	free(big);
}

static void places(void)
{
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root = doc_from_yaml(&a, &d, "f.yaml", STR("a:\n  b: [1, {c: x}]\n"));
	const struct doc *b = doc_get(doc_get(root, "a"), "b"), *c = doc_get(b->last, "c");
	must(b->at.line == 2 && b->at.column == 6 && b->key_at.line == 2 && b->key_at.column == 3);
	must(c->at.line == 2 && c->at.column == 14 && strcmp(c->at.file, "f.yaml") == 0);
	struct str path = doc_path(&a, c);
	must(str_eq(path, STR("a.b[1].c")));
	diags_fini(&d);
	arena_fini(&a);
}

/* The 1st, the 2nd, ... allocation fails: always a report, never a crash or a half tree. */
static void without_memory(void)
{
	static const char yaml[] =
		"x: &b {a: 1, b: [1, 2, yes]}\ny: {<<: *b, b: 3}\nz: *b\n"
		"m: {a1: 1, a2: 1, a3: 1, a4: 1, a5: 1, a6: 1, a7: 1, a8: 1, a9: 1, b1: 1, "
		"b2: 1, b3: 1, b4: 1}\n";
	for (unsigned n = 1;; n++) {
		struct arena a;
		struct diags d;
		arena_init(&a, SIZE_MAX);
		arena_trim();
		diags_init(&d);
		mem_fail_nth(n);
		struct doc *root =
			doc_from_yaml_all(&a, &d, "t", (struct str){yaml, sizeof yaml - 1});
		bool fired = mem_fail_left() == 0;
		mem_fail_nth(0);
		must((root == NULL) == (d.errors > 0));
		must(root || fired);
		diags_fini(&d);
		arena_fini(&a);
		if (!fired)
			break;
		must(n < 10000);
	}
}

int main(void)
{
	scalars();
	aliases();
	mistakes();
	documents();
	bounds();
	places();
	without_memory();
	return 0;
}

/* src/config/json_test.c: JSON in, JSON or complaints out; then the same text through YAML. */
#include "config/test_int.h"
#include <unistd.h>

static char *outcome(struct str text, bool mask)
{
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root = doc_from_json(&a, &d, "t", text);
	must((root != NULL) == (d.errors == 0));
	char *out = root ? test_json(root, mask) : test_diags(&d);
	diags_fini(&d);
	arena_fini(&a);
	return out;
}

static void check(const char *json, const char *wanted)
{
	char *got = outcome(str_of(json), false);
	test_same(json, got, wanted);
	free(got);
}

static void values(void)
{
	static const char *const same[] = {"null",
					   "true",
					   "[false,null]",
					   "[]",
					   "{}",
					   "[1,-1,0,1.5]",
					   "{\"a\": {\"b\": [1,{\"c\": \"x\"}]}}",
					   "\"\"",
					   "\"a\\\"b\\\\\"",
					   "[9223372036854775807,-9223372036854775808]",
					   "[18446744073709551615]"};
	for (size_t i = 0; i < sizeof same / sizeof *same; i++)
		check(same[i], same[i]);
	check(" [ 1e3 , 1E-2 , -0 , 2.0 ] ", "[1000,0.01,0,2]");
	check("\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\b\\f\\n\\r\\t\\/\\u0000\"",
	      "\"A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\\u0008\\u000c\\n\\r\\t/\\u0000\"");
	check("\xef\xbb\xbf{\"a\":1}", "{\"a\": 1}");
	check("{\"a\\u0062\":1}", "{\"ab\": 1}");
}

static void mistakes(void)
{
	static const struct {
		const char *json, *text;
	} cases[] = {
		{"", "E 1:1: '[' or '{' expected near end of file"},
		{"{\"a\":1,\n \"b\":2,\n\"a\":3, \"b\":4}",
		 "E 3:1: the key \"a\" is already in line 1\n"
		 "E 3:8: the key \"b\" is already in line 2"},
		{"{\"a\":}", "E 1:6: unexpected token near '}'"},
		{"[1,]", "E 1:4: unexpected token near ']'"},
		{"[1] 2", "E 1:5: end of file expected near '2'"},
		{"[01]", "E 1:3: ']' expected near '1'"},
		{"{'a': 1}", "E 1:2: string or '}' expected near '''"},
		{"[\"\\ud800\"]", "E 1:9: invalid Unicode '\\uD800'"},
		{"[1e999]", "E 1:6: real number overflow near '1e999'"},
		{"// x\n{}", "E 1:1: '[' or '{' expected near '/'"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *got = outcome(str_of(cases[i].json), false);
		/* jansson's words are its own; the place and our own words are what we promise. */
		bool theirs = !strstr(cases[i].text, "the key");
		if (theirs)
			must(got[0] == 'E' && strlen(got) > 6);
		else
			test_same(cases[i].json, got, cases[i].text);
		free(got);
	}
}

static void places(void)
{
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *root =
		doc_from_json(&a, &d, "f.json", STR("{\n  \"\xc3\xa9\": [1,\n   {\"c\": \"x\"}]}"));
	const struct doc *list = root->first, *c = doc_get(list->last, "c");
	must(list->key_at.line == 2 && list->key_at.column == 3 && list->at.column == 8);
	must(c->at.line == 3 && c->at.column == 10 && c->key_at.column == 5);
	diags_fini(&d);
	arena_fini(&a);
}

static void bounds(void)
{
	static char deep[200];
	memset(deep, '[', 65);
	memset(deep + 65, ']', 65);
	deep[130] = 0;
	check(deep, "E 1:65: more than 64 levels deep");
	memset(deep, ' ', 1);
	deep[129] = 0;
	char *got = outcome(str_of(deep), false);
	must(got[0] == '[');
	free(got);
	size_t n = 3 << 20;
	char *many = malloc(n);
	must(many != NULL);
	many[0] = '[';
	for (size_t i = 1; i < n; i += 2)
		memcpy(many + i, "1,", i + 1 < n ? 2 : 1);
	got = outcome((struct str){many, n}, false);
	must(strstr(got, "more than 1000000 values"));
	free(got);
	free(many);
}

static void secrets(void)
{
	char *got =
		outcome(STR("{\"private_key\": {\"inline_string\": \"k\", \"filename\": \"f\"}, "
			    "\"certificate_chain\": {\"inline_string\": \"c\"}, "
			    "\"privateKey\": {\"inlineBytes\": \"aa==\"}}"),
			true);
	test_same("secrets", got,
		  "{\"private_key\": {\"inline_string\": \"[redacted]\",\"filename\": \"f\"},"
		  "\"certificate_chain\": {\"inline_string\": \"c\"},"
		  "\"privateKey\": {\"inlineBytes\": \"W3JlZGFjdGVkXQ==\"}}");
	free(got);
}

/* JSON is YAML's flow form: both readers make the same tree. */
static void like_yaml(void)
{
	static const char text[] =
		"{\"a\": [1, 2.5, true, null, \"x\\n\\u00e9\"], \"b\": {\"c\": {}}}";
	struct arena a;
	struct diags d;
	arena_init(&a, SIZE_MAX);
	diags_init(&d);
	struct doc *j = doc_from_json(&a, &d, "t", str_of(text)),
		   *y = doc_from_yaml(&a, &d, "t", str_of(text));
	char *one = test_json(j, false), *two = test_json(y, false);
	test_same(text, one, two);
	free(one);
	free(two);
	diags_fini(&d);
	arena_fini(&a);
}

static void from_files(void)
{
	static const struct {
		const char *suffix, *text, *wanted;
	} cases[] = {
		{".json", "{\"a\": 1}", "{\"a\": 1}"},
		{".json", "a: 1", NULL},
		{".yaml", "a: 1", "{\"a\": 1}"},
		{".yaml", "{a: 1}", "{\"a\": 1}"},
		{".yaml", " {\"a\": 1}", "{\"a\": 1}"},
		{"", "\n[1, x]", "[1,\"x\"]"},
		{"", "", "null"},
		{".yaml", "{a: 1", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char name[64];
		struct arena a;
		struct diags d;
		snprintf(name, sizeof name, "/tmp/postern-test-XXXXXX%s", cases[i].suffix);
		int fd = mkstemps(name, (int)strlen(cases[i].suffix));
		must(fd >= 0 && write(fd, cases[i].text, strlen(cases[i].text)) >= 0 &&
		     close(fd) == 0);
		arena_init(&a, SIZE_MAX);
		diags_init(&d);
		struct doc *root = doc_from_file(&a, &d, name);
		must(!root == !cases[i].wanted && (d.errors > 0) == !root);
		if (root) {
			char *got = test_json(root, false);
			test_same(cases[i].text, got, cases[i].wanted);
			free(got);
		}
		unlink(name);
		must(doc_from_file(&a, &d, name) == NULL && d.errors > 0);
		diags_fini(&d);
		arena_fini(&a);
	}
}

static void without_memory(void)
{
	static const char json[] =
		"{\"a\": {\"b\": [1, \"x\\ty\", true]}, \"c0\": 1, \"c1\": 1, \"c2\": 1, "
		"\"c3\": 1, \"c4\": 1, \"c5\": 1, \"c6\": 1, \"c7\": 1, \"c8\": 1, "
		"\"c9\": 1, \"d0\": 1, \"d1\": 1, \"d2\": 1}";
	for (unsigned n = 1;; n++) {
		struct arena a;
		struct diags d;
		arena_init(&a, SIZE_MAX);
		arena_trim();
		diags_init(&d);
		mem_fail_nth(n);
		struct doc *root = doc_from_json(&a, &d, "t", str_of(json));
		bool fired = mem_fail_left() == 0;
		mem_fail_nth(0);
		must((root == NULL) == (d.errors > 0));
		must(root || fired);
		diags_fini(&d);
		arena_fini(&a);
		if (!fired)
			break;
	}
}

int main(void)
{
	values();
	mistakes();
	places();
	bounds();
	secrets();
	like_yaml();
	from_files();
	without_memory();
	return 0;
}

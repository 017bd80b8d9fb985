/* src/model/match_test.c: what Envoy 1.40 answered for the same matchers and requests. */
#include "base/must.h"
#include "model/match.h"
#include "model/regex.h"
#include <stdio.h>
#include <stdlib.h>

static struct arena arena;

static struct head head_of(const char *const *fields)
{
	struct head h;
	must(head_init(&h, &arena, false, 16));
	must(head_add_id(&h, FIELD_METHOD, STR("GET")));
	for (; fields && fields[0]; fields += 2)
		must(head_add(&h, str_of(fields[0]), str_of(fields[1])));
	return h;
}

static void strings(void)
{
	static const struct {
		struct string_match m;
		const char *text;
		bool yes;
	} cases[] = {
		{{.kind = STRING_ANY}, "", true},
		{{STRING_EXACT, false, STR("ab")}, "ab", true},
		{{STRING_EXACT, false, STR("ab")}, "aB", false},
		{{STRING_EXACT, true, STR("ab")}, "aB", true},
		{{STRING_EXACT, false, STR("")}, "", true},
		{{STRING_PREFIX, false, STR("ab")}, "abc", true},
		{{STRING_PREFIX, false, STR("ab")}, "a", false},
		{{STRING_PREFIX, true, STR("ab")}, "ABc", true},
		{{STRING_SUFFIX, false, STR("bc")}, "abc", true},
		{{STRING_SUFFIX, true, STR("c")}, "abC", true},
		{{STRING_SUFFIX, true, STR("c")}, "", false},
		{{STRING_CONTAINS, false, STR("wp=1")}, "a=2; wp=1; b=3", true},
		{{STRING_CONTAINS, false, STR("wp=1")}, "a=2; wp=2", false},
		{{STRING_CONTAINS, false, STR("wp=1")}, "wp=", false},
		{{STRING_CONTAINS, false, STR("")}, "", true},
		{{STRING_CONTAINS, true, STR("ab")}, "xaBx", true},
		{{STRING_CONTAINS, true, STR("ab")}, "xaxB", false},
		{{STRING_CONTAINS, true, STR("ab")}, "A", false},
		{{STRING_EXACT, true, STR("\xc3\xa4")}, "\xc3\xa4", true},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		must(string_matches(&cases[i].m, str_of(cases[i].text)) == cases[i].yes);
}

/* Every place of a text of every length around the block sizes, and near misses. */
static void searches(void)
{
	char text[80];
	for (size_t n = 0; n < sizeof text; n++)
		for (size_t m = 1; m <= 20 && m <= n; m++)
			for (size_t at = 0; at + m <= n; at++) {
				char *exact = malloc(n);
				must(exact);
				memset(text, 'a', n);
				text[at] = 'x';
				text[at + m - 1] = 'y';
				memcpy(exact, text, n);
				struct string_match c = {STRING_CONTAINS, false, {text + at, m}};
				must(string_matches(&c, (struct str){exact, n}));
				exact[at + m / 2] = 'z';
				must(!string_matches(&c, (struct str){exact, n}));
				free(exact);
			}
}

static void fields(void)
{
	const char *two[] = {"z", "a", "Z", "b", NULL}, *none[] = {NULL};
	const char *cookie[] = {"Cookie", "a=1", "cookie", "wp=1", NULL};
	struct head h2 = head_of(two), h0 = head_of(none), hc = head_of(cookie);
	struct field_match m = {.name = STR("z"), .kind = FIELD_MATCH_STRING};

	/* Any of the repeated ones, never their list. */
	m.string = (struct string_match){STRING_EXACT, false, STR("b")};
	must(field_matches(&m, &h2));
	m.invert = true;
	must(!field_matches(&m, &h2));
	m.string.text = STR("a,b");
	must(field_matches(&m, &h2));
	/* What is absent matches nothing, inverted neither, unless it counts as empty. */
	must(!field_matches(&m, &h0));
	m.missing_as_empty = true;
	must(field_matches(&m, &h0));
	m.invert = false;
	must(!field_matches(&m, &h0));
	m.string.text = STR("");
	must(field_matches(&m, &h0));

	struct field_match c = {STR("cookie"),
				FIELD_COOKIE,
				FIELD_MATCH_STRING,
				{STRING_CONTAINS, false, STR("wp=1")}};
	must(field_matches(&c, &hc) && !field_matches(&c, &h0) && !field_matches(&c, &h2));

	static const struct {
		bool present, invert, as_empty, on_two, on_none;
	} presence[] = {
		{true, false, false, true, false}, {false, false, false, false, true},
		{true, true, false, false, true},  {false, true, false, true, false},
		{true, false, true, true, true},   {false, false, true, false, false},
	};
	for (size_t i = 0; i < sizeof presence / sizeof *presence; i++) {
		struct field_match p = {.name = STR("z"),
					.kind = FIELD_MATCH_PRESENT,
					.present = presence[i].present,
					.invert = presence[i].invert,
					.missing_as_empty = presence[i].as_empty};
		must(field_matches(&p, &h2) == presence[i].on_two);
		must(field_matches(&p, &h0) == presence[i].on_none);
	}
}

static void ranges(void)
{
	static const struct {
		const char *value;
		bool yes;
	} cases[] = {{"-5", true},
		     {"+4", true},
		     {"0", true},
		     {" 4 ", true},
		     {"5", false},
		     {"-6", false},
		     {"4x", false},
		     {"", false},
		     {"-", false},
		     {"--1", false},
		     {"99999999999999999999", false},
		     {"-9223372036854775809", false}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *f[] = {"n", cases[i].value, NULL};
		struct head h = head_of(f);
		struct field_match m = {
			.name = STR("n"), .kind = FIELD_MATCH_RANGE, .from = -5, .to = 5};
		must(field_matches(&m, &h) == cases[i].yes);
	}
	const char *least[] = {"n", "-9223372036854775808", NULL};
	struct head h = head_of(least);
	struct field_match m = {
		.name = STR("n"), .kind = FIELD_MATCH_RANGE, .from = INT64_MIN, .to = 0};
	must(field_matches(&m, &h));
}

static void queries(void)
{
	static const struct {
		struct query_match m;
		const char *query;
		bool yes;
	} cases[] = {
		{{STR("a"), false, false, {STRING_EXACT, false, STR("x y")}}, "a=x%20y", false},
		{{STR("a"), false, false, {STRING_EXACT, false, STR("x%20y")}}, "a=x%20y", true},
		{{STR("a"), false, false, {STRING_EXACT, false, STR("")}}, "a", true},
		{{STR("a"), false, false, {STRING_EXACT, false, STR("")}}, "b", false},
		{{STR("a"), false, false, {STRING_EXACT, false, STR("2")}}, "a=1&a=2", false},
		{{STR("a"), false, false, {STRING_EXACT, false, STR("2")}}, "b&a=2&a=1", true},
		{{STR("a"), false, false, {STRING_EXACT, false, STR("1=2")}}, "a=1=2", true},
		{{STR("a"), true, true}, "&&a", true},
		{{STR("a"), true, true}, "ab=1", false},
		{{STR("a"), true, true}, "", false},
		{{STR("a"), true, false}, "", true},
		{{STR("a"), true, false}, "a=1", false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		must(query_matches(&cases[i].m, str_of(cases[i].query)) == cases[i].yes);
}

static void cookies(void)
{
	static const struct {
		const char *first, *second, *name, *value; /* value NULL: absent */
	} cases[] = {
		{"a=1", "", "a", "1"},         {"b=2;a=1", "", "a", "1"},
		{"a=2; a=1", "", "a", "2"},    {"a=\"1\"", "", "a", "1"},
		{"b=1", "a=1", "a", "1"},      {"A=1", "", "a", NULL},
		{" a=1 ", "", "a", "1"},       {"a = 1", "", "a", NULL},
		{"a=\"1", "", "a", "\"1"},     {"a=", "", "a", ""},
		{"a", "", "a", NULL},          {"a b=1", "", "a b", "1"},
		{"ab=1; =3", "b=4", "b", "4"}, {"a=\"", "", "a", "\""},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *f[] = {"cookie", cases[i].first, "Cookie", cases[i].second, NULL};
		struct head h = head_of(f);
		struct str v = cookie_value(&h, str_of(cases[i].name));
		must(cases[i].value ? v.p && str_eq(v, str_of(cases[i].value)) : !v.p);
		struct cookie_match m = {
			str_of(cases[i].name), {STRING_EXACT, false, STR("1")}, true};
		must(cookie_matches(&m, &h) == !(v.p && str_eq(v, STR("1"))));
	}
	struct head none = head_of(NULL);
	must(!cookie_value(&none, STR("a")).p);
}

static void expressions(void)
{
	char err[100], *out;
	size_t n;
	must(!regex_new(STR("a("), err, sizeof err) && err[0]);
	struct regex *r = regex_new(STR("/a/([0-9]+)"), err, sizeof err);
	if (!r) { /* a build without RE2 */
		puts("no regular expressions in this build");
		return;
	}
	must(regex_full_match(r, STR("/a/12")) && !regex_full_match(r, STR("/a/12/")) &&
	     !regex_full_match(r, STR("/b/a/12")));
	must(regex_check_rewrite(r, STR("\\1x"), err, sizeof err) &&
	     !regex_check_rewrite(r, STR("\\2"), err, sizeof err));
	must(regex_replace(r, STR("/a/1/a/2"), STR("<\\1>"), &out, &n));
	must(str_eq((struct str){out, n}, STR("<1><2>")));
	free(out);
	regex_free(r);
	/* Bytes, not UTF-8, and '.' is no newline. */
	r = regex_new(STR("a..b"), err, sizeof err);
	must(r &&
	     regex_full_match(r, STR("a\xc3\xa9"
				     "b")) &&
	     regex_full_match(r, STR("a\xff\xff"
				     "b")) &&
	     !regex_full_match(r, STR("a\n\nb")));
	regex_free(r);
	regex_free(NULL);
}

int main(void)
{
	arena_init(&arena, 1 << 20);
	strings();
	searches();
	fields();
	ranges();
	queries();
	cookies();
	expressions();
	arena_fini(&arena);
	return 0;
}

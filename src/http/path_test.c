/* src/http/path_test.c */
#include "http/path_reference_test.h"

static void is(const char *in, bool dots, bool merge, bool unescape, const char *want, bool slash)
{
	char buf[256];
	bool found;
	size_t n = strlen(in);
	memcpy(buf, in, n);
	ptrdiff_t got = path_normalize(buf, n, dots, merge, unescape, &found);
	bool same = want ? got == (ptrdiff_t)strlen(want) && !memcmp(buf, want, (size_t)got) &&
				    found == slash
			 : got < 0;
	if (!same)
		fprintf(stderr, "%s: %.*s, expected %s\n", in, got < 0 ? 2 : (int)got,
			got < 0 ? "-1" : buf, want ? want : "-1");
	must(same);
}

int main(void)
{
	is("/", true, true, true, "/", false);
	is("", true, true, true, "", false);
	is("*", true, true, true, "*", false);
	is("a/../%41//b", true, true, true, "a/../%41//b", false);
	is("/c/../admin/x", true, true, true, "/admin/x", false);
	is("/c/%2e%2e/admin/x", true, true, true, "/admin/x", false);
	is("/c/.%2E/admin/x", true, true, true, "/admin/x", false);
	is("/./admin/x", true, true, true, "/admin/x", false);
	is("/%61dmin/x", true, true, true, "/admin/x", false);
	is("//admin/x", true, true, false, "/admin/x", false);
	is("//admin/x", true, false, false, "//admin/x", false);
	is("/c%2f..%2fadmin/x", true, true, true, "/admin/x", true);
	is("/c%2f..%2fadmin/x", true, true, false, "/c%2F..%2Fadmin/x", true);
	is("/c%5c..%5Cadmin/x", true, true, true, "/admin/x", true);
	is("/c\\..\\admin/x", true, true, true, "/admin/x", false);
	is("/../../admin/x", true, true, true, "/admin/x", false);
	is("/a/b/..", true, false, false, "/a/", false);
	is("/a/b/.", true, false, false, "/a/b/", false);
	is("/..", true, false, false, "/", false);
	is("/a//../b", true, true, false, "/a/b", false);
	is("/...", true, true, true, "/...", false);
	is("/.well-known/x", true, true, true, "/.well-known/x", false);
	is("/%252e%252e/x", true, true, true, "/%252e%252e/x", false);
	is("/%c3%a9", true, true, true, "/%C3%A9", false);
	is("/%00", true, true, true, NULL, false);
	is("/%zz", true, true, true, NULL, false);
	is("/%4", true, true, true, NULL, false);
	is("/a%", true, true, true, NULL, false);
	is("/x?a=../admin&b=%zz//", true, true, true, "/x?a=../admin&b=%zz//", false);
	is("/a/..?../b", true, true, true, "/?../b", false);
	is("/a//%2e%2F./b\\?", false, true, false, "/a/%2e%2F./b\\?", true);
	is("/a//%2e%2F./b%5c%zz", false, false, true, "/a//%2e/./b\\%zz", true);

	must(path_has_dot_params(STR("/c/..;/admin")) && path_has_dot_params(STR("/.;a")));
	must(path_has_dot_params(STR("/..;")) && !path_has_dot_params(STR("/...;")));
	must(!path_has_dot_params(STR("/a;..")) && !path_has_dot_params(STR("/a?/..;")) &&
	     !path_has_dot_params(STR("/")));

	/* Strings of these bytes, on both sides of the 16 that are read at once. */
	static const char bytes[] = "/.%2eF5c0\\?a;";
	char buf[64];
	unsigned seed = 1;
	for (unsigned round = 0; round < 300000; round++) {
		size_t n = 1 + (seed >> 8) % 40;
		buf[0] = '/';
		for (size_t i = 1; i < n; i++) {
			seed = seed * 1664525u + 1013904223u;
			buf[i] =
				(seed >> 28) < 6 ? bytes[(seed >> 8) % 3] : bytes[(seed >> 8) % 13];
		}
		seed = seed * 1664525u + 1013904223u;
		check_path(buf, n, seed >> 30 != 0, seed >> 29 & 1, seed >> 28 & 1);
	}
	return 0;
}

/* src/filters/static/site_test.c: names, types, dates, conditions, ranges, and what an open may
 * reach.
 */
#include "base/must.h"
#include "filters/static/site_date.c"
#include "filters/static/site_open.c"
#include "filters/static/site_path.c"
#include "filters/static/site_range.c"
#include "filters/static/site_type.c"
#include <stdio.h>
#include <sys/stat.h>

static void path_is(const char *path, const char *want, bool want_folder)
{
	char out[SITE_PATH];
	bool folder = false;
	int n = site_path(str_of(path), out, &folder);
	if (!want) {
		if (n >= 0)
			fprintf(stderr, "%s is %s, not refused\n", path, out);
		must(n < 0);
		return;
	}
	if (n < 0 || strcmp(out, want) || (size_t)n != strlen(want) || folder != want_folder) {
		fprintf(stderr, "%s gives %d %s %d\n", path, n, n < 0 ? "" : out, folder);
		must(!"as wanted");
	}
}

static void paths(void)
{
	path_is("/", "", true);
	path_is("/a", "a", false);
	path_is("/a/", "a", true);
	path_is("/a/b.html", "a/b.html", false);
	path_is("//a//b", "a/b", false);
	path_is("//", "", true);
	path_is("/./a/.", "a", true);
	path_is("/%61%2eb", "a.b", false);
	path_is("/with%20space", "with space", false);
	path_is("/%c3%a4", "\xc3\xa4", false);
	path_is("/a%", NULL, false);
	path_is("/a%2", NULL, false);
	path_is("/a%2/b", NULL, false);
	path_is("/a%zz", NULL, false);
	path_is("/..", NULL, false);
	path_is("/a/../b", NULL, false);
	path_is("/a/%2e%2E/b", NULL, false);
	path_is("/a/.%2e", NULL, false);
	path_is("/..%2fb", NULL, false);
	path_is("/a%2Fb", NULL, false);
	path_is("/a%5cb", NULL, false);
	path_is("/a\\b", NULL, false);
	path_is("/a%00", NULL, false);
	path_is("/a%0a", NULL, false);
	path_is("/a%7f", NULL, false);
	path_is("/.git/config", NULL, false);
	path_is("/a/.hidden", NULL, false);
	path_is("/%2ehidden", NULL, false);
	path_is("/.well-known/acme-challenge/x", ".well-known/acme-challenge/x", false);
	path_is("/a/.well-known", NULL, false);
	path_is("/.well-knownx", NULL, false);
	path_is("", NULL, false);
	path_is("*", NULL, false);
	path_is("a", NULL, false);
	path_is("http://x/", NULL, false);
	/* lengths: whatever they are, out is not overrun, and what is taken fits */
	for (size_t n = 1; n < 6000; n += n < 300 || n > 4000 ? 1 : 97) {
		char in[6001], out[SITE_PATH];
		bool folder;
		for (size_t i = 0; i < n; i++)
			in[i] = i % 100 ? 'x' : '/';
		int got = site_path((struct str){in, n}, out, &folder);
		must(got < SITE_PATH && (got < 0 || (size_t)got < n));
		must((got >= 0) == (n < SITE_PATH - 1) || n > SITE_PATH - 4);
		memset(in + 1, 'x', n - 1);
		got = site_path((struct str){in, n}, out, &folder);
		must((got >= 0) == (n - 1 <= SITE_NAME));
	}
	char out[3 * SITE_PATH];
	size_t n = site_encode(STR("a b/\xc3\xa4?#%~"), out);
	must(str_eq((struct str){out, n}, STR("a%20b/%C3%A4%3F%23%25~")));
}

static void types_by_name(void)
{
	must(str_eq(site_type(STR("index.html")), STR("text/html; charset=utf-8")));
	must(str_eq(site_type(STR("a.b/c.CSS")), STR("text/css; charset=utf-8")));
	must(str_eq(site_type(STR("a.tar.gz")), STR("application/gzip")));
	must(str_eq(site_type(STR("a")), STR("application/octet-stream")));
	must(str_eq(site_type(STR("html")), STR("application/octet-stream")));
	must(str_eq(site_type(STR("dir.html/file")), STR("application/octet-stream")));
	must(str_eq(site_type(STR("")), STR("application/octet-stream")));
	must(str_eq(site_type(STR("x.")), STR("application/octet-stream")));
	must(str_eq(site_type(STR("x.averyveryverylongextension")),
		    STR("application/octet-stream")));
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		char name[32];
		must(!i || strcmp(types[i - 1].extension, types[i].extension) < 0);
		snprintf(name, sizeof name, "x.%s", types[i].extension);
		must(str_eq(site_type(str_of(name)), str_of(types[i].type)));
	}
}

static void dates(void)
{
	char out[SITE_DATE];
	int64_t t;
	const int64_t now = 1795505772;
	site_date(784111777, out);
	must(str_eq((struct str){out, SITE_DATE}, STR("Sun, 06 Nov 1994 08:49:37 GMT")));
	site_date(INT64_MAX, out);
	must(str_eq((struct str){out, SITE_DATE}, STR("Thu, 01 Jan 1970 00:00:00 GMT")));
	must(site_date_read(STR("Sun, 06 Nov 1994 08:49:37 GMT"), now, &t) && t == 784111777);
	must(site_date_read(STR("Sunday, 06-Nov-94 08:49:37 GMT"), now, &t) && t == 784111777);
	must(site_date_read(STR("Sun Nov  6 08:49:37 1994"), now, &t) && t == 784111777);
	must(site_date_read(STR("Sunday, 06-Nov-27 08:49:37 GMT"), now, &t) && t > now);
	static const char *const wrong[] = {"",
					    "nonsense",
					    "Sun, 06 Nov 1994 08:49:37",
					    "Sun, 06 Nov 1994 08:49:37 GMT ",
					    "Sun, 6 Nov 1994 08:49:37 GMT",
					    "Sun, 06 Nov 1994 24:49:37 GMT",
					    "Sun, 32 Nov 1994 08:49:37 GMT",
					    "Sun, 06 nov 1994 08:49:37 GMT",
					    "Sun, 06 Nov 1994 08:49:37 CET",
					    "784111777",
					    "Sun,",
					    "Sunday",
					    "Sun Nov"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		must(!site_date_read(str_of(wrong[i]), now, &t));
}

#define TAG "\"abc\""
#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"
#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define AFTER "Sun, 06 Nov 1994 08:49:38 GMT"

static void conditions(void)
{
	const struct site_validators v = {
		.etag = STR(TAG), .modified = 784111777, .now = 1795505772};
	const struct {
		const char *match, *none, *modified, *unmodified;
		enum site_verdict want;
	} rows[] = {
		{NULL, NULL, NULL, NULL, SITE_SEND},
		{TAG, NULL, NULL, NULL, SITE_SEND},
		{"*", NULL, NULL, NULL, SITE_SEND},
		{"\"x\", " TAG, NULL, NULL, NULL, SITE_SEND},
		{"\"x\",\"y\"", NULL, NULL, NULL, SITE_FAILED},
		{"W/" TAG, NULL, NULL, NULL, SITE_FAILED}, /* strong comparison */
		{"abc", NULL, NULL, NULL, SITE_FAILED},
		{"", NULL, NULL, NULL, SITE_FAILED},
		{TAG, NULL, NULL, BEFORE, SITE_SEND}, /* If-Match rules out If-Unmodified-Since */
		{NULL, NULL, NULL, DATE, SITE_SEND},
		{NULL, NULL, NULL, AFTER, SITE_SEND},
		{NULL, NULL, NULL, BEFORE, SITE_FAILED},
		{NULL, NULL, NULL, "nonsense", SITE_SEND},
		{NULL, TAG, NULL, NULL, SITE_NOT_MODIFIED},
		{NULL, "W/" TAG, NULL, NULL, SITE_NOT_MODIFIED},
		{NULL, "*", NULL, NULL, SITE_NOT_MODIFIED},
		{NULL, "\"x\" , W/\"y\",," TAG, NULL, NULL, SITE_NOT_MODIFIED},
		{NULL, "\"x\"", NULL, NULL, SITE_SEND},
		{NULL, "\"x\"", DATE, NULL,
		 SITE_SEND}, /* If-None-Match rules out If-Modified-Since */
		{NULL, NULL, DATE, NULL, SITE_NOT_MODIFIED},
		{NULL, NULL, AFTER, NULL, SITE_NOT_MODIFIED},
		{NULL, NULL, BEFORE, NULL, SITE_SEND},
		{NULL, NULL, "nonsense", NULL, SITE_SEND},
		{"\"x\"", TAG, NULL, NULL, SITE_FAILED}, /* If-Match first */
		{TAG, TAG, NULL, NULL, SITE_NOT_MODIFIED},
		{NULL, TAG, NULL, BEFORE, SITE_FAILED},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct site_conditions c = {.if_match = str_of(rows[i].match),
						  .if_none_match = str_of(rows[i].none),
						  .if_modified_since = str_of(rows[i].modified),
						  .if_unmodified_since =
							  str_of(rows[i].unmodified)};
		enum site_verdict got = site_evaluate(&c, &v);
		if (got != rows[i].want)
			fprintf(stderr, "row %zu: %d, not %d\n", i, got, rows[i].want);
		must(got == rows[i].want);
	}
	static const struct {
		const char *if_range;
		bool holds;
	} ranges[] = {{NULL, true},     {TAG, true},           {"W/" TAG, false},
		      {"\"x\"", false}, {TAG ",\"x\"", false}, {DATE, true},
		      {BEFORE, false},  {AFTER, false},        {"abc", false}};
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
		must(site_range_holds(
			     &(struct site_conditions){.if_range = str_of(ranges[i].if_range)},
			     &v) == ranges[i].holds);
	/* written in this very second: the date is no strong validator yet */
	const struct site_validators fresh = {
		.etag = STR(TAG), .modified = 784111777, .now = 784111777};
	must(!site_range_holds(&(struct site_conditions){.if_range = STR(DATE)}, &fresh));
}

static void ranges_are(const char *value, uint64_t size, const char *want)
{
	struct site_range r[SITE_RANGES];
	char got[256];
	size_t at = 0;
	int n = site_ranges(str_of(value), size, r);
	at += (size_t)snprintf(got, sizeof got, "%d", n);
	for (int i = 0; i < n; i++)
		at += (size_t)snprintf(got + at, sizeof got - at, " %llu-%llu",
				       (unsigned long long)r[i].from, (unsigned long long)r[i].to);
	if (strcmp(got, want))
		fprintf(stderr, "%s of %llu: %s, not %s\n", value, (unsigned long long)size, got,
			want);
	must(!strcmp(got, want));
}

static void ranges(void)
{
	ranges_are("bytes=0-9", 100, "1 0-10");
	ranges_are("BYTES = 0-9", 100, "1 0-10");
	ranges_are("bytes=90-", 100, "1 90-100");
	ranges_are("bytes=90-999", 100, "1 90-100");
	ranges_are("bytes=-10", 100, "1 90-100");
	ranges_are("bytes=-1000", 100, "1 0-100");
	ranges_are("bytes=0-0", 100, "1 0-1");
	ranges_are("bytes=99-99", 100, "1 99-100");
	ranges_are("bytes=100-", 100, "-1");
	ranges_are("bytes=100-,200-", 100, "-1");
	ranges_are("bytes=-0", 100, "-1");
	ranges_are("bytes=0-", 0, "-1");
	ranges_are("bytes=-5", 0, "-1");
	ranges_are("bytes=0-1,5-6, 9-", 100, "3 0-2 5-7 9-100");
}

static void broken_ranges(void)
{
	ranges_are("bytes=0-1,5-6, 90-", 100, "3 0-2 5-7 90-100");
	ranges_are("bytes=0-1,200-300", 100, "1 0-2");
	ranges_are("bytes=,0-1,", 100, "1 0-2");
	ranges_are("bytes=0-99,0-99", 100, "0");
	ranges_are("bytes=9-5", 100, "0");
	ranges_are("bytes=", 100, "0");
	ranges_are("bytes=,", 100, "0");
	ranges_are("bytes", 100, "0");
	ranges_are("lines=0-1", 100, "0");
	ranges_are("bytes=a-b", 100, "0");
	ranges_are("bytes=1", 100, "0");
	ranges_are("bytes=--1", 100, "0");
	ranges_are("bytes=1-2-3", 100, "0");
	ranges_are("bytes=1 -2", 100, "0");
	ranges_are("bytes=0-1,x", 100, "0");
	ranges_are("bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14", 100,
		   "8 0-1 2-3 4-5 6-7 8-9 10-11 12-13 14-15");
	ranges_are("bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16", 100, "0");
	ranges_are("bytes=18446744073709551615-", 100, "-1");
	ranges_are("bytes=99999999999999999999999-", 100, "-1");
	ranges_are("bytes=0-99999999999999999999999", 100, "1 0-100");
	ranges_are("bytes=-99999999999999999999999", 100, "1 0-100");
}

/* --- opening --- */

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	must(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* The first byte of what name opens; '-': nothing. */
static char first(int (*opens)(int, const char *), int root, const char *name)
{
	char c = '?';
	int fd = opens(root, name);
	if (fd < 0)
		return '-';
	if (read(fd, &c, 1) != 1)
		c = '/'; /* a folder */
	close(fd);
	return c;
}

static void opening(void)
{
	char base[] = "/tmp/postern-site-test-XXXXXX", path[256];
	must(mkdtemp(base) && chdir(base) == 0);
	must(mkdir("root", 0755) == 0 && mkdir("root/sub", 0755) == 0);
	write_file("outside", "o");
	write_file("root/file", "f");
	write_file("root/sub/file", "s");
	snprintf(path, sizeof path, "%s/outside", base);
	must(symlink("../outside", "root/up") == 0 && symlink(path, "root/absolute") == 0 &&
	     symlink("sub/file", "root/within") == 0);
	must(symlink("..", "root/sub/parent") == 0 &&
	     symlink("../..", "root/sub/grandparent") == 0 && symlink("loop", "root/loop") == 0);
	must(mkfifo("root/pipe", 0644) == 0);
	int root = open("root", O_RDONLY | O_DIRECTORY);
	must(root >= 0);
	static const struct {
		const char *name;
		char beneath, walked; /* by openat2; folder by folder */
	} rows[] = {
		{"file", 'f', 'f'},
		{"sub/file", 's', 's'},
		{"sub", '/', '/'},
		{"none", '-', '-'},
		{"file/x", '-', '-'},
		{"up", '-', '-'},
		{"absolute", '-', '-'},
		{"within", 's', '-'},
		{"sub/parent/file", 'f', '-'},
		{"sub/grandparent/outside", '-', '-'},
		{"../outside", '-', '?'},
		{"loop", '-', '-'},
		{"/etc/passwd", '-', '-'},
		{"sub//file", 's', '-'},
		{"pipe", '/', '/'},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char got = first(site_open, root, rows[i].name);
		if (got != rows[i].beneath)
			fprintf(stderr, "%s: %c, not %c\n", rows[i].name, got, rows[i].beneath);
		must(got == rows[i].beneath);
		if (rows[i].walked == '?') /* site_path never gives such a name */
			continue;
		got = first(walk, root, rows[i].name);
		if (got != rows[i].walked)
			fprintf(stderr, "walking %s: %c, not %c\n", rows[i].name, got,
				rows[i].walked);
		must(got == rows[i].walked);
	}
	close(root);
	static const char *const files[] = {
		"outside",       "root/file",   "root/sub/file",   "root/up",
		"root/absolute", "root/within", "root/sub/parent", "root/sub/grandparent",
		"root/loop",     "root/pipe"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(files[i]);
	must(rmdir("root/sub") == 0 && rmdir("root") == 0 && chdir("/") == 0 && rmdir(base) == 0);
}

int main(void)
{
	paths();
	types_by_name();
	dates();
	conditions();
	ranges();
	broken_ranges();
	opening();
	return 0;
}

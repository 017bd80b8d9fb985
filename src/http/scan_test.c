/* src/http/scan_test.c: the class table from the grammar, and the wide loops against the narrow
 * ones. */
#include "base/must.h"
#include "http/scan_int.h"
#include <stdlib.h>
#include <string.h>

static bool among(int c, const char *set)
{
	return c && strchr(set, c);
}

static void test_table(void)
{
	for (int c = 0; c < 256; c++) {
		bool digit = c >= '0' && c <= '9';
		bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
		bool text = c == '\t' || (c >= 0x20 && c != 0x7f);
		unsigned want = 0;
		want |= digit || alpha || among(c, "!#$%&'*+-.^_`|~") ? SCAN_TOKEN : 0;
		want |= c > 0x20 && c < 0x7f && c != '#' ? SCAN_TARGET : 0;
		want |= text ? SCAN_VALUE : 0;
		want |= digit || alpha || among(c, "-._~!$&'()*+;=") ? SCAN_HOST : 0;
		want |= digit || alpha || among(c, "-._~") ? SCAN_UNRESERVED : 0;
		want |= digit || among(c, "abcdefABCDEF") ? SCAN_HEX : 0;
		want |= text && c != '"' && c != '\\' ? SCAN_QUOTED : 0;
		want |= digit ? SCAN_DIGIT : 0;
		must(scan_class[c] == want);
	}
}

static bool plain(const char *q, size_t n, const char *but)
{
	for (size_t i = 0; i < n; i++)
		if (!(scan_is(q[i], SCAN_TOKEN) && !among(q[i], but)))
			return false;
	return true;
}

static const char *least(const char *a, const char *b)
{
	return a < b ? a : b;
}

/* Every byte at every place of every length up to 40, in blocks that end 16 bytes behind. */
static void test_loops(void)
{
	for (size_t n = 0; n <= 40; n++) {
		char *p = malloc(n + 16);
		must(p);
		for (size_t at = 0; at < n + 16; at++) {
			for (unsigned c = 0; c < 256; c++) {
				memset(p, 'a', n + 16);
				p[at] = (char)c;
				const char *end = p + n;
				const char *colon = memchr(p, ':', n);
				must(least(scan_value(p, end), end) ==
				     scan_while(p, end, SCAN_VALUE));
				must(least(scan_target(p, end), end) ==
				     scan_while(p, end, SCAN_TARGET));
				must(least(scan_colon(p, end), end) == (colon ? colon : end));
				must(!SCAN_SSE2 ||
				     scan_plain_name(p, n) == plain(p, n, "!#$%&'*+.^_`|~"));
				must(!SCAN_SSE2 ||
				     scan_plain_host(p, n) == (n && plain(p, n, "!#$%&'*+^_`|~")));
			}
		}
		free(p);
	}
}

int main(void)
{
	test_table();
	test_loops();
	return 0;
}

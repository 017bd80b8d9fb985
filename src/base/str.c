/* src/base/str.c */
#include "base/str.h"

bool str_cut(struct str s, char sep, struct str *before, struct str *after)
{
	const char *at = s.n ? memchr(s.p, sep, s.n) : NULL;
	if (!at) {
		*before = s;
		*after = (struct str){s.p + s.n, 0};
		return false;
	}
	*before = (struct str){s.p, (size_t)(at - s.p)};
	*after = (struct str){at + 1, s.n - before->n - 1};
	return true;
}

struct str str_trim(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

ptrdiff_t str_find(struct str s, struct str needle)
{
	if (needle.n == 0)
		return 0;
	if (needle.n > s.n)
		return -1;
	const char *at = memmem(s.p, s.n, needle.p, needle.n);
	return at ? at - s.p : -1;
}

bool str_u64(struct str s, uint64_t *out)
{
	uint64_t v = 0;
	if (s.n == 0)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		unsigned d = (unsigned)(unsigned char)s.p[i] - '0';
		if (d > 9 || v > (UINT64_MAX - d) / 10)
			return false;
		v = v * 10 + d;
	}
	*out = v;
	return true;
}

int str_cmp(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int r = n ? memcmp(a.p, b.p, n) : 0;
	return r ? r : (a.n > b.n) - (a.n < b.n);
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Words longer than this are never near anything but themselves: keeps the rows on the stack. */
enum { WORD_MAX = 128 };

unsigned str_distance(struct str a, struct str b, unsigned cap)
{
	unsigned row[3][WORD_MAX + 1];
	unsigned *before = row[0], *above = row[1], *now = row[2];

	if (str_eq(a, b))
		return 0;
	size_t apart = a.n > b.n ? a.n - b.n : b.n - a.n;
	if (apart > cap || a.n > WORD_MAX || b.n > WORD_MAX)
		return cap + 1;
	for (unsigned j = 0; j <= b.n; j++)
		above[j] = j;
	for (size_t i = 1; i <= a.n; i++) {
		unsigned best = now[0] = (unsigned)i;
		for (size_t j = 1; j <= b.n; j++) {
			unsigned d = above[j - 1] + (a.p[i - 1] != b.p[j - 1]);
			d = least(d, least(above[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1])
				d = least(d, before[j - 2] + 1);
			now[j] = d;
			best = least(best, d);
		}
		if (best > cap) /* a swap reaches one row further back, but costs 1 itself */
			return cap + 1;
		unsigned *spare = before;
		before = above, above = now, now = spare;
	}
	return least(above[b.n], cap + 1);
}

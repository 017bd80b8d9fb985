/* src/filters/static/site_path.c: from request paths to file names and back. */
#include "filters/static/site.h"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One segment, decoded behind *n. False: refused. */
static bool segment(struct str s, char *out, size_t *n)
{
	size_t at = *n;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '%') {
			int hi = s.n - i > 2 ? hex_digit(s.p[i + 1]) : -1,
			    lo = hi < 0 ? -1 : hex_digit(s.p[i + 2]);
			if (hi < 0 || lo < 0)
				return false;
			c = (unsigned char)(hi << 4 | lo);
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || c == '/' || c == '\\' || at - *n == SITE_NAME ||
		    at + 2 >= SITE_PATH)
			return false;
		out[at++] = (char)c;
	}
	*n = at;
	return true;
}

int site_path(struct str path, char *out, bool *folder)
{
	size_t n = 0;
	if (path.n == 0 || path.p[0] != '/')
		return -1;
	*folder = true;
	for (size_t i = 1; i <= path.n;) {
		const char *slash = i < path.n ? memchr(path.p + i, '/', path.n - i) : NULL;
		size_t end = slash ? (size_t)(slash - path.p) : path.n, start = n;
		if (n)
			out[n++] = '/';
		size_t name = n;
		if (!segment((struct str){path.p + i, end - i}, out, &n))
			return -1;
		struct str s = {out + name, n - name};
		*folder = slash != NULL || s.n == 0;
		if (s.n == 0 || str_eq(s, STR("."))) {
			*folder = true;
			n = start;
		} else if (s.p[0] == '.' &&
			   !(name == 0 && str_eq(s, STR(".well-known")))) { /* RFC 8615 */
			return -1;
		}
		i = end + 1;
	}
	out[n] = 0;
	return (int)n;
}

size_t site_encode(struct str name, char *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;
	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];
		bool keep = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			    (c >= '0' && c <= '9') || (c && strchr("/-._~!$&'()*+,;=:@", c));
		if (keep) {
			out[n++] = (char)c;
		} else {
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	return n;
}

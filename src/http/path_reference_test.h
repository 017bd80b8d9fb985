/* src/http/path_reference_test.h: path normalization a second time, in steps over copies; for
 * path_test and its fuzzer. */
#pragma once
#include "base/must.h"
#include "http/h1.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

struct path_want {
	char *p; /* malloc'd, NUL behind */
	ptrdiff_t n;
	bool slash;
};

/* long: the three steps of the RFC one after the other. */
static inline struct path_want ref_path(const char *p, size_t n, bool dots, bool merge,
					bool unescape)
{
	struct path_want w = {.p = calloc(1, n * 2 + 2)};
	const char *q = n ? memchr(p, '?', n) : NULL;
	size_t path = q ? (size_t)(q - p) : n, k = 0;
	char *s = calloc(1, n + 2), *t = calloc(1, n + 2);
	must(w.p && s && t);
	if (n == 0 || *p != '/') {
		memcpy(w.p, p, n);
		w.n = (ptrdiff_t)n;
		goto out;
	}
	/* 1. escapes */
	for (size_t i = 0; i < path; i++) {
		unsigned byte = 0;
		bool esc = p[i] == '%' && i + 2 < path && isxdigit((unsigned char)p[i + 1]) &&
			   isxdigit((unsigned char)p[i + 2]);
		if (esc)
			byte = (unsigned)strtoul((char[3]){p[i + 1], p[i + 2], 0}, NULL, 16);
		if (p[i] == '%' && dots && (!esc || byte == 0)) {
			w.n = -1;
			goto out;
		}
		if (!esc) {
			s[k++] = p[i] == '\\' && dots ? '/' : p[i];
			continue;
		}
		bool is_slash = byte == '/' || byte == '\\';
		w.slash |= is_slash;
		if (is_slash && unescape)
			s[k++] = dots ? '/' : (char)byte;
		else if (dots && byte < 128 && (isalnum((int)byte) || strchr("-._~", (int)byte)))
			s[k++] = (char)byte;
		else
			k += (size_t)sprintf(s + k, "%%%c%c",
					     dots ? toupper((unsigned char)p[i + 1]) : p[i + 1],
					     dots ? toupper((unsigned char)p[i + 2]) : p[i + 2]);
		i += 2;
	}
	/* 2. dot segments: a stack of the places where segments begin */
	if (dots) {
		size_t *start = calloc(k + 1, sizeof *start), depth = 0, len = 0;
		must(start);
		for (size_t i = 0; i < k;) {
			size_t e = i + 1;
			while (e < k && s[e] != '/')
				e++;
			size_t seg = e - i - 1;
			bool one = seg == 1 && s[i + 1] == '.',
			     two = seg == 2 && s[i + 1] == '.' && s[i + 2] == '.';
			if (two && depth)
				len = start[--depth];
			if ((one || two) && e == k)
				t[len++] = '/';
			if (!one && !two) {
				start[depth++] = len;
				memcpy(t + len, s + i, e - i);
				len += e - i;
			}
			i = e;
		}
		free(start);
		memcpy(s, t, len);
		k = len;
	}
	/* 3. slashes */
	w.n = 0;
	for (size_t i = 0; i < k; i++)
		if (!merge || s[i] != '/' || w.n == 0 || w.p[w.n - 1] != '/')
			w.p[w.n++] = s[i];
	memcpy(w.p + w.n, p + path, n - path);
	w.n += (ptrdiff_t)(n - path);
out:
	free(s);
	free(t);
	return w;
}

/* Against the reference, in memory that ends where it says; then what holds of every result. */
static inline void check_path(const char *p, size_t n, bool dots, bool merge, bool unescape)
{
	struct path_want w = ref_path(p, n, dots, merge, unescape);
	char *buf = malloc(n ? n : 1);
	bool slash;
	must(buf);
	memcpy(buf, p, n);
	ptrdiff_t got = path_normalize(buf, n, dots, merge, unescape, &slash);
	bool same = got == w.n && (got < 0 || (slash == w.slash && !memcmp(buf, w.p, (size_t)got)));
	if (!same)
		fprintf(stderr, "%.*s (%d%d%d): %.*s, expected %s\n", (int)n, p, dots, merge,
			unescape, got < 0 ? 2 : (int)got, got < 0 ? "-1" : buf,
			w.n < 0 ? "-1" : w.p);
	must(same);
	if (got >= 0 && dots && n && *p == '/') {
		must(got > 0 && buf[0] == '/');
		for (ptrdiff_t i = 0; i < got && buf[i] != '?'; i++) {
			ptrdiff_t e = i + 1;
			if (buf[i] != '/')
				continue;
			while (e < got && buf[e] != '/' && buf[e] != '?')
				e++;
			must(!(e - i == 2 && buf[i + 1] == '.'));
			must(!(e - i == 3 && buf[i + 1] == '.' && buf[i + 2] == '.'));
			must(!(merge && e - i == 1 && e < got && buf[e] == '/'));
		}
		/* once more changes nothing */
		char *again = malloc((size_t)got);
		must(again);
		memcpy(again, buf, (size_t)got);
		must(path_normalize(again, (size_t)got, dots, merge, unescape, &slash) == got);
		must(!memcmp(again, buf, (size_t)got));
		free(again);
	}
	free(buf);
	free(w.p);
}

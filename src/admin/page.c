/* src/admin/page.c */
#include "admin/page.h"
#include "base/mem.h"
#include "base/must.h"
#include <stdarg.h>
#include <stdio.h>

void page_add(struct page *p, struct str s)
{
	if (s.n && !p->failed && !chain_copy(&p->body, s.p, s.n))
		p->failed = true;
}

void page_addf(struct page *p, const char *fmt, ...)
{
	char b[1024];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(b, sizeof b, fmt, ap);
	va_end(ap);
	must(n >= 0);
	if ((size_t)n < sizeof b) {
		page_add(p, (struct str){b, (size_t)n});
		return;
	}
	char *more = mem_alloc(MEM_OTHER, (size_t)n + 1);
	if (!more) {
		p->failed = true;
		return;
	}
	va_start(ap, fmt);
	vsnprintf(more, (size_t)n + 1, fmt, ap);
	va_end(ap);
	page_add(p, (struct str){more, (size_t)n});
	mem_free(MEM_OTHER, more);
}

static void escaped(struct page *p, struct str s)
{
	char b[256];
	size_t n = 0;
	page_add(p, STR("\""));
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (n + 8 > sizeof b) {
			page_add(p, (struct str){b, n});
			n = 0;
		}
		if (c == '"' || c == '\\') {
			b[n++] = '\\';
			b[n++] = (char)c;
		} else if (c < 0x20 ||
			   c == 0x7f) { /* what is shown here is configured, so it is UTF-8 */
			n += (size_t)snprintf(b + n, 8, "\\u%04x", c);
		} else {
			b[n++] = (char)c;
		}
	}
	page_add(p, (struct str){b, n});
	page_add(p, STR("\""));
}

static void line(struct page *p)
{
	static const char blanks[JSON_DEPTH + 2] = "\n                                ";
	if (!p->compact)
		page_add(p, (struct str){blanks, p->depth + 1});
}

static void member(struct page *p, struct str key)
{
	if (p->some[p->depth])
		page_add(p, STR(","));
	if (p->depth)
		line(p);
	p->some[p->depth] = true;
	if (!key.p)
		return;
	escaped(p, key);
	page_add(p, p->compact ? STR(":") : STR(": "));
}

void json_open(struct page *p, const char *key, char bracket)
{
	must(p->depth < JSON_DEPTH);
	member(p, str_of(key));
	page_add(p, (struct str){&bracket, 1});
	p->close[p->depth++] = bracket == '{' ? '}' : ']';
	p->some[p->depth] = false;
}

void json_close(struct page *p)
{
	must(p->depth > 0);
	bool some = p->some[p->depth];
	char c = p->close[--p->depth];
	if (some)
		line(p);
	page_add(p, (struct str){&c, 1});
	if (!p->depth && !p->compact)
		page_add(p, STR("\n"));
}

void json_field(struct page *p, const char *key, const char *value)
{
	member(p, str_of(key));
	page_add(p, str_of(value));
}

void json_string_at(struct page *p, struct str key, struct str value)
{
	member(p, key);
	escaped(p, value);
}

void json_string(struct page *p, const char *key, struct str value)
{
	json_string_at(p, str_of(key), value);
}

void json_number(struct page *p, const char *key, uint64_t value)
{
	member(p, str_of(key));
	page_addf(p, "%llu", (unsigned long long)value);
}

void json_quoted(struct page *p, const char *key, uint64_t value)
{
	member(p, str_of(key));
	page_addf(p, "\"%llu\"", (unsigned long long)value);
}

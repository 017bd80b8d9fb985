/* src/exchange/format_int.h: writing formatted text into a space of fixed size, escaped. */
#pragma once
#include "exchange/format.h"

/* What happens to bytes that came from outside. */
enum escape {
	ESCAPE_NONE, /* header values */
	ESCAPE_LINE, /* text log lines: outside 0x20..0x7e, '"' and '\' become \xNN */
	ESCAPE_JSON  /* inside JSON strings; bytes that are no UTF-8 become \u00NN */
};

/* Bytes that do not fit are counted in lost and left out, so that a second attempt can have the right size. */
struct out {
	char *p, *end;
	size_t lost;
	enum escape escape;
	size_t longest; /* at most so many bytes of one text */
	bool dash;	/* an operator without value is written as "-" */
	bool mark_null; /* JSON: a value that is null is written as OUT_NULL, for out_drop_nulls */
};
enum { OUT_NULL = 1 };

static inline void out_init(struct out *o, char *p, size_t n, enum escape escape)
{
	*o = (struct out){.p = p, .end = p + n, .escape = escape, .longest = SIZE_MAX};
}

/* As they are. */
static inline void out_bytes(struct out *o, const char *p, size_t n)
{
	if (__builtin_expect((size_t)(o->end - o->p) < n, 0)) {
		o->lost += n;
		return;
	}
	if (n == 1)
		*o->p = *p;
	else if (n)
		memcpy(o->p, p, n);
	o->p += n;
}
static inline void out_byte(struct out *o, char c)
{
	if (o->p < o->end)
		*o->p++ = c;
	else
		o->lost++;
}
void out_number(struct out *o, uint64_t n);
/* Escaped as o->escape says. */
void out_text(struct out *o, struct str s);
struct value;
/* A JSON text of the value; its strings are escaped for JSON whatever o->escape says. ascii: \uNNNN for all others. */
void out_value(struct out *o, const struct value *v, bool ascii);
/* Writes the parts of f. */
void out_format(struct out *o, struct exchange *ex, const struct format *f);
/* Members and list elements that are OUT_NULL go, and objects that are then empty (not lists); in place. n: bytes of the JSON text at p; returns what is left. */
size_t out_drop_nulls(char *p, size_t n);

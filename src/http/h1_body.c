/* src/http/h1_body.c
 *
 * Bodies by length, chunked (RFC 9112 7.1) or until close. Chunked framing is read byte by byte through a
 * small state machine, data passes as slices. Nothing behind the message's end is touched.
 */
#include "http/h1.h"
#include "http/scan_int.h"

enum state {
	C_SIZE,           /* digits */
	C_EXT_BLANK,      /* a blank where only ';' can follow */
	C_EXT_NAME_FIRST, /* behind ';' */
	C_EXT_NAME,
	C_EXT_NAME_BLANK, /* only '=' or ';' can follow */
	C_EXT_VALUE_FIRST,
	C_EXT_TOKEN,
	C_EXT_QUOTED,
	C_EXT_ESCAPED,
	C_EXT_QUOTED_END,
	C_SIZE_LF,
	C_DATA,
	C_DATA_CR,
	C_DATA_LF,
	C_TRAILER_FIRST,
	C_TRAILER_NAME,
	C_TRAILER_VALUE,
	C_TRAILER_LF,
	C_END_LF
};

static const char bad_chunk[] = "http1.chunk";
static const char bad_trailer[] = "http1.trailer";
static const char too_large[] = "http1.too_large";
static const char no_memory[] = "out_of_memory";

void h1_body_init(struct h1_body *b, enum h1_framing framing, uint64_t length,
		  struct head *trailers)
{
	*b = (struct h1_body){.framing = (uint8_t)framing,
			      .left = framing == H1_LENGTH ? length : 0,
			      .trailers = trailers,
			      .arena = trailers ? trailers->arena : NULL};
	b->ended = framing == H1_NO_BODY || (framing == H1_LENGTH && length == 0);
}

static enum h1_verdict bad(struct h1_body *b, unsigned status, const char *detail)
{
	b->status = (uint16_t)status;
	b->detail = detail;
	return H1_BAD;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* One more byte of a chunk line. -1: not here. */
static int size_step(struct h1_body *b, char c)
{
	if (scan_is(c, SCAN_HEX)) {
		if (b->digits == 16 || b->left >> 59) /* at most 2^63-1 */
			return -1;
		unsigned d = (unsigned char)c;
		b->left = b->left << 4 | (d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
		b->digits++;
		return C_SIZE;
	}
	if (b->digits == 0)
		return -1;
	return c == '\r' ? C_SIZE_LF : c == ';' ? C_EXT_NAME_FIRST : is_blank(c) ? C_EXT_BLANK : -1;
}

/* RFC 9112 7.1.1 with the blanks it calls bad. -1: not here. */
static int ext_step(enum state state, char c)
{
	const bool token = scan_is(c, SCAN_TOKEN);
	switch (state) {
	case C_EXT_BLANK: return is_blank(c) ? C_EXT_BLANK : c == ';' ? C_EXT_NAME_FIRST : -1;
	case C_EXT_NAME_FIRST: return is_blank(c) ? C_EXT_NAME_FIRST : token ? C_EXT_NAME : -1;
	case C_EXT_NAME:
		if (token)
			return C_EXT_NAME;
		if (c == '\r')
			return C_SIZE_LF;
		__attribute__((fallthrough));
	case C_EXT_NAME_BLANK:
		return is_blank(c) ? C_EXT_NAME_BLANK
		       : c == '='  ? C_EXT_VALUE_FIRST
		       : c == ';'  ? C_EXT_NAME_FIRST
				   : -1;
	case C_EXT_VALUE_FIRST:
		return is_blank(c) ? C_EXT_VALUE_FIRST
		       : token     ? C_EXT_TOKEN
		       : c == '"'  ? C_EXT_QUOTED
				   : -1;
	case C_EXT_QUOTED:
		return c == '"'                  ? C_EXT_QUOTED_END
		       : c == '\\'               ? C_EXT_ESCAPED
		       : scan_is(c, SCAN_QUOTED) ? C_EXT_QUOTED
						 : -1;
	case C_EXT_ESCAPED: return scan_is(c, SCAN_VALUE) ? C_EXT_QUOTED : -1;
	case C_EXT_TOKEN:
		if (token)
			return C_EXT_TOKEN;
		__attribute__((fallthrough));
	case C_EXT_QUOTED_END:
		return c == '\r'     ? C_SIZE_LF
		       : c == ';'    ? C_EXT_NAME_FIRST
		       : is_blank(c) ? C_EXT_BLANK
				     : -1;
	default: return -1;
	}
}

/* Bytes [q, end) of the line that announces a chunk; H1_DONE: the line is complete, *at behind
 * it. */
static enum h1_verdict chunk_line(struct h1_body *b, const struct h1_limits *lim, const char **at,
				  const char *end)
{
	const char *q = *at;
	for (; q < end; q++) {
		if (b->state == C_SIZE_LF) {
			if (*q != '\n')
				break;
			*at = q + 1;
			b->state = b->left ? C_DATA : C_TRAILER_FIRST;
			return H1_DONE;
		}
		int next = b->state == C_SIZE ? size_step(b, *q) : ext_step(b->state, *q);
		if (next < 0)
			break;
		b->state = (uint8_t)next;
		if (next != C_SIZE && next != C_SIZE_LF) {
			b->ext++;
			b->ext_total++;
			if (b->digits + (uint32_t)b->ext > lim->chunk_line ||
			    b->ext_total > lim->chunk_ext) {
				*at = q;
				return bad(b, 400, too_large);
			}
		}
	}
	*at = q;
	return q < end ? bad(b, 400, bad_chunk) : H1_MORE;
}

/* A trailer line is complete in b->line. False: no memory. */
static bool take_trailer(struct h1_body *b)
{
	struct str name, value;
	str_cut((struct str){b->line, b->line_n}, ':', &name, &value);
	b->line_n = 0;
	if (!name_may_trail(name))
		return true;
	return head_add_copy(b->trailers, name, str_trim(value));
}

static bool gather(struct h1_body *b, char c)
{
	if (!b->arena)
		return true;
	if (b->line_n == b->line_cap) {
		uint32_t cap = b->line_cap ? b->line_cap * 2 : 256;
		char *line = arena_alloc(b->arena, cap);
		if (!line)
			return false;
		if (b->line_n)
			memcpy(line, b->line, b->line_n);
		b->line = line;
		b->line_cap = cap;
	}
	b->line[b->line_n++] = c;
	return true;
}

/* One byte of the trailer section, which ends the message in C_END_LF. -1: bad syntax. */
static int trailer_step(const struct h1_body *b, char c)
{
	switch (b->state) {
	case C_TRAILER_FIRST:
		return c == '\r' ? C_END_LF : scan_is(c, SCAN_TOKEN) ? C_TRAILER_NAME : -1;
	case C_TRAILER_NAME:
		return c == ':' ? C_TRAILER_VALUE : scan_is(c, SCAN_TOKEN) ? C_TRAILER_NAME : -1;
	case C_TRAILER_VALUE:
		return c == '\r' ? C_TRAILER_LF : scan_is(c, SCAN_VALUE) ? C_TRAILER_VALUE : -1;
	default: return c == '\n' ? C_TRAILER_FIRST : -1;
	}
}

static enum h1_verdict trailer_section(struct h1_body *b, const struct h1_limits *lim,
				       const char **at, const char *end)
{
	for (; *at < end; ++*at) {
		char c = **at;
		int next = trailer_step(b, c);
		if (next < 0)
			return bad(b, 400, bad_trailer);
		if (b->state == C_END_LF) {
			++*at;
			b->ended = true;
			return H1_DONE;
		}
		if (++b->trailer_bytes > lim->trailer)
			return bad(b, 431, too_large);
		if (b->state == C_TRAILER_FIRST && next == C_TRAILER_NAME &&
		    ++b->trailer_fields > lim->trailer_fields)
			return bad(b, 431, too_large);
		if ((next == C_TRAILER_NAME || next == C_TRAILER_VALUE) && !gather(b, c))
			return bad(b, 503, no_memory);
		if (next == C_TRAILER_FIRST && b->arena && !take_trailer(b))
			return bad(b, 503, no_memory);
		b->state = (uint8_t)next;
	}
	return H1_MORE;
}

static enum h1_verdict feed_chunked(struct h1_body *b, const struct h1_limits *lim, const char *p,
				    size_t n, size_t *used, struct str *data)
{
	const char *q = p, *end = p + n;
	enum h1_verdict r = H1_MORE;
	while (q < end && r == H1_MORE) {
		switch (b->state) {
		case C_DATA: {
			if (data->n)
				goto out; /* one slice a call */
			size_t take =
				(uint64_t)(end - q) < b->left ? (size_t)(end - q) : (size_t)b->left;
			*data = (struct str){q, take};
			q += take;
			b->total += take;
			b->left -= take;
			if (b->left == 0)
				b->state = C_DATA_CR;
			break;
		}
		case C_DATA_CR:
		case C_DATA_LF:
			if (*q != (b->state == C_DATA_CR ? '\r' : '\n')) {
				r = bad(b, 400, bad_chunk);
				break;
			}
			q++;
			if (b->state++ == C_DATA_LF) {
				b->state = C_SIZE;
				b->digits = 0;
				b->ext = 0;
			}
			break;
		case C_TRAILER_FIRST:
		case C_TRAILER_NAME:
		case C_TRAILER_VALUE:
		case C_TRAILER_LF:
		case C_END_LF: r = trailer_section(b, lim, &q, end); break;
		default:
			r = chunk_line(b, lim, &q, end);
			if (r == H1_DONE)
				r = H1_MORE;
		}
	}
out:
	*used = (size_t)(q - p);
	return r;
}

enum h1_verdict h1_body_feed(struct h1_body *b, const struct h1_limits *lim, const char *p,
			     size_t n, size_t *used, struct str *data)
{
	*used = 0;
	*data = (struct str){p, 0};
	if (b->ended)
		return H1_DONE;
	if (b->framing == H1_CHUNKED)
		return feed_chunked(b, lim, p, n, used, data);
	size_t take = b->framing == H1_LENGTH && n > b->left ? (size_t)b->left : n;
	data->n = *used = take;
	b->total += take;
	if (b->framing != H1_LENGTH)
		return H1_MORE;
	b->left -= take;
	b->ended = b->left == 0;
	return b->ended ? H1_DONE : H1_MORE;
}

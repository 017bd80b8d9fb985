/* src/http/h1.h
 *
 * HTTP/1 (RFC 9112), both directions: strict parser of heads in place, body decoder, canonical serializer.
 * Pure: bytes in, events out; no sockets, no time. Verdicts: robustness.md 2, 3.1, 3.2.
 */
#pragma once
#include "http/head.h"

struct h1_limits {
	uint32_t head;   /* bytes of the whole head */
	uint32_t fields; /* number */
	uint32_t target, method, name;
	uint32_t chunk_line, chunk_ext, trailer, trailer_fields;
};
extern const struct h1_limits h1_default_limits;

enum h1_verdict {
	H1_MORE, /* incomplete so far, nothing wrong */
	H1_DONE,
	H1_BAD /* error is set; nothing more may be parsed on this connection */
};

/* Parsing a head that arrives in parts: zero it, call the parser with all bytes since the head began (the same bytes,
 * more of them; after they moved in memory, h1_moved first). Bytes already judged are not judged again. */
struct h1_parse {
	uint32_t at;   /* start of the line being parsed */
	uint32_t seen; /* bytes of it already scanned */
	uint8_t state;
	uint8_t version_minor;
	bool chunked, has_length, has_te, bad_te, host_seen, keep_alive, close, upgrade,
		te_trailers, expect_continue;
	bool fold;       /* response: last field was continued */
	bool underscore; /* a field's name has '_' in it: look which (headers_with_underscores_action) */
	bool absolute;                   /* request: the authority came with the target */
	uint8_t target_scheme;           /* enum h1_scheme: absolute form only */
	uint16_t status;                 /* H1_BAD: what to answer (requests; 502 for responses) */
	uint32_t fields;                 /* lines so far */
	uint32_t mark, val, val_n, cont; /* h1_parse.c: offsets from the head's start */
	uint64_t length;
	const char *detail; /* robustness.md 3.1 word, static; for responses the same words */
};
enum h1_scheme { H1_SCHEME_NONE, H1_SCHEME_HTTP, H1_SCHEME_HTTPS };

/* p has CHUNK_SLACK readable bytes behind p + n. On H1_DONE *used is the head's length, h is complete: pseudo fields
 * :authority, :path, :method, :scheme(empty, the caller sets it) first (absolute form resolved: target is reduced to
 * origin form, Host replaced, the scheme noted), then the fields. Framing fields stay in h for filters to read
 * (transfer-encoding of requests is not added); st has what they mean. */
enum h1_verdict h1_parse_request(struct h1_parse *st, const struct h1_limits *lim, const char *p,
				 size_t n, struct head *h, size_t *used);
/* h->status, h->reason. Interim heads (1xx) are heads like others: the caller parses on with a
 * new st. p is char *: an obs-fold is blanked in place. */
enum h1_verdict h1_parse_response(struct h1_parse *st, const struct h1_limits *lim, char *p,
				  size_t n, struct head *h, size_t *used);
/* The bytes [old, old + n) now lie at new: h's slices follow. */
void h1_moved(struct head *h, const char *old, size_t n, const char *new);

enum h1_framing { H1_NO_BODY, H1_LENGTH, H1_CHUNKED, H1_UNTIL_CLOSE, H1_TUNNEL };
/* RFC 9112 6.3 for what was just parsed. */
enum h1_framing h1_request_framing(const struct h1_parse *st, const struct head *h);
enum h1_framing h1_response_framing(const struct h1_parse *st, const struct head *h,
				    enum method request);

/* A body being received. */
struct h1_body {
	uint8_t framing; /* enum h1_framing */
	uint8_t state;
	bool ended;
	uint16_t ext; /* extension bytes in this chunk line */
	uint32_t ext_total, trailer_bytes;
	uint8_t digits, trailer_fields;
	uint64_t left;  /* H1_LENGTH: of the body; H1_CHUNKED: of the chunk */
	uint64_t total; /* data bytes so far */
	const char
		*detail; /* on H1_BAD: http1.chunk, http1.trailer, http1.too_large, out_of_memory */
	uint16_t status; /* on H1_BAD: what to answer a client that has no answer yet */
	/* trailer lines are gathered here as they come; NULL arena: discarded */
	struct head *trailers;
	struct arena *arena;
	char *line;
	uint32_t line_n, line_cap;
};
/* trailers (may be NULL: drop them): an initialised head that receives the allowed ones
 * (robustness.md 3.1), copied. */
void h1_body_init(struct h1_body *b, enum h1_framing framing, uint64_t length,
		  struct head *trailers);
/* Consumes some of [p, p + n): *used > 0 unless ended; *data is a slice of it to be passed on (may be empty). Call again
 * while *used < n and !b->ended (ended from the start: no body, length 0). H1_DONE: the message ended with these *used bytes; H1_MORE: not yet. H1_UNTIL_CLOSE and
 * H1_TUNNEL never end by themselves. */
enum h1_verdict h1_body_feed(struct h1_body *b, const struct h1_limits *lim, const char *p,
			     size_t n, size_t *used, struct str *data);

/* n bytes of a body with a length went another way (n <= b->left). */
static inline void h1_body_passed(struct h1_body *b, uint64_t n)
{
	b->left -= n;
	b->total += n;
	b->ended = b->left == 0;
}

/* Serializing. how says which framing the codec uses for the body that follows; framing and hop-by-hop fields of h are
 * not written but computed (robustness.md I3): content-length (length), transfer-encoding, connection, upgrade. */
struct h1_out {
	enum h1_framing framing; /* H1_NO_BODY: neither field, unless length_known */
	bool length_known; /* write content-length: length (also for HEAD, 304 and requests without body) */
	uint64_t length;
	bool close;         /* connection: close */
	bool keep_alive;    /* connection: keep-alive (HTTP/1.0 peers) */
	struct str upgrade; /* connection: upgrade and upgrade: value; .p NULL: none */
	bool te_trailers;
	bool trailers; /* a trailer section may follow */
	bool date;     /* response: nothing is added here; front adds date and server as fields */
};
/* Upper bound of the bytes written. */
size_t h1_head_size(const struct head *h, const struct h1_out *o);
/* Returns bytes written at out (room for h1_head_size). h must have what it needs (:method,
 * :path, :authority / :status). */
size_t h1_write_request(char *out, const struct head *h, const struct h1_out *o);
/* minor: of the client; the version written is always HTTP/1.1 (RFC 9110 2.5). */
size_t h1_write_response(char *out, const struct head *h, const struct h1_out *o);
/* The same into room bytes, whatever the head. 0: not sure to fit, and what out holds is of no
 * use. */
size_t h1_write_request_in(char *out, size_t room, const struct head *h, const struct h1_out *o);
size_t h1_write_response_in(char *out, size_t room, const struct head *h, const struct h1_out *o);
/* "1a\r\n"; out has 20 bytes. */
size_t h1_write_chunk_line(char *out, uint64_t n);
/* "0\r\n" trailers "\r\n"; size bound by h1_head_size. trailers may be NULL. */
size_t h1_write_last_chunk(char *out, const struct head *trailers);

/* Paths (robustness.md 3.4; RFC 3986 6.2.2). In place in p (target with query; the query is left alone, and so is
 * what does not begin with '/'). Returns the new length, or -1.
 * dots (normalize_path): decodes unreserved octets, upper-cases hex, turns backslash into '/', removes dot segments;
 *   -1: %00 or a malformed escape.
 * merge_slashes: one '/' for several, after the dot segments are gone.
 * unescape_slashes: %2F and %5C become '/' before dot removal (without dots: the character itself).
 * found_escaped_slash: %2F or %5C was there, whether kept or decoded. */
ptrdiff_t path_normalize(char *p, size_t n, bool dots, bool merge_slashes, bool unescape_slashes,
			 bool *found_escaped_slash);
/* A segment ".;" or "..;" with something behind: what some origins take for a dot segment
 * (robustness.md 3.4). */
bool path_has_dot_params(struct str target);

/* src/http/h2.h
 *
 * HTTP/2 (RFC 9113), server side: framing and HPACK by nghttp2, which is seen by h2.c alone. Bytes in, events out; no sockets, no time. Message
 * rules beyond nghttp2's (robustness.md 3.3) are checked here, so a head that arrives is well-formed.
 */
#pragma once
#include "base/chain.h"
#include "http/h2_guard.h"
#include "http/head.h"

struct h2;
struct h2_settings {
	uint32_t max_streams, stream_window, connection_window, header_table;
	/* of a decoded field section: name + value + 32 each; pseudo fields are not among the fields */
	uint32_t head_bytes, fields, trailer_bytes, trailer_fields;
	uint32_t owed; /* frames that may wait to be read by the peer */
	struct h2_guard_limits guard;
};
/* stream is what opened() returned. None may free the h2. */
struct h2_ops {
	/* A request begins. Gives the head to be filled (initialised). NULL: refused (REFUSED_STREAM). */
	void *(*opened)(void *owner, int32_t id, struct head **head);
	/* The head is complete. too_large: a limit was exceeded (431); fields are missing then. end: no body. */
	void (*head)(void *owner, void *stream, bool end, bool too_large);
	/* Where trailers of this request go; NULL: they are dropped. */
	struct arena *(*arena)(void *owner, void *stream);
	/* Body bytes inside what h2_feed was given. */
	void (*data)(void *owner, void *stream, const char *p, size_t n);
	/* The request ended; trailers may be NULL. They are in the arena of the head. */
	void (*ended)(void *owner, void *stream, struct head *trailers);
	/* The stream is over, for whatever reason; stream is forgotten. code: 0 when it ended well. */
	void (*closed)(void *owner, void *stream, uint32_t code);
	/* Answer bytes that may be sent now; *end: nothing follows them; *trailers: to be sent behind (NULL: none). */
	size_t (*available)(void *owner, void *stream, bool *end, const struct head **trailers);
	/* Moves n of them behind wire. False: no memory. */
	bool (*take)(void *owner, void *stream, size_t n, struct chain *wire);
	/* A reset of this stream now is an early one (robustness.md 3.3). */
	bool (*early)(void *owner, void *stream);
	/* The last byte of the answer has been framed. */
	void (*sent)(void *owner, void *stream);
};

/* NULL: no memory. */
struct h2 *h2_new(const struct h2_settings *s, const struct h2_ops *ops, void *owner);
/* No callback comes from it. */
void h2_free(struct h2 *h);
/* All n bytes are consumed. False: the connection must be closed after what h2_collect still
 * gives (GOAWAY); h2_detail says why. */
bool h2_feed(struct h2 *h, const char *p, size_t n, uint64_t now_us);
/* Why the connection ends, when it is the client's fault: a word for the log, static. NULL: it does not. */
const char *h2_detail(const struct h2 *h);
/* Frames to be written, behind wire, until about limit bytes are there or nothing is left.
 * False: no memory or an internal error. */
bool h2_collect(struct h2 *h, struct chain *wire, size_t limit);
/* Neither side wants anything any more. */
bool h2_finished(const struct h2 *h);
/* The answer's head. bodyless: END_STREAM at once. length: content-length to be written, -1 none
 * (a bodyless answer keeps its own field). */
bool h2_answer(struct h2 *h, int32_t id, const struct head *head, bool bodyless, int64_t length);
bool h2_interim(struct h2 *h, int32_t id, const struct head *head);
/* available() has something again. */
void h2_resume(struct h2 *h, int32_t id);
/* n body bytes went on: the windows open again. */
void h2_consume(struct h2 *h, int32_t id, size_t n);
void h2_reset(struct h2 *h, int32_t id, uint32_t code);
enum {
	H2_NO_ERROR = 0,
	H2_PROTOCOL_ERROR = 1,
	H2_INTERNAL_ERROR = 2,
	H2_REFUSED_STREAM = 7,
	H2_CANCEL = 8,
	H2_ENHANCE_YOUR_CALM = 11
};
/* GOAWAY; streams up to now go on. */
void h2_goaway(struct h2 *h, uint32_t code);
/* GOAWAY with the highest id: new streams are still served, but the client should go (RFC 9113
 * 6.8). h2_goaway follows later. */
void h2_goaway_soon(struct h2 *h);
/* A field block has begun and is not complete (slow heads). */
bool h2_in_head(const struct h2 *h);

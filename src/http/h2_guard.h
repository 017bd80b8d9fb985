/* src/http/h2_guard.h
 *
 * Counts what one HTTP/2 client sends besides requests, and says when it is too much (robustness.md 2 and 3.3): frames
 * that cost us work and bring nothing. Looks at frame heads only, beside nghttp2, which hides some of them.
 * Pure: the caller tells the time. One per connection, inside its h2.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct h2_guard_limits {
	uint32_t priority; /* PRIORITY frames per stream opened, and as many before the first */
	uint32_t window_updates; /* WINDOW_UPDATE frames per DATA frame that we send */
	uint32_t control_rate; /* SETTINGS and PING per second; unknown frames: twenty times this */
	uint32_t block;        /* frames of one field block */
	uint32_t
		empty; /* DATA, HEADERS, CONTINUATION in a row with neither content nor END_STREAM */
};

/* A bucket of frames that fills as time passes. */
struct h2_bucket {
	uint64_t seen_us, left; /* left: millionths of a frame */
};

struct h2_guard {
	uint64_t skip; /* bytes up to the next frame's head */
	uint8_t head[9], have;
	uint32_t block; /* frames of the open field block */
	uint32_t empty; /* in a row */
	uint64_t streams, data_sent, priorities, window_updates, early;
	struct h2_bucket control, unknown;
};

/* The connection begins with the client's preface. */
void h2_guard_init(struct h2_guard *g);
/* The next n bytes from the client. What counts as too much: a word for the log (static); NULL: fine. */
const char *h2_guard_feed(struct h2_guard *g, const struct h2_guard_limits *lim, const char *p,
			  size_t n, uint64_t now_us);
/* The client has opened a stream; we have sent a DATA frame. */
void h2_guard_opened(struct h2_guard *g);
void h2_guard_data_sent(struct h2_guard *g);
/* A stream was reset before it could be worth its cost; weight 2 when the client provoked our reset. NULL or a
 * word, as h2_guard_feed. */
const char *h2_guard_early_reset(struct h2_guard *g, unsigned weight);

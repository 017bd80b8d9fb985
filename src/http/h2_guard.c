/* src/http/h2_guard.c */
#include "http/h2_guard.h"
#include <string.h>

enum {
	PREFACE = 24,
	END_STREAM = 1,   /* flag of DATA and HEADERS */
	FREE_UPDATES = 5, /* WINDOW_UPDATE frames before anything was sent */
	UPDATES_PER_STREAM = 2,
	FREE_RESETS = 50,      /* early resets, and one for four streams */
	UNKNOWN_FACTOR = 20,   /* unknown frames, to control frames */
	FRAME = 1000000,       /* one frame in a bucket */
	LONG_US = 10 * 1000000 /* no bucket takes longer to fill */
};

enum {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION
};

static const char too_many[] = "http2.too_many_frames";
static const char too_many_resets[] = "http2.too_many_resets";

void h2_guard_init(struct h2_guard *g)
{
	*g = (struct h2_guard){.skip = PREFACE};
}

/* Takes one frame out. False: none is left. burst is at most LONG_US times the rate. */
static bool take(struct h2_bucket *b, uint64_t rate, uint64_t burst, uint64_t now_us)
{
	uint64_t passed = now_us - b->seen_us, cap = burst * FRAME;
	if (b->seen_us == 0 || now_us < b->seen_us || passed > LONG_US)
		b->left = cap;
	else
		b->left += passed * rate;
	if (b->left > cap)
		b->left = cap;
	b->seen_us = now_us ? now_us : 1;
	if (b->left < FRAME)
		return false;
	b->left -= FRAME;
	return true;
}

static bool empty_ok(struct h2_guard *g, const struct h2_guard_limits *lim)
{
	g->empty = g->skip || g->head[4] & END_STREAM ? 0 : g->empty + 1;
	return g->empty <= lim->empty;
}

/* g->head is whole, g->skip is the frame's length. */
static bool frame_ok(struct h2_guard *g, const struct h2_guard_limits *lim, uint64_t now_us)
{
	switch (g->head[3]) {
	case DATA: return empty_ok(g, lim);
	case HEADERS: g->block = 1; return empty_ok(g, lim);
	case CONTINUATION: return ++g->block <= lim->block && empty_ok(g, lim);
	case PRIORITY: return ++g->priorities <= lim->priority * (1 + g->streams);
	case WINDOW_UPDATE:
		return ++g->window_updates <=
		       FREE_UPDATES + UPDATES_PER_STREAM *
					      (g->streams + lim->window_updates * g->data_sent);
	case SETTINGS:
	case PING: return take(&g->control, lim->control_rate, 2ull * lim->control_rate, now_us);
	case RST_STREAM:
	case PUSH_PROMISE:
	case GOAWAY: return true;
	default: {
		uint64_t rate = UNKNOWN_FACTOR * (uint64_t)lim->control_rate;
		return take(&g->unknown, rate, rate, now_us);
	}
	}
}

const char *h2_guard_feed(struct h2_guard *g, const struct h2_guard_limits *lim, const char *p,
			  size_t n, uint64_t now_us)
{
	bool ok = true;
	while (n && ok) {
		if (g->skip) {
			size_t k = g->skip < n ? (size_t)g->skip : n;
			g->skip -= k;
			p += k;
			n -= k;
			continue;
		}
		size_t k = sizeof g->head - g->have;
		k = k < n ? k : n;
		memcpy(g->head + g->have, p, k);
		g->have += (uint8_t)k;
		p += k;
		n -= k;
		if (g->have < sizeof g->head)
			break;
		g->have = 0;
		g->skip = (uint64_t)g->head[0] << 16 | (uint64_t)g->head[1] << 8 | g->head[2];
		ok = frame_ok(g, lim, now_us);
	}
	return ok ? NULL : too_many;
}

void h2_guard_opened(struct h2_guard *g)
{
	g->streams++;
}

void h2_guard_data_sent(struct h2_guard *g)
{
	g->data_sent++;
}

const char *h2_guard_early_reset(struct h2_guard *g, unsigned weight)
{
	g->early += weight;
	return g->early > FREE_RESETS + g->streams / 4 ? too_many_resets : NULL;
}

/* src/http/h2_guard_test.c: each limit at its last good frame and one beyond it, cut at any byte. */
#include "base/must.h"
#include "http/h2_guard.h"
#include <string.h>

static const struct h2_guard_limits lim = {
	.priority = 100, .window_updates = 10, .control_rate = 50, .block = 61, .empty = 70};

enum { SECOND = 1000000 };

/* One frame with n bytes of payload, in pieces of cut bytes. */
static bool feed(struct h2_guard *g, unsigned type, size_t n, size_t cut, uint64_t now)
{
	char f[64] = {0};
	size_t all = 9 + n;
	must(all <= sizeof f);
	f[2] = (char)n;
	f[3] = (char)type;
	memset(f + 9, 0xff, n); /* never taken for a head */
	bool ok = true;
	for (size_t i = 0; i < all; i += cut)
		ok &= !h2_guard_feed(g, &lim, f + i, i + cut > all ? all - i : cut, now);
	return ok;
}

/* How many frames of a type pass at once. */
static unsigned passes(struct h2_guard *g, unsigned type, size_t n, size_t cut, uint64_t now)
{
	unsigned k = 0;
	while (k < 5000 && feed(g, type, n, cut, now))
		k++;
	return k;
}

static void begin(struct h2_guard *g)
{
	h2_guard_init(g);
	must(!h2_guard_feed(g, &lim, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, 1));
}

int main(void)
{
	enum {
		DATA,
		HEADERS,
		PRIORITY,
		RST,
		SETTINGS,
		PUSH,
		PING,
		GOAWAY,
		UPDATE,
		CONT,
		ODD = 0x55
	};
	struct h2_guard g;
	for (size_t cut = 1; cut < 20; cut++) {
		begin(&g);
		must(passes(&g, PRIORITY, 5, cut, 5) == 100);
		begin(&g);
		h2_guard_opened(&g);
		must(passes(&g, PRIORITY, 5, cut, 5) == 200);
		begin(&g);
		must(passes(&g, UPDATE, 4, cut, 5) == 5);
		begin(&g);
		h2_guard_opened(&g);
		h2_guard_data_sent(&g);
		must(passes(&g, UPDATE, 4, cut, 5) == 5 + 2 * (1 + 10));
		begin(&g);
		must(passes(&g, PING, 8, cut, 5) == 100);
		begin(&g);
		must(passes(&g, ODD, 3, cut, 5) == 1000);
		begin(&g);
		must(feed(&g, HEADERS, 9, cut, 5));
		must(passes(&g, CONT, 0, cut, 5) == 60);
		begin(&g);
		must(passes(&g, DATA, 9, cut, 5) == 5000);
		must(passes(&g, DATA, 0, cut, 5) == 70);
		must(passes(&g, RST, 4, cut, 5) == 5000);
	}
	/* each block is counted for itself */
	begin(&g);
	for (unsigned i = 0; i < 10; i++) {
		must(feed(&g, HEADERS, 9, 9, 5));
		for (unsigned k = 0; k < 60; k++)
			must(feed(&g, CONT, 1, 9, 5));
	}
	/* SETTINGS and PING share the rate; it comes back with time, and no more than the burst */
	begin(&g);
	must(passes(&g, SETTINGS, 6, 9, SECOND) == 100);
	must(passes(&g, PING, 8, 9, SECOND) == 0);
	must(passes(&g, PING, 8, 9, 2 * SECOND) == 50);
	must(passes(&g, PING, 8, 9, 100ull * SECOND) == 100);
	must(passes(&g, PING, 8, 9, 99ull * SECOND) ==
	     100); /* a clock that went back gives, never takes */
	/* resets: fifty, and one for four streams */
	begin(&g);
	for (unsigned i = 0; i < 40; i++)
		h2_guard_opened(&g);
	for (unsigned i = 0; i < 60; i++)
		must(!h2_guard_early_reset(&g, 1));
	must(h2_guard_early_reset(&g, 1) != NULL);
	begin(&g);
	for (unsigned i = 0; i < 25; i++)
		must(!h2_guard_early_reset(&g, 2));
	must(h2_guard_early_reset(&g, 2) != NULL);
	return 0;
}

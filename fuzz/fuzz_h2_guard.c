/* fuzz/fuzz_h2_guard.c: what an HTTP/2 client sends, whatever the cut, is refused at the frame at which a
 * plain count of frames refuses it. */
#include "base/must.h"
#include "fuzz_cut.h"
#include "http/h2_guard.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct h2_guard_limits lim = {
	.priority = 2, .window_updates = 1, .control_rate = 2, .block = 3, .empty = 2};

/* Where the head of the first frame too many ends; SIZE_MAX: there is none. */
static size_t counted(const uint8_t *p, size_t size)
{
	unsigned block = 0, empty = 0, priorities = 0, updates = 0, control = 0, unknown = 0;
	for (size_t at = 24; size >= 9 && at <= size - 9;) {
		const uint8_t *f = p + at;
		size_t length = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
		bool bad = false;
		if (f[3] == 1)
			block = 1;
		if (f[3] == 9)
			bad = ++block > 3;
		if (f[3] == 0 || f[3] == 1 || f[3] == 9) {
			empty = length || f[4] & 1 ? 0 : empty + 1;
			bad |= empty > 2;
		}
		bad |= f[3] == 2 && ++priorities > 2;
		bad |= f[3] == 8 && ++updates > 5;
		bad |= (f[3] == 4 || f[3] == 6) && ++control > 4;
		bad |= f[3] > 9 && ++unknown > 40;
		if (bad)
			return at + 9;
		at += 9 + length;
	}
	return SIZE_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	size_t want = counted(data, size);
	struct cuts cuts = cuts_of(data, size);
	for (unsigned way = 0; way < 3; way++) {
		struct h2_guard g;
		h2_guard_init(&g);
		for (size_t at = 0, to; at < size; at = to) {
			to = way == 0 ? size : way == 1 ? at + 1 : cut_random(&cuts, at, size);
			bool bad = h2_guard_feed(&g, &lim, p + at, to - at, 5) != NULL;
			must(bad == (to >= want));
			if (bad)
				break;
		}
	}
	return 0;
}

/* src/loop/timer.h
 *
 * A wheel of 10 ms steps. Lazy: arming later than before only overwrites the stamp. A timer belongs to
 * exactly one object and is cancelled before that is freed. fire() runs in phase 2 (marks only).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct timer {
	struct timer *next, *prev;
	void (*fire)(struct timer *t);
	uint64_t due;  /* us, monotonic; 0 when not armed */
	uint64_t slot; /* timer.c: tick it is linked at */
};

/* From now, in us; at least one tick; re-arms. */
void timer_arm(struct loop *l, struct timer *t, uint64_t after_us);
void timer_cancel(struct loop *l, struct timer *t);
static inline bool timer_armed(const struct timer *t)
{
	return t->due != 0;
}

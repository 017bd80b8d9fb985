/* src/loop/loop_int.h: what loop.c and timer.c share. */
#pragma once
#include "loop/loop.h"

enum {
	TICK_US = 10000,
	NEAR_BITS = 8, /* first level: 256 slots of one tick */
	FAR_BITS = 6,  /* each further level: 64 slots of the whole level below */
	NEAR_SLOTS = 1 << NEAR_BITS,
	FAR_SLOTS = 1 << FAR_BITS,
	FAR_LEVELS = 5, /* 38 bits of ticks: 87 years of uptime */
};

/* A slot is the head of a circular list. A timer lies at the lowest level at which its tick and the
 * wheel's have the same higher bits, so that no level ever wraps and the first set bit of the first
 * level that has one is the next thing to happen. */
struct wheel {
	uint64_t tick; /* everything up to and including it has been looked at */
	uint64_t near_bits[NEAR_SLOTS / 64];
	uint64_t far_bits[FAR_LEVELS];
	struct timer slots[NEAR_SLOTS + FAR_LEVELS * FAR_SLOTS];
};

void wheel_init(struct wheel *w, uint64_t now_us);
/* Fires what is due at now_us, which is also the loop's time. */
void wheel_advance(struct wheel *w, uint64_t now_us);
/* When there is something to do next, us; UINT64_MAX: never. */
uint64_t wheel_next(const struct wheel *w);
struct wheel *loop_wheel(struct loop *l);

/* src/loop/timer.c */
#include "loop/timer.h"
#include "base/must.h"
#include "loop/loop_int.h"
#include <stddef.h>

enum { SLOTS = NEAR_SLOTS + FAR_LEVELS * FAR_SLOTS };
#define LONGEST_US (10 * 365 * 86400ull * 1000000) /* keeps every tick within the levels */

static void list_init(struct timer *head)
{
	head->next = head->prev = head;
}

void wheel_init(struct wheel *w, uint64_t now_us)
{
	*w = (struct wheel){.tick = now_us / TICK_US};
	for (int i = 0; i < SLOTS; i++)
		list_init(&w->slots[i]);
}

/* The first tick that is not before due: a timer never fires early. */
static uint64_t tick_of(uint64_t due)
{
	return (due + TICK_US - 1) / TICK_US;
}

static int far_shift(int level) /* from 0 */
{
	return NEAR_BITS + level * FAR_BITS;
}

/* tick >= w->tick. */
static void link_at(struct wheel *w, struct timer *t, uint64_t tick)
{
	uint64_t differs = tick ^ w->tick;
	size_t at;
	if (differs < NEAR_SLOTS) {
		at = tick % NEAR_SLOTS;
		w->near_bits[at / 64] |= 1ull << at % 64;
	} else {
		int level = (63 - __builtin_clzll(differs) - NEAR_BITS) / FAR_BITS;
		must(level < FAR_LEVELS);
		size_t i = tick >> far_shift(level) & (FAR_SLOTS - 1);
		w->far_bits[level] |= 1ull << i;
		at = NEAR_SLOTS + (size_t)level * FAR_SLOTS + i;
	}
	struct timer *head = &w->slots[at];
	t->slot = tick;
	t->next = head;
	t->prev = head->prev;
	head->prev->next = t;
	head->prev = t;
}

static void clear_bit(struct wheel *w, size_t at)
{
	if (at < NEAR_SLOTS)
		w->near_bits[at / 64] &= ~(1ull << at % 64);
	else
		w->far_bits[(at - NEAR_SLOTS) / FAR_SLOTS] &= ~(1ull << at % FAR_SLOTS);
}

static void unlink_timer(struct wheel *w, struct timer *t)
{
	struct timer *next = t->next, *prev = t->prev;
	next->prev = prev;
	prev->next = next;
	t->next = t->prev = NULL;
	/* Was it the last of a slot? Then next is the head. A due list's head lies elsewhere. */
	uintptr_t off = (uintptr_t)next - (uintptr_t)w->slots;
	if (next == prev && off < sizeof w->slots)
		clear_bit(w, off / sizeof w->slots[0]);
}

void timer_arm(struct loop *l, struct timer *t, uint64_t after_us)
{
	struct wheel *w = loop_wheel(l);
	uint64_t now = loop_now_us(l);
	if (after_us > LONGEST_US)
		after_us = LONGEST_US;
	t->due = now + (after_us ? after_us : 1);
	uint64_t tick = tick_of(t->due);
	if (t->next) {
		if (t->slot <= tick)
			return; /* found at its slot to be not due yet, and linked anew then */
		unlink_timer(w, t);
	}
	link_at(w, t, tick > w->tick ? tick : w->tick + 1);
}

void timer_cancel(struct loop *l, struct timer *t)
{
	t->due = 0;
	if (t->next)
		unlink_timer(loop_wheel(l), t);
}

static bool next_tick(const struct wheel *w, uint64_t *tick)
{
	for (size_t i = 0; i < NEAR_SLOTS / 64; i++) {
		if (!w->near_bits[i])
			continue;
		uint64_t at = i * 64 + (uint64_t)__builtin_ctzll(w->near_bits[i]);
		*tick = (w->tick & ~(uint64_t)(NEAR_SLOTS - 1)) | at;
		return true;
	}
	for (int level = 0; level < FAR_LEVELS; level++) {
		if (!w->far_bits[level])
			continue;
		int shift = far_shift(level);
		uint64_t at = (uint64_t)__builtin_ctzll(w->far_bits[level]);
		*tick = (w->tick >> (shift + FAR_BITS) << FAR_BITS | at) << shift;
		return true;
	}
	return false;
}

uint64_t wheel_next(const struct wheel *w)
{
	uint64_t tick;
	return next_tick(w, &tick) ? tick * TICK_US : UINT64_MAX;
}

/* Moves all of the slot's timers behind those of to. */
static void take_slot(struct wheel *w, size_t at, struct timer *to)
{
	struct timer *head = &w->slots[at];
	clear_bit(w, at);
	if (head->next == head)
		return;
	head->next->prev = to->prev;
	to->prev->next = head->next;
	head->prev->next = to;
	to->prev = head->prev;
	list_init(head);
}

static struct timer *pop(struct timer *head)
{
	struct timer *t = head->next;
	t->next->prev = head;
	head->next = t->next;
	t->next = t->prev = NULL;
	return t;
}

/* The wheel has come to its tick: spread the far slots that begin here, then gather what is due. */
static void reach(struct wheel *w, struct timer *due)
{
	struct timer far;
	list_init(&far);
	for (int level = FAR_LEVELS - 1; level >= 0; level--) {
		int shift = far_shift(level);
		if (w->tick & ((1ull << shift) - 1))
			continue;
		size_t i = w->tick >> shift & (FAR_SLOTS - 1);
		if (w->far_bits[level] >> i & 1)
			take_slot(w, NEAR_SLOTS + (size_t)level * FAR_SLOTS + i, &far);
	}
	while (far.next != &far) {
		struct timer *t = pop(&far);
		link_at(w, t, t->slot);
	}
	take_slot(w, w->tick % NEAR_SLOTS, due);
}

void wheel_advance(struct wheel *w, uint64_t now_us)
{
	uint64_t now = now_us / TICK_US, tick;
	struct timer due;
	if (now <= w->tick)
		return;
	list_init(&due);
	while (next_tick(w, &tick) && tick <= now) {
		w->tick = tick;
		reach(w, &due);
	}
	w->tick = now;
	while (due.next != &due) { /* fire() may cancel or re-arm any of them */
		struct timer *t = pop(&due);
		uint64_t at = tick_of(t->due);
		if (at > now) {
			link_at(w, t, at);
			continue;
		}
		t->due = 0;
		t->fire(t);
	}
}

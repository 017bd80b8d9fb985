/* src/loop/timer_test.c: the wheel against a plain list, on a clock of its own. */
#include "base/hash.h"
#include "base/must.h"
#include "loop/loop_int.h"
#include <stddef.h>
#include <stdio.h>

enum { TIMERS = 200 };

static struct {
	struct timer timer;
	uint64_t due; /* 0: not armed */
	unsigned fired;
} all[TIMERS];
static struct loop *l;
static uint64_t now;
static bool busy; /* fire() arms and cancels others too */
static unsigned fires;

static uint64_t clock_us(void *arg)
{
	return now;
}

static uint64_t span(void)
{
	static const uint64_t most[] = {1, 30000, 3000000, 200000000, 20000000000, 4000000000000};
	return random_u64() % (most[random_u64() % 6] + 1);
}

static void deed(void)
{
	size_t i = random_u64() % TIMERS;
	if (random_u64() % 3 == 0) {
		timer_cancel(l, &all[i].timer);
		all[i].due = 0;
	} else {
		uint64_t after = span();
		timer_arm(l, &all[i].timer, after);
		all[i].due = now + (after ? after : 1);
	}
}

static void fire(struct timer *t)
{
	size_t i = (size_t)((char *)t - (char *)all) / sizeof all[0];
	must(&all[i].timer == t && all[i].due != 0);
	must(all[i].due <= now); /* never early */
	must(!timer_armed(t));
	all[i].due = 0;
	fires++;
	for (int k = 0; busy && k < 3; k++)
		deed();
}

static void follows_a_plain_list(uint64_t start)
{
	now = start;
	l = loop_new(0);
	loop_set_clock(l, clock_us, NULL);
	for (size_t i = 0; i < TIMERS; i++)
		all[i] = (typeof(all[0])){.timer = {.fire = fire}};
	for (int round = 0; round < 30000; round++) {
		for (int k = 0; k < 4; k++)
			deed();
		now += random_u64() % 10 ? random_u64() % 50000 : span() / 3;
		busy = round % 2;
		loop_turn(l, 0);
		for (size_t i = 0; i < TIMERS; i++) {
			must(timer_armed(&all[i].timer) == (all[i].due != 0));
			must(!all[i].due || all[i].due + TICK_US > now); /* nor late */
		}
	}
	for (size_t i = 0; i < TIMERS; i++)
		timer_cancel(l, &all[i].timer);
	must(wheel_next(loop_wheel(l)) == UINT64_MAX); /* no bit is left behind */
	loop_free(l);
}

/* The process sleeps until the one timer, however far, and wakes a few times at most on the way. */
static void sleeps_until_the_next(void)
{
	now = 123456789;
	l = loop_new(0);
	loop_set_clock(l, clock_us, NULL);
	must(wheel_next(loop_wheel(l)) == UINT64_MAX);
	for (uint64_t after = 1; after < 400 * 86400ull * 1000000; after = after * 3 + 1) {
		unsigned wakes = 0;
		all[0] = (typeof(all[0])){.timer = {.fire = fire}, .due = now + after};
		timer_arm(l, &all[0].timer, after);
		fires = 0;
		for (; !fires; wakes++) {
			uint64_t next = wheel_next(loop_wheel(l));
			must(next > now && next != UINT64_MAX);
			now = next;
			loop_turn(l, 0);
			must(wakes <= FAR_LEVELS);
		}
		must(now < all[0].timer.slot * TICK_US + 2 * TICK_US);
	}
	/* Arming later again and again costs no more wakes than one for each slot it lay in. */
	all[0].due = now + 5000000;
	timer_arm(l, &all[0].timer, 5000000);
	fires = 0;
	for (int i = 0; i < 1000; i++) {
		now += 100000;
		all[0].due = now + 5000000;
		timer_arm(l, &all[0].timer, 5000000);
		loop_turn(l, 0);
	}
	must(!fires);
	timer_arm(l, &all[0].timer, UINT64_MAX); /* as good as never, and no overflow */
	must(all[0].timer.due > now + 9 * 365 * 86400ull * 1000000);
	timer_cancel(l, &all[0].timer);
	loop_free(l);
}

int main(void)
{
	busy = false;
	sleeps_until_the_next();
	follows_a_plain_list(0);
	follows_a_plain_list(255 * 10000);
	follows_a_plain_list(1ull << 45);
	return 0;
}

/* src/loop/loop.h
 *
 * One worker's turn: level-triggered epoll, phases, timers, posts from other threads. Events only
 * mark, tasks act, the reap list alone frees (style.md 5, request-path.md 2). Alone calls epoll and
 * the clock. Single-threaded but for loop_post and loop_stop.
 */
#pragma once
#include "loop/timer.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;

/* A descriptor of interest. Owned by its user, who must watch_del before closing the descriptor; after
 * watch_del no event of the current batch reaches it. ready() runs in phase 2 and may only read, mark and
 * schedule. */
enum { WATCH_READ = 1, WATCH_WRITE = 2, WATCH_ERROR = 4 };
struct watch {
	void (*ready)(struct watch *w,
		      unsigned events); /* WATCH_ bits; ERROR is EPOLLERR or EPOLLHUP */
	int fd;
	uint32_t slot; /* loop.c: index into its table, with a generation against stale events */
	unsigned interest; /* WATCH_READ | WATCH_WRITE now asked for */
};

/* Work to be done later in this turn. Embedded in its owner; scheduling one that is already scheduled is a
 * no-op. The owner must task_drop before it is freed. */
enum phase {
	PHASE_RUN,   /* 3: exchanges act; repeated until none is left, once per pass */
	PHASE_WRITE, /* 4: connections with one answer at a time are written, once per pass */
	PHASE_FLUSH, /* 4b: multiplexed connections are written, once per turn after the last pass */
	PHASE_AGAIN, /* read on: sources that had more; at most 8 rounds a turn, then the next turn (no sleep) */
	PHASES
};
struct task {
	struct task *next, *prev; /* NULL when not scheduled */
	void (*run)(struct task *t);
	uint8_t phase;
};

/* Freed in phase 5 of this turn, after every task has run. Embedded in the dying object. */
struct grave {
	struct grave *next;
	void (*bury)(struct grave *g);
};

/* Work handed over by another thread. Owned by the poster until run() is called on the loop's
 * thread. */
struct post {
	struct post *next;
	void (*run)(struct post *p, struct loop *l);
};

/* index: the worker's number. NULL: failed, errno set. */
struct loop *loop_new(unsigned index);
void loop_free(struct loop *l);
/* Until loop_stop. */
void loop_run(struct loop *l);
/* One turn; wait_ms caps the sleep (-1: as long as the next timer allows). For tests. */
void loop_turn(struct loop *l, int wait_ms);
/* Any thread. */
void loop_stop(struct loop *l);
void loop_post(struct loop *l, struct post *p);

unsigned loop_index(const struct loop *l);
/* Monotonic, read once per turn (and again by loop_now_fresh). */
uint64_t loop_now_us(const struct loop *l);
static inline uint64_t loop_ms(uint64_t us)
{
	return us / 1000;
}
/* Wall clock at the same instant. */
uint64_t loop_wall_us(const struct loop *l);
/* Reads the clock again, for the few places that need it (script time). */
uint64_t loop_now_fresh(struct loop *l);
/* "Tue, 24 Nov 2026 06:49:46 GMT", renewed once a second; 29 bytes. */
const char *loop_http_date(struct loop *l);
/* Busy time of the last turn in us: loop lag. */
uint64_t loop_lag_us(const struct loop *l);
/* Called as a turn begins, when every_us have passed since the last time; never wakes the loop. NULL: no more. */
void loop_beat(struct loop *l, uint64_t every_us, void (*beat)(void *arg), void *arg);
/* Events per pass; 32 by default. Tests use 1 and 256 too (POSTERN_PASS in a test build). */
void loop_set_pass(struct loop *l, unsigned pass);

/* fd is added once; interest is changed only when it differs. False: no memory or epoll refused. */
bool watch_add(struct loop *l, struct watch *w, int fd, unsigned interest);
void watch_set(struct loop *l, struct watch *w, unsigned interest);
void watch_del(struct loop *l, struct watch *w);
/* As watch_del without the system call, for a descriptor that the caller closes at once and that nobody
 * shares (no dup, no other process): closing it takes it out of epoll. */
void watch_forget(struct loop *l, struct watch *w);

/* Into phase ph of this turn (or, called in a later phase, the next pass or turn, without
 * sleeping). */
void later(struct loop *l, enum phase ph, struct task *t);
static inline bool task_scheduled(const struct task *t)
{
	return t->next != 0;
}
void task_drop(struct loop *l, struct task *t);

void reap(struct loop *l, struct grave *g);

/* Signals by signalfd, for the one loop that asked (main thread). The caller has blocked them. */
bool loop_signals(struct loop *l, const int *signals, int n, void (*got)(int signal, void *arg),
		  void *arg);

/* Tests: a virtual clock. NULL restores the real one. */
void loop_set_clock(struct loop *l, uint64_t (*now_us)(void *), void *arg);

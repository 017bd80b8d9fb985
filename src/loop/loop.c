/* src/loop/loop.c */
#include "loop/loop.h"
#include "base/mem.h"
#include "base/must.h"
#include "loop/loop_int.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 256,      /* events of one epoll_wait */
	PASS = 32,        /* of these read before exchanges run */
	ROUNDS = 8,       /* of PHASE_AGAIN in one turn */
	GENERATIONS = 64, /* of RUN and WRITE in one pass: tasks that call each other for ever */
	HTTP_DATE = 29
};

/* What epoll is told is slot and generation: an event for a watch that is gone finds another
 * generation. */
struct slot {
	struct watch *watch; /* NULL: free */
	uint32_t generation;
	uint32_t next_free;
};

struct loop {
	struct wheel wheel;
	uint64_t now, wall_ahead,
		wall_again; /* us; wall = now + wall_ahead, until now is wall_again */
	uint64_t ended;     /* when the last turn did */
	uint64_t lag;
	struct task phases[PHASES]; /* heads of circular lists */
	struct grave *graves, **graves_end;
	struct slot *slots;
	uint32_t n_slots, free_slot; /* free_slot == n_slots: none */
	unsigned index, pass;
	int epoll, wake_fd, signal_fd;
	struct watch wake, signals;
	void (*got)(int signal, void *arg);
	void *got_arg;
	uint64_t (*clock)(void *);
	void *clock_arg;
	uint64_t date_s;
	char date[HTTP_DATE + 1];
	struct {
		uint64_t every, due;
		void (*run)(void *);
		void *arg;
	} beat;
	bool stop;          /* atomic */
	struct post *posts; /* atomic; newest first */
	struct epoll_event events[BATCH];
};

#define OWNER(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

static uint64_t real_us(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t read_clock(const struct loop *l)
{
	return __builtin_expect(l->clock != NULL, 0) ? l->clock(l->clock_arg)
						     : real_us(CLOCK_MONOTONIC);
}

static void set_now(struct loop *l)
{
	l->now = read_clock(l);
	if (l->now >= l->wall_again) {
		l->wall_ahead = real_us(CLOCK_REALTIME) - l->now;
		l->wall_again = l->now + 1000000;
	}
}

/* Posts */

static void run_posts(struct watch *w, unsigned events)
{
	struct loop *l = OWNER(w, struct loop, wake);
	uint64_t count;
	ssize_t got = read(l->wake_fd, &count, sizeof count);
	(void)got;
	/* After the read: who posts now finds the list empty and wakes us again. */
	struct post *p = __atomic_exchange_n(&l->posts, NULL, __ATOMIC_ACQUIRE), *first = NULL;
	while (p) {
		struct post *next = p->next;
		p->next = first;
		first = p;
		p = next;
	}
	while (first) {
		p = first;
		first = p->next; /* run gives p away */
		p->next = NULL;
		p->run(p, l);
	}
}

static void wake_up(struct loop *l)
{
	uint64_t one = 1;
	ssize_t put;
	do {
		put = write(l->wake_fd, &one, sizeof one);
	} while (put < 0 && errno == EINTR); /* EAGAIN: it is awake already */
}

void loop_post(struct loop *l, struct post *p)
{
	struct post *head = __atomic_load_n(&l->posts, __ATOMIC_RELAXED);
	do {
		p->next = head;
	} while (!__atomic_compare_exchange_n(&l->posts, &head, p, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	if (!head)
		wake_up(l);
}

void loop_stop(struct loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	wake_up(l);
}

/* Construction */

struct loop *loop_new(unsigned index)
{
	struct loop *l = mem_zalloc(MEM_OTHER, sizeof *l);
	if (!l) {
		errno = ENOMEM;
		return NULL;
	}
	l->index = index;
	l->pass = PASS;
	l->signal_fd = -1;
	l->graves_end = &l->graves;
	l->date_s = l->beat.due = UINT64_MAX;
	for (int i = 0; i < PHASES; i++)
		l->phases[i].next = l->phases[i].prev = &l->phases[i];
	set_now(l);
	wheel_init(&l->wheel, l->now);
#if POSTERN_SYS_HOOKS
	const char *pass = getenv("POSTERN_PASS");
	if (pass)
		loop_set_pass(l, (unsigned)atoi(pass));
#endif
	l->wake.ready = run_posts;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epoll < 0 || l->wake_fd < 0 || !watch_add(l, &l->wake, l->wake_fd, WATCH_READ)) {
		int err = errno;
		loop_free(l);
		errno = err;
		return NULL;
	}
	return l;
}

static void bury_all(struct loop *l)
{
	while (l->graves) {
		struct grave *g = l->graves;
		l->graves = g->next;
		if (!l->graves)
			l->graves_end = &l->graves;
		g->bury(g);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	bury_all(l);
	if (l->signal_fd >= 0)
		close(l->signal_fd);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	if (l->epoll >= 0)
		close(l->epoll);
	mem_free(MEM_OTHER, l->slots);
	mem_free(MEM_OTHER, l);
}

struct wheel *loop_wheel(struct loop *l)
{
	return &l->wheel;
}

void loop_beat(struct loop *l, uint64_t every_us, void (*beat)(void *arg), void *arg)
{
	l->beat.every = every_us;
	l->beat.due = beat ? l->now + every_us : UINT64_MAX;
	l->beat.run = beat;
	l->beat.arg = arg;
}

void loop_set_pass(struct loop *l, unsigned pass)
{
	l->pass = pass < 1 ? 1 : pass > BATCH ? BATCH : pass;
}

/* Watches */

static uint32_t epoll_bits(unsigned interest)
{
	return (interest & WATCH_READ ? EPOLLIN : 0u) | (interest & WATCH_WRITE ? EPOLLOUT : 0u);
}

static bool more_slots(struct loop *l)
{
	uint32_t n = l->n_slots ? l->n_slots * 2 : 64;
	if (n > 1u << 30) {
		errno = ENOMEM;
		return false;
	}
	struct slot *slots = mem_realloc(MEM_OTHER, l->slots, n * sizeof *slots);
	if (!slots) {
		errno = ENOMEM;
		return false;
	}
	for (uint32_t i = l->n_slots; i < n; i++)
		slots[i] = (struct slot){.next_free = i + 1};
	l->slots = slots;
	l->free_slot = l->n_slots;
	l->n_slots = n;
	return true;
}

static bool tell_epoll(struct loop *l, int op, const struct watch *w)
{
	struct epoll_event e = {.events = epoll_bits(w->interest)};
	e.data.u64 = (uint64_t)l->slots[w->slot].generation << 32 | w->slot;
	return epoll_ctl(l->epoll, op, w->fd, &e) == 0;
}

bool watch_add(struct loop *l, struct watch *w, int fd, unsigned interest)
{
	if (l->free_slot == l->n_slots && !more_slots(l))
		return false;
	struct slot *s = &l->slots[l->free_slot];
	w->fd = fd;
	w->interest = interest & (WATCH_READ | WATCH_WRITE);
	w->slot = l->free_slot;
	if (!tell_epoll(l, EPOLL_CTL_ADD, w))
		return false;
	l->free_slot = s->next_free;
	s->watch = w;
	return true;
}

void watch_set(struct loop *l, struct watch *w, unsigned interest)
{
	interest &= WATCH_READ | WATCH_WRITE;
	if (interest == w->interest)
		return;
	must(w->slot < l->n_slots && l->slots[w->slot].watch == w);
	w->interest = interest;
	must(tell_epoll(l, EPOLL_CTL_MOD, w));
}

void watch_forget(struct loop *l, struct watch *w)
{
	must(w->slot < l->n_slots && l->slots[w->slot].watch == w);
	struct slot *s = &l->slots[w->slot];
	s->watch = NULL;
	s->generation++;
	s->next_free = l->free_slot;
	l->free_slot = w->slot;
	w->interest = 0;
}

void watch_del(struct loop *l, struct watch *w)
{
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
	watch_forget(l, w);
}

static void dispatch(struct loop *l, const struct epoll_event *e)
{
	const struct slot *s = &l->slots[(uint32_t)e->data.u64];
	if (!s->watch || s->generation != (uint32_t)(e->data.u64 >> 32))
		return; /* died in this batch */
	unsigned events = (e->events & EPOLLIN ? WATCH_READ : 0u) |
			  (e->events & EPOLLOUT ? WATCH_WRITE : 0u) |
			  (e->events & (EPOLLERR | EPOLLHUP) ? WATCH_ERROR : 0u);
	s->watch->ready(s->watch, events);
}

/* Tasks */

static bool some(const struct task *head)
{
	return head->next != head;
}

void later(struct loop *l, enum phase ph, struct task *t)
{
	if (t->next)
		return;
	struct task *head = &l->phases[ph];
	t->phase = (uint8_t)ph;
	t->next = head;
	t->prev = head->prev;
	head->prev->next = t;
	head->prev = t;
}

void task_drop(struct loop *l, struct task *t)
{
	if (!t->next)
		return;
	t->next->prev = t->prev;
	t->prev->next = t->next;
	t->next = t->prev = NULL;
}

/* Runs those now in the list, at most max of them; what they schedule waits for the next call. */
static void run_phase(struct loop *l, enum phase ph, unsigned max)
{
	struct task *head = &l->phases[ph], now;
	if (!some(head))
		return;
	now = (struct task){head->next, head->prev, NULL,
			    0}; /* the list hangs on now, head is empty */
	now.next->prev = now.prev->next = &now;
	head->next = head->prev = head;
	for (; some(&now) && max; max--) {
		struct task *t = now.next;
		task_drop(l, t);
		t->run(t);
	}
	if (!some(&now))
		return;
	now.prev->next = head->next; /* the rest goes first */
	head->next->prev = now.prev;
	head->next = now.next;
	now.next->prev = head;
}

static void pass(struct loop *l)
{
	struct task *run = &l->phases[PHASE_RUN], *dirty = &l->phases[PHASE_WRITE];
	for (int i = 0; i < GENERATIONS && (some(run) || some(dirty)); i++) {
		for (int k = 0; k < GENERATIONS && some(run); k++)
			run_phase(l, PHASE_RUN, UINT_MAX);
		run_phase(l, PHASE_WRITE, UINT_MAX);
	}
}

void reap(struct loop *l, struct grave *g)
{
#if POSTERN_SYS_HOOKS
	for (const struct grave *h = l->graves; h; h = h->next)
		must(h != g);
#endif
	g->next = NULL;
	*l->graves_end = g;
	l->graves_end = &g->next;
}

/* The turn */

static int sleep_ms(const struct loop *l, int wait_ms, uint64_t now)
{
	for (int i = 0; i < PHASES; i++)
		if (some(&l->phases[i]))
			return 0;
	uint64_t next = wheel_next(&l->wheel);
	if (next == UINT64_MAX || wait_ms == 0)
		return wait_ms;
	uint64_t ms = next > now ? (next - now + 999) / 1000 : 0;
	if (ms > INT_MAX)
		ms = INT_MAX;
	return wait_ms < 0 || (int)ms < wait_ms ? (int)ms : wait_ms;
}

static void turn(struct loop *l, int timeout)
{
	int n = epoll_wait(l->epoll, l->events, BATCH, timeout);
	must(n >= 0 || errno == EINTR);
	set_now(l);
	uint64_t began = l->now;
	if (__builtin_expect(l->now >= l->beat.due, 0)) {
		l->beat.due = l->now + l->beat.every;
		l->beat.run(l->beat.arg);
	}
	wheel_advance(&l->wheel, l->now);
	int at = 0;
	do {
		for (unsigned k = 0; k < l->pass && at < n; k++)
			dispatch(l, &l->events[at++]);
		pass(l);
	} while (at < n);
	for (int r = 0; r < ROUNDS && some(&l->phases[PHASE_AGAIN]); r++) {
		run_phase(l, PHASE_AGAIN, l->pass);
		pass(l);
		run_phase(l, PHASE_FLUSH, UINT_MAX);
	}
	run_phase(l, PHASE_FLUSH, UINT_MAX);
	bury_all(l);
	l->ended = read_clock(l);
	l->lag = l->ended > began ? l->ended - began : 0;
}

void loop_turn(struct loop *l, int wait_ms)
{
	turn(l, sleep_ms(l, wait_ms, read_clock(l)));
}

void loop_run(struct loop *l)
{
	l->ended = read_clock(l);
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE))
		turn(l, sleep_ms(l, -1, l->ended));
}

/* Time */

unsigned loop_index(const struct loop *l)
{
	return l->index;
}

uint64_t loop_now_us(const struct loop *l)
{
	return l->now;
}

uint64_t loop_wall_us(const struct loop *l)
{
	return l->now + l->wall_ahead;
}

uint64_t loop_now_fresh(struct loop *l)
{
	set_now(l);
	return l->now;
}

uint64_t loop_lag_us(const struct loop *l)
{
	return l->lag;
}

const char *loop_http_date(struct loop *l)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	uint64_t s = loop_wall_us(l) / 1000000;
	if (s == l->date_s)
		return l->date;
	time_t when = (time_t)s;
	struct tm tm;
	char text[80];
	gmtime_r(&when, &tm);
	snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
		 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
		 tm.tm_sec);
	memcpy(l->date, text, HTTP_DATE);
	l->date_s = s;
	return l->date;
}

void loop_set_clock(struct loop *l, uint64_t (*now_us)(void *), void *arg)
{
	must(wheel_next(&l->wheel) == UINT64_MAX); /* armed timers are on the other clock */
	l->clock = now_us;
	l->clock_arg = arg;
	l->wall_again = 0;
	set_now(l);
	wheel_init(&l->wheel, l->now);
}

/* Signals */

static void read_signals(struct watch *w, unsigned events)
{
	struct loop *l = OWNER(w, struct loop, signals);
	struct signalfd_siginfo info;
	while (read(l->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
		l->got((int)info.ssi_signo, l->got_arg);
}

bool loop_signals(struct loop *l, const int *signals, int n, void (*got)(int signal, void *arg),
		  void *arg)
{
	sigset_t set;
	must(l->signal_fd < 0);
	sigemptyset(&set);
	for (int i = 0; i < n; i++)
		sigaddset(&set, signals[i]);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return false;
	l->signal_fd = fd;
	l->got = got;
	l->got_arg = arg;
	l->signals.ready = read_signals;
	if (watch_add(l, &l->signals, fd, WATCH_READ))
		return true;
	close(fd);
	l->signal_fd = -1;
	return false;
}

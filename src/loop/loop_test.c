/* src/loop/loop_test.c: turns, phases, watches, posts, signals, graves. */
#include "base/mem.h"
#include "base/must.h"
#include "loop/loop.h"
#include "loop/sys.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *l;
static char said[4096];
static size_t said_n;

static void say(char what)
{
	must(said_n < sizeof said - 1);
	said[said_n++] = what;
	said[said_n] = 0;
}

static void expect(const char *what)
{
	if (strcmp(said, what)) {
		fprintf(stderr, "said %s, expected %s\n", said, what);
		must(!"what was expected");
	}
	said_n = 0;
	said[0] = 0;
}

struct worker {
	struct task task;
	struct watch watch;
	struct grave grave;
	char name;
	int again;            /* schedule itself so many times more */
	enum phase ph;        /* ... there */
	struct worker *other; /* and this one, there, once */
	enum phase other_ph;
};
#define OF(p, member) ((struct worker *)(void *)((char *)(p)-offsetof(struct worker, member)))

static void work(struct task *t)
{
	struct worker *w = OF(t, task);
	say(w->name);
	if (w->again) {
		w->again--;
		later(l, w->ph, t);
	}
	if (w->other)
		later(l, w->other_ph, &w->other->task);
	w->other = NULL;
}

static void ready(struct watch *watch, unsigned events)
{
	struct worker *w = OF(watch, watch);
	say((char)(w->name - 'A' + 'a'));
	later(l, PHASE_RUN, &w->task);
}

static void bury(struct grave *g)
{
	say('x');
	struct worker *w = OF(g, grave);
	if (w->other)
		reap(l, &w->other->grave);
}

static void phases_in_order(void)
{
	struct worker a = {.task.run = work, .name = 'A'}, b = {.task.run = work, .name = 'B'},
		      c = {.task.run = work, .name = 'C'}, d = {.task.run = work, .name = 'D'};
	later(l, PHASE_FLUSH, &c.task);
	later(l, PHASE_WRITE, &b.task);
	later(l, PHASE_AGAIN, &d.task);
	later(l, PHASE_RUN, &a.task);
	later(l, PHASE_FLUSH, &a.task); /* scheduled already: no-op */
	loop_turn(l, 1000);             /* does not sleep: there is work */
	expect("ABDC");

	a.again = 3, a.ph = PHASE_RUN; /* all in the same pass, before anything is written */
	later(l, PHASE_WRITE, &b.task);
	later(l, PHASE_RUN, &a.task);
	loop_turn(l, 0);
	expect("AAAAB");

	b.other = &a, b.other_ph = PHASE_RUN; /* a finished answer starts the next head */
	later(l, PHASE_WRITE, &b.task);
	loop_turn(l, 0);
	expect("BA");

	c.other = &a, c.other_ph = PHASE_RUN; /* from a later phase: the next turn, no sleep */
	later(l, PHASE_FLUSH, &c.task);
	loop_turn(l, 0);
	expect("C");
	loop_turn(l, 1000);
	expect("A");

	later(l, PHASE_RUN, &a.task);
	later(l, PHASE_RUN, &b.task);
	task_drop(l, &a.task);
	task_drop(l, &a.task);
	must(!task_scheduled(&a.task) && task_scheduled(&b.task));
	loop_turn(l, 0);
	expect("B");
}

static void again_is_bounded(void)
{
	struct worker a = {.task.run = work, .name = 'A', .again = 19, .ph = PHASE_AGAIN};
	later(l, PHASE_AGAIN, &a.task);
	loop_turn(l, 0);
	expect("AAAAAAAA");
	loop_turn(l, 1000);
	expect("AAAAAAAA");
	loop_turn(l, 1000);
	expect("AAAA");

	/* One that never stops is left for the next turn. */
	struct worker b = {.task.run = work, .name = 'B', .again = 1000000, .ph = PHASE_AGAIN};
	b.ph = PHASE_WRITE;
	later(l, PHASE_WRITE, &b.task);
	loop_turn(l, 0);
	must(said_n > 1 && said_n < 1000);
	task_drop(l, &b.task);
	said_n = 0;
}

static struct task *victim;

static void drop_victim(struct task *t)
{
	say('D');
	task_drop(l, victim);
}

static void dropped_within_the_phase(void)
{
	struct task a = {.run = drop_victim};
	struct worker b = {.task.run = work, .name = 'B'}, c = {.task.run = work, .name = 'C'};
	victim = &b.task;
	later(l, PHASE_RUN, &a);
	later(l, PHASE_RUN, &b.task);
	later(l, PHASE_RUN, &c.task);
	loop_turn(l, 0);
	expect("DC");
}

static void graves_at_the_end(void)
{
	struct worker a = {.task.run = work, .name = 'A', .grave.bury = bury},
		      b = {.task.run = work, .name = 'B', .grave.bury = bury};
	a.other = &b, a.other_ph = PHASE_FLUSH;
	reap(l, &a.grave);
	later(l, PHASE_FLUSH, &b.task);
	loop_turn(l, 0);
	expect("Bxx"); /* the second was reaped by the first's burial */
}

static struct worker *killer_of;

static void kill_all(struct watch *watch, unsigned events)
{
	say('k');
	for (int i = 0; i < 3; i++)
		if (&killer_of[i].watch != watch && killer_of[i].watch.interest)
			watch_del(l, &killer_of[i].watch);
}

/* Three are ready at once; the first deletes the others, and a new watch takes a dead one's slot: no
 * stale event may reach it. */
static void no_event_for_the_dead(void)
{
	struct worker w[3] = {0}, fresh = {.task.run = work, .name = 'F', .watch.ready = ready};
	int pairs[4][2];
	killer_of = w;
	for (int i = 0; i < 4; i++)
		must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pairs[i]) == 0);
	for (int i = 0; i < 3; i++) {
		w[i].watch.ready = kill_all;
		must(watch_add(l, &w[i].watch, pairs[i][0], WATCH_READ));
		must(write(pairs[i][1], "x", 1) == 1);
	}
	loop_turn(l, 1000);
	expect("k");
	must(watch_add(l, &fresh.watch, pairs[3][0], WATCH_READ));
	loop_turn(l, 0);
	must(said_n == 1); /* the survivor again, whichever it is; not the fresh one */
	for (int i = 0; i < 3; i++)
		if (w[i].watch.interest)
			watch_del(l, &w[i].watch);
	said_n = 0;
	must(write(pairs[3][1], "x", 1) == 1);
	loop_turn(l, 1000);
	expect("fF");
	watch_set(l, &fresh.watch, 0);
	loop_turn(l, 0);
	expect("");
	watch_set(l, &fresh.watch, WATCH_WRITE);
	loop_turn(l, 0);
	expect("fF");
	watch_forget(l, &fresh.watch);
	for (int i = 0; i < 4; i++) {
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
	loop_turn(l, 0);
	expect("");
	must(!watch_add(l, &fresh.watch, -1, WATCH_READ) && errno == EBADF);
}

/* With passes of 1, each is run before the next is read; with passes of 8, all are read first. */
static void passes(void)
{
	struct worker w[3];
	int pairs[3][2];
	for (int i = 0; i < 3; i++) {
		w[i] = (struct worker){.task.run = work, .name = 'W', .watch.ready = ready};
		must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pairs[i]) == 0);
		must(write(pairs[i][1], "x", 1) == 1);
		must(watch_add(l, &w[i].watch, pairs[i][0], WATCH_READ));
	}
	loop_set_pass(l, 1);
	loop_turn(l, 0);
	expect("wWwWwW");
	loop_set_pass(l, 2);
	loop_turn(l, 0);
	expect("wwWWwW");
	loop_set_pass(l, 8);
	loop_turn(l, 0);
	expect("wwwWWW");
	for (int i = 0; i < 3; i++) {
		watch_del(l, &w[i].watch);
		close(pairs[i][0]);
		close(pairs[i][1]);
	}
}

enum { POSTERS = 4, POSTS = 20000 };
struct counted {
	struct post post;
	int poster, number;
};
static struct counted posts[POSTERS][POSTS];
static int next_of[POSTERS], posted;

static void got_post(struct post *p, struct loop *of)
{
	struct counted *c = (struct counted *)(void *)p;
	must(of == l && c->number == next_of[c->poster]++); /* each poster's in its order */
	if (++posted == POSTERS * POSTS)
		loop_stop(l);
}

static void *poster(void *arg)
{
	int me = *(int *)arg;
	for (int i = 0; i < POSTS; i++) {
		posts[me][i] = (struct counted){{.run = got_post}, me, i};
		loop_post(l, &posts[me][i].post);
	}
	return NULL;
}

static void posts_all_arrive(void)
{
	pthread_t threads[POSTERS];
	int names[POSTERS];
	for (int i = 0; i < POSTERS; i++) {
		names[i] = i;
		must(pthread_create(&threads[i], NULL, poster, &names[i]) == 0);
	}
	loop_run(l);
	must(posted == POSTERS * POSTS);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
}

static void got_signal(int number, void *arg)
{
	must(arg == &said);
	say(number == SIGUSR1 ? '1' : '2');
}

static void signals(void)
{
	int both[] = {SIGUSR1, SIGUSR2};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	must(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	must(loop_signals(l, both, 2, got_signal, &said));
	raise(SIGUSR2);
	raise(SIGUSR1);
	loop_turn(l, 1000);
	must(said_n == 2 && strchr(said, '1') && strchr(said, '2'));
	said_n = 0;
}

static uint64_t fake_now = 1000;
static uint64_t fake(void *arg)
{
	return fake_now;
}

static void time_is_read_once(void)
{
	struct loop *t = loop_new(3);
	must(loop_index(t) == 3);
	const char *date = loop_http_date(t);
	must(strlen(date) == 29 && strcmp(date + 25, " GMT") == 0 && date[3] == ',');
	loop_set_clock(t, fake, NULL);
	fake_now += 5;
	must(loop_now_us(t) == 1000 && loop_now_fresh(t) == 1005);
	fake_now += 10;
	loop_turn(t, 0);
	must(loop_now_us(t) == 1015 && loop_ms(loop_now_us(t)) == 1);
	must(loop_wall_us(t) > 1700000000ull * 1000000);
	loop_free(t);
}

static void count_beat(void *arg)
{
	++*(int *)arg;
}

static void a_beat_keeps_its_distance(void)
{
	struct loop *t = loop_new(0);
	int beats = 0;
	loop_set_clock(t, fake, NULL);
	loop_turn(t, 0);
	loop_beat(t, 100, count_beat, &beats);
	loop_turn(t, 0);
	must(beats == 0);
	fake_now += 99;
	loop_turn(t, 0);
	must(beats == 0);
	fake_now += 1;
	loop_turn(t, 0);
	loop_turn(t, 0);
	must(beats == 1);
	fake_now += 1000; /* one for all that were missed */
	loop_turn(t, 0);
	must(beats == 2);
	loop_beat(t, 0, NULL, NULL);
	fake_now += 1000;
	loop_turn(t, 0);
	must(beats == 2);
	loop_free(t);
}

static void no_memory(void)
{
	for (uint64_t n = 1;; n++) {
		mem_fail_nth(n);
		struct loop *t = loop_new(0);
		bool fired = mem_fail_left() == 0;
		mem_fail_nth(0);
		must((t != NULL) == !fired);
		loop_free(t);
		if (!fired)
			break;
	}
	/* More watches than there are slots, without memory for more slots. */
	struct loop *t = loop_new(0);
	struct watch w[200];
	int fds[200], n = 0;
	mem_fail_nth(1);
	for (; n < 200; n++) {
		fds[n] = socket(AF_UNIX, SOCK_DGRAM, 0);
		w[n] = (struct watch){.ready = ready};
		if (!watch_add(t, &w[n], fds[n], WATCH_READ))
			break;
	}
	must(n < 200 && errno == ENOMEM && watch_add(t, &w[n], fds[n], WATCH_READ));
	for (; n >= 0; n--) {
		watch_del(t, &w[n]);
		close(fds[n]);
	}
	loop_free(t);
}

static ssize_t refuse(int fd, const void *p, size_t n, int flags)
{
	errno = ECONNRESET;
	return -1;
}

static void hooks(void)
{
	int pair[2];
	char ch;
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	must(sys_send(pair[0], "x", 1, 0) == 1 && sys_recv(pair[1], &ch, 1) == 1);
	sys_hooks.send = refuse;
	must(sys_send(pair[0], "x", 1, 0) == -1 && errno == ECONNRESET);
	sys_hooks.send = NULL;
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	l = loop_new(0);
	loop_set_pass(l, 8);
	phases_in_order();
	again_is_bounded();
	dropped_within_the_phase();
	graves_at_the_end();
	no_event_for_the_dead();
	passes();
	signals();
	posts_all_arrive();
	loop_free(l);
	time_is_read_once();
	a_beat_keeps_its_distance();
	no_memory();
	hooks();
	return 0;
}

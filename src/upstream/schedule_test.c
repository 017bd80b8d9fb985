/* src/upstream/schedule_test.c: calls, origins, time, swaps and failures in random order. What must hold whatever the order: an
 * answer belongs to the call that asked, every call ends, no event comes when none may, nothing is left behind. */
#include "upstream/upstream_test.h"

enum { CALLS = 12, PEERS = 32, ORIGINS = 3, STEPS = 4000 };

static uint64_t seed;

static unsigned dice(unsigned n)
{
	return dice_of(&seed, n);
}

/* ---- origins of many manners */

struct origin_side {
	int fd;
	char got[8192];
	size_t n;
	bool asked;
	unsigned number; /* of the request last seen */
	int rest;        /* chunks of the answer still to come */
};
static struct listening at[ORIGINS];
static struct origin_side sides[PEERS];

static void side_close(struct origin_side *s, bool reset)
{
	if (reset) {
		struct linger at_once = {1, 0};
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	}
	close(s->fd);
	s->fd = -1;
}

static void side_say(struct origin_side *s, const char *text)
{
	ssize_t put = send(s->fd, text, strlen(text), MSG_NOSIGNAL);
	(void)put;
}

static void accept_all(void)
{
	for (int i = 0; i < ORIGINS; i++) {
		int fd;
		while ((fd = accept4(at[i].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
			int k = 0;
			while (k < PEERS && sides[k].fd >= 0)
				k++;
			if (k == PEERS || dice(20) == 0) {
				close(fd);
				continue;
			}
			sides[k] = (struct origin_side){.fd = fd};
		}
	}
}

static void answer(struct origin_side *s)
{
	char text[300];
	unsigned n = s->number;
	int len = snprintf(text, sizeof text, "%u", n);
	s->asked = false;
	switch (dice(14)) {
	case 0: side_close(s, true); return;
	case 1: side_close(s, false); return;
	case 2: side_say(s, "HTTP/1.1 200 OK\r\nContent-Le"); break; /* and no more */
	case 3: side_say(s, "what?\r\n\r\n"); break;
	case 4:
		snprintf(text, sizeof text, "HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%u", len,
			 n);
		side_say(s, text);
		break;
	case 5:
		snprintf(text, sizeof text,
			 "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%uHTTP/1.1 200 "
			 "OK\r\nContent-Length: 6\r\n\r\npoison",
			 len, n);
		side_say(s, text);
		break;
	case 6:
		snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n\r\n%u", n);
		side_say(s, text);
		side_close(s, false);
		return;
	case 7:
		snprintf(text, sizeof text,
			 "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 "
			 "OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%u\r\n0\r\n\r\n",
			 (unsigned)len, n);
		side_say(s, text);
		break;
	case 8:
		side_say(s, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		s->rest = 3;
		break;
	default:
		snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%u", len,
			 n);
		side_say(s, text);
		break;
	}
}

static void play(struct origin_side *s)
{
	ssize_t n = recv(s->fd, s->got + s->n, sizeof s->got - 1 - s->n, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		side_close(s, false);
		return;
	}
	if (n > 0)
		s->n += (size_t)n;
	s->got[s->n] = 0;
	char *slash = strchr(s->got, '/'); /* what comes before is of the last request's body */
	if (slash && strstr(slash, "\r\n\r\n")) {
		s->number = (unsigned)atoi(slash + 1);
		s->asked = true;
		s->n = 0; /* a body that comes later is read as rubbish and skipped with it */
	} else if (s->n > 6000) {
		s->n = 0;
	}
	if (s->rest && dice(3) == 0) {
		char text[60];
		snprintf(text, sizeof text,
			 s->rest == 3   ? "1\r\n#\r\n"
			 : s->rest == 2 ? "1\r\n!\r\n"
					: "0\r\n\r\n");
		side_say(s, text);
		s->rest--;
	} else if (s->asked && !s->rest && dice(3) == 0) {
		answer(s);
	} else if (dice(200) == 0) {
		side_close(s, dice(2));
	}
}

/* ---- callers */

static struct {
	struct asked a;
	bool on, ends;
	unsigned number;
	char body[64];
	size_t n;
} calls[CALLS];
static unsigned numbers;
static struct retry_policy policies[3] = {
	{.on = RETRY_5XX, .num_retries = 2, .backoff = {25000, 250000}},
	{.on = RETRY_RESET | RETRY_CONNECT_FAILURE,
	 .num_retries = 3,
	 .previous_hosts = true,
	 .host_attempts = 3,
	 .per_try_timeout_us = 300000},
	{.on = RETRY_5XX | RETRY_RETRIABLE_4XX, .num_retries = 1, .per_try_idle_us = 200000},
};

static void begin(int i, struct upstream *u, struct model *m, uint64_t fail)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "HEAD", "DELETE"};
	struct asked *a = &calls[i].a;
	char path[32];
	calls[i].number = ++numbers;
	snprintf(path, sizeof path, "/%u", numbers);
	ask(a, m, m->clusters[0], methods[dice(4)], "/");
	must(head_set_id(&a->head, FIELD_PATH, arena_str(&a->arena, str_of(path))));
	a->rq.ended = dice(3) > 0;
	a->rq.length = a->rq.ended || dice(2) ? -1 : 20;
	a->rq.timeout_us = 1 + dice(3000000);
	a->rq.idle_timeout_us = dice(3) ? 0 : 400000;
	a->rq.retry = dice(2) ? &policies[dice(3)] : NULL;
	a->rq.no_interim = dice(2);
	a->inside = true;
	mem_fail_nth(fail);
	a->call = call_open(u, &a->rq, on_event, a);
	a->inside = false;
	if (!a->call) { /* only without memory */
		arena_fini(&a->arena);
		return;
	}
	calls[i].on = true;
	calls[i].ends = a->rq.ended;
	calls[i].n = 0;
}

static void finish(int i)
{
	struct call *c = calls[i].a.call;
	if (c->ended && c->has_head && c->head->status == 200 && c->in.n == 0) {
		char want[32];
		snprintf(want, sizeof want, "%u", calls[i].number);
		bool empty = calls[i].a.head.method == METHOD_HEAD;
		calls[i].body[calls[i].n] = 0;
		if (!empty && strcmp(calls[i].body, want) && strcmp(calls[i].body, "#!"))
			fprintf(stderr, "call %s got \"%s\"\n", want, calls[i].body);
		must(empty ? calls[i].n == 0
			   : !strcmp(calls[i].body, want) || !strcmp(calls[i].body, "#!"));
	}
	done(&calls[i].a);
	calls[i].on = false;
}

static void pump(int i)
{
	struct asked *a = &calls[i].a;
	struct call *c = a->call;
	must(!(c->ended && c->failed));
	must(!c->has_head || c->head->status);
	if (c->in.n && dice(2)) {
		must(calls[i].n + c->in.n < sizeof calls[i].body);
		chain_read(&c->in, 0, calls[i].body + calls[i].n, c->in.n);
		calls[i].n += c->in.n;
		chain_clear(&c->in);
		a->inside = true;
		call_took(c);
		a->inside = false;
	}
	if (!calls[i].ends && dice(3) == 0) {
		bool end = dice(2);
		struct chain body = {0};
		if (chain_copy(&body, "0123456789", end && a->rq.length < 0 ? 3 : 10)) {
			a->inside = true;
			call_send(c, &body, end, NULL);
			a->inside = false;
			calls[i].ends = end;
		}
	}
	if (dice(40) == 0)
		call_hold(c, dice(2));
	if (((c->ended && c->in.n == 0) || c->failed) && dice(2))
		finish(i);
	else if (dice(150) == 0)
		finish(i); /* the client leaves */
}

/* ---- what the kernel may do */

static ssize_t short_recv(int fd, void *p, size_t n)
{
	if (dice(10) == 0) {
		errno = dice(2) ? EAGAIN : EINTR;
		return -1;
	}
	size_t most = dice(3) ? n : 1 + dice(7);
	return recv(fd, p, n < most ? n : most, 0);
}
static ssize_t short_send(int fd, const void *p, size_t n, int flags)
{
	if (dice(10) == 0) {
		errno = EAGAIN;
		return -1;
	}
	size_t most = dice(3) ? n : 1 + dice(30);
	return send(fd, p, n < most ? n : most, MSG_NOSIGNAL);
}
static ssize_t short_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return short_send(fd, m->msg_iov[0].iov_base, m->msg_iov[0].iov_len, flags);
}
static int odd_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (dice(15) == 0) {
		errno = ENETUNREACH;
		return -1;
	}
	return connect(fd, sa, len);
}
static int odd_socket(int family, int type, int protocol)
{
	if (dice(30) == 0) {
		errno = EMFILE;
		return -1;
	}
	return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

/* What comes when nobody has asked ends the connection. */
static void unsolicited(void)
{
	char text[100];
	accept_all();
	for (int k = 0; k < PEERS; k++) {
		if (sides[k].fd < 0)
			continue;
		side_say(&sides[k], "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
		ssize_t n = -1;
		for (int i = 0; i < 500 && !(n == 0 || (n < 0 && errno != EAGAIN)); i++) {
			loop_turn(l, i < 20 ? 0 : 2);
			errno = EAGAIN;
			n = recv(sides[k].fd, text, sizeof text, 0);
		}
		must(n == 0 || errno != EAGAIN);
	}
}

static struct model *some_model(void)
{
	struct model *m = model_with_options();
	const struct listening *all[ORIGINS];
	for (int i = 0; i < ORIGINS; i++)
		all[i] = &at[i];
	struct cluster_cfg *c = cluster_new(m, "web", all, 1 + dice(ORIGINS));
	c->lb = (enum lb_policy)dice(4);
	c->breakers[0] =
		(struct breaker){1 + dice(4), 1 + dice(6), 2 + dice(8), dice(3), false, 0, 0};
	c->max_requests_per_connection = dice(3) ? 0 : 1 + dice(3);
	c->idle_timeout_us = dice(2) ? 500000 : 55000000;
	c->connect_timeout_us = 700000;
	prepare(m);
	return m;
}

static void end_run(struct upstream *u, struct model *m, struct model *older)
{
	/* Time alone must end what is left, but for those whose owner has not finished asking. */
	for (int i = 0; i < CALLS; i++)
		if (calls[i].on)
			call_hold(calls[i].a.call, false);
	pass_time(4000000);
	for (int i = 0; i < CALLS; i++) {
		if (!calls[i].on)
			continue;
		must(!calls[i].ends || calls[i].a.call->ended || calls[i].a.call->failed);
		finish(i);
	}
	turns(2);
	must(u->ncalls == 0);
	sys_hooks = (struct sys_hooks){0};
	unsolicited();
	upstream_free(u);
	for (int i = 0; i < USES; i++)
		must(in_use("web", (enum breaker_what)i) == 0);
	turns(1);
	for (int k = 0; k < PEERS; k++)
		if (sides[k].fd >= 0)
			side_close(&sides[k], false);
	for (int i = 0, fd; i < ORIGINS; i++)
		while ((fd = accept4(at[i].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
			close(fd);
	if (older) {
		must(atomic_load(&older->refs) == 1);
		model_unref(older);
	}
	must(atomic_load(&m->refs) == 1);
	model_unref(m);
}

static void one_run(uint64_t from, bool odd_kernel, bool no_memory)
{
	seed = from;
	if (odd_kernel)
		sys_hooks = (struct sys_hooks){.recv = short_recv,
					       .send = short_send,
					       .sendmsg = short_sendmsg,
					       .connect = odd_connect,
					       .socket = odd_socket};
	for (int i = 0; i < PEERS; i++)
		sides[i].fd = -1;
	struct model *m = some_model(), *older = NULL;
	struct upstream *u = upstream_new(l, m);
	must(u);
	for (int step = 0; step < STEPS; step++) {
		int i = (int)dice(CALLS);
		uint64_t fail = no_memory && dice(20) == 0 ? 1 + dice(12) : 0;
		if (calls[i].on) {
			mem_fail_nth(fail);
			pump(i);
		} else if (dice(3) == 0) {
			begin(i, u, dice(8) == 0 && older ? older : m, fail);
		}
		mem_fail_nth(0);
		if (no_memory && dice(10) == 0)
			mem_fail_nth(1 + dice(20));
		virtual_us += dice(30) == 0 ? dice(200000) : dice(3000);
		loop_turn(l, 0);
		mem_fail_nth(0);
		accept_all();
		for (int k = 0; k < PEERS; k++)
			if (sides[k].fd >= 0 && dice(2))
				play(&sides[k]);
		if (dice(400) == 0) {
			struct model *next = some_model();
			upstream_swap(u, next);
			if (older)
				model_unref(older);
			older = m;
			m = next;
		}
	}
	end_run(u, m, older);
}

static void say_seed(const void *arg, int fd)
{
	dprintf(fd, "seed %llu\n", *(const unsigned long long *)arg);
}

int main(int argc, char **argv)
{
	unsigned long long from = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
	int runs = argc > 1 ? 1 : 12;
	start_tests();
	log_levels[LOG_UPSTREAM] = LOG_OFF;
	for (int i = 0; i < ORIGINS; i++)
		at[i] = listen_local();
	must_about(say_seed, &from);
	for (int run = 0; run < runs; run++) {
		if (argc <= 1)
			random_bytes(&from, sizeof from);
		l = loop_new(0);
		must(l);
		static const unsigned passes[] = {1, 8, 256};
		loop_set_pass(l, passes[from % 3]);
		virtual_us = 1000000000;
		loop_set_clock(l, read_virtual, NULL);
		one_run(from, from >> 8 & 1, from >> 9 & 1);
		loop_free(l);
	}
	arena_trim();
	chain_trim();
	return 0;
}

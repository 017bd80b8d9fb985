/* src/filters/fallback/step_test.h: one exchange (or two), step by step: the test plays the client and the origins between the turns of the loop.
 * The clock stands still unless the test lets time pass. */
#pragma once
#include "filters/fallback/fallback_test.h"

static struct world w;
static struct listening places[ORIGINS]; /* of the primary and two fallbacks */
static unsigned outputs;                 /* how often the gateway had something to send */

static void port_output(struct exchange *ex)
{
	outputs++;
}
static void port_room(struct exchange *ex)
{
}
static void port_over(struct exchange *ex, bool cut)
{
}
static const struct exch_port port = {.output = port_output, .room = port_room, .over = port_over};

/* size: of the body, 0: none. */
static struct exchange *ask_with(const char *method, const char *path, int64_t size)
{
	struct exchange *ex = exch_new(&w.env, &port, NULL, &w.peer, w.model, &w.hcm);
	must(ex);
	struct head *h = &ex->req.head;
	must(head_add_id(h, FIELD_AUTHORITY, STR("t.test")) &&
	     head_add_id(h, FIELD_PATH, str_of(path)) &&
	     head_add_id(h, FIELD_METHOD, str_of(method)) &&
	     head_add_id(h, FIELD_SCHEME, STR("http")));
	exch_begin(ex, size);
	return ex;
}
static struct exchange *ask(const char *path)
{
	return ask_with("GET", path, 0);
}

/* Turns until the origin has a whole request's head on a connection. Real time passes for the
 * kernel, none for the gateway. */
static int take_request(unsigned o)
{
	int fd = -1;
	char b[4096];
	size_t n = 0;
	for (int i = 0; i < 1000; i++) {
		loop_turn(w.loop, i < 20 ? 0 : 1);
		if (fd < 0)
			fd = accept4(places[o].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		/* byte by byte: what comes behind the head is left there */
		while (fd >= 0 && n < sizeof b && recv(fd, b + n, 1, 0) == 1 &&
		       (++n < 4 || memcmp(b + n - 4, "\r\n\r\n", 4) != 0))
			;
		if (n >= 4 && !memcmp(b + n - 4, "\r\n\r\n", 4)) {
			int one = 1;
			must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
			return fd;
		}
	}
	must(!"a request comes");
	return -1;
}

static void say(int fd, const char *text)
{
	must(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* Whether the gateway has ended this connection; what it sent before is read. */
static bool is_over(int fd)
{
	char b[4096];
	ssize_t got;
	do
		got = recv(fd, b, sizeof b, 0);
	while (got > 0);
	must(got == 0 || errno == EAGAIN || errno == ECONNRESET);
	return got == 0 || errno == ECONNRESET;
}

/* first: where the first fallback is. */
static void begin_at(unsigned pass, const struct listening *first)
{
	const struct listening *at[ORIGINS] = {&places[0], first, &places[2]};
	world_up(&w, at, pass);
	w.cfg.other_methods = METHOD_TRY_PRIMARY;
}
static void begin(unsigned pass)
{
	begin_at(pass, &places[1]);
}

static void pass_time(uint64_t us)
{
	virtual_us += us;
	for (int i = 0; i < 5; i++)
		loop_turn(w.loop, 0);
}

/* The client has what it wanted; the test goes on. */
static void leave(struct exchange *ex)
{
	exch_client_gone(ex);
	for (int i = 0; i < 3; i++)
		loop_turn(w.loop, 0);
}
/* Of the test; the origins' connections first. */
static void end(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
	for (int i = 0; i < 3; i++)
		loop_turn(w.loop, 0);
	world_down(&w);
}
static void finish(struct exchange *ex, const int *fds, unsigned n)
{
	leave(ex);
	end(fds, n);
}

static const struct fb *state_of(const struct exchange *ex)
{
	return exch_state(ex, &w.filters[0]);
}

static const char MISSING[] =
	"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 4\r\n\r\npage",
		  REFUSED[] = "HTTP/1.1 405 No\r\ncontent-length: 4\r\n\r\npage";

/* The primary's page goes out because the fallback could not say anything. */
static bool is_degraded(const struct exchange *ex)
{
	return exch_answer_ready(ex) &&
	       str_eq(head_value(&ex->resp.head, FIELD_CACHE_CONTROL), STR("no-store")) &&
	       str_eq(str_of(ex->fallback.served), STR("degraded"));
}

/* A place whose backlog is full: it neither takes nor refuses a connection. */
static struct listening silent_place(int waiting[2])
{
	struct listening s = refusing();
	must(listen(s.fd, 0) == 0);
	for (int i = 0; i < 2; i++) {
		waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		must(connect(waiting[i], (struct sockaddr *)&s.addr, sizeof s.addr) == 0 ||
		     errno == EINPROGRESS);
	}
	return s;
}

/* Each test with passes of 1, 8 and 256 events: an order bug shows. */
static void run_tests(void (*const *tests)(unsigned pass), size_t n)
{
	static const unsigned passes[] = {1, 8, 256};
	start_tests();
	for (int i = 0; i < ORIGINS; i++)
		places[i] = listen_local();
	for (int i = 0; i < 3; i++)
		for (size_t t = 0; t < n; t++)
			tests[t](passes[i]);
}
#define RUN(...)                                            \
	run_tests((void (*const[])(unsigned)){__VA_ARGS__}, \
		  sizeof((void (*const[])(unsigned)){__VA_ARGS__}) / sizeof(void (*)(unsigned)))

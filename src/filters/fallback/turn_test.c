/* src/filters/fallback/turn_test.c: what a fallback says goes on in the turn of the loop in which it was read, however slow the rest is
 * (spec/fallback.md 13). The clock stands still. */
#include "filters/fallback/fallback_test.h"

static struct world w;
static struct listening places[ORIGINS];
static unsigned outputs;

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
		ssize_t got = fd < 0 ? -1 : recv(fd, b + n, sizeof b - n, 0);
		n += got > 0 ? (size_t)got : 0;
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

/* One turn, in which so many bytes come out. */
static void one_turn_brings(struct exchange *ex, const char *text)
{
	char b[64];
	size_t want = strlen(text), before = outputs;
	must(ex->resp.out.n == 0);
	loop_turn(w.loop, 0);
	must(outputs > before && exch_answer_ready(ex) && ex->resp.out.n == want);
	chain_read(&ex->resp.out, 0, b, want);
	must(!memcmp(b, text, want));
	ex->head_sent = true;
	chain_skip(&ex->resp.out, want);
	exch_answer_taken(ex, want);
}

static void begin(unsigned pass)
{
	const struct listening *at[ORIGINS];
	for (int o = 0; o < ORIGINS; o++)
		at[o] = &places[o];
	world_up(&w, at, pass);
}

static void a_slow_page_passes_byte_by_byte(unsigned pass)
{
	begin(pass);
	uint64_t began = virtual_us;
	struct exchange *ex = ask("/slow");
	int p = take_request(0);
	say(p, "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\npage");
	int f = take_request(1);
	must(!exch_answer_ready(ex));
	say(f, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
	one_turn_brings(ex, "a");
	for (int i = 0; i < 3; i++) {
		loop_turn(w.loop, 0);
		say(f, "2\r\n");
		loop_turn(w.loop, 0);
		say(f, "bc\r\n");
		one_turn_brings(ex, "bc");
	}
	say(f, "0\r\n\r\n");
	loop_turn(w.loop, 0);
	must(ex->resp.ended && virtual_us == began);
	exch_answer_done(ex);
	close(p);
	close(f);
	for (int i = 0; i < 3; i++)
		loop_turn(w.loop, 0);
	world_down(&w);
}

/* The head alone, then the first byte; and the primary's page when the fallback lacks it: in the
 * turn in which that is known. */
static void heads_do_not_wait_for_bodies(unsigned pass)
{
	for (int hit = 0; hit < 2; hit++) {
		begin(pass);
		struct exchange *ex = ask("/slow");
		int p = take_request(0);
		say(p, "HTTP/1.1 404 Not Found\r\ncontent-length: 1000000\r\n\r\npage");
		int f = take_request(1);
		say(f, hit ? "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
			   : "HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\nno");
		must(!exch_answer_ready(ex));
		if (hit) {
			loop_turn(w.loop, 0);
			must(exch_answer_ready(ex) && ex->resp.head.status == 200);
			say(f, "x");
			one_turn_brings(ex, "x");
		} else {
			one_turn_brings(ex, "page");
			must(ex->resp.head.status == 404);
		}
		exch_client_gone(ex);
		close(p);
		close(f);
		for (int i = 0; i < 3; i++)
			loop_turn(w.loop, 0);
		world_down(&w);
	}
}

/* In the turn in which it is known, without a byte sent to it. */
static void a_client_that_leaves_ends_both(unsigned pass)
{
	for (int held = 0; held < 2; held++) {
		begin(pass);
		uint64_t began = virtual_us;
		struct exchange *ex = ask("/silent");
		int p = take_request(0), f = -1;
		if (held) {
			say(p, "HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\npage");
			f = take_request(1);
		}
		must(!is_over(p) && (!held || !is_over(f)));
		exch_client_gone(ex);
		loop_turn(w.loop, 0);
		must(is_over(p) && (!held || is_over(f)) && virtual_us == began);
		close(p);
		if (held)
			close(f);
		loop_turn(w.loop, 0);
		world_down(&w);
	}
}

/* Turns until nothing more happens; the client gives what there is room for, up to so much. */
static void feed(struct exchange *ex, size_t *sent, size_t most, bool end)
{
	static char b[65536];
	for (int idle = 0; idle < 20; idle++) {
		struct chain bytes = {0};
		size_t n = exch_request_room(ex);
		n = n < sizeof b ? n : sizeof b;
		n = n < most - *sent ? n : most - *sent;
		if (n) {
			must(chain_copy(&bytes, b, n));
			*sent += n;
			exch_request_data(ex, &bytes, end && *sent == most, NULL);
			idle = 0;
		}
		loop_turn(w.loop, 0);
	}
}

static void pass_time(uint64_t us)
{
	virtual_us += us;
	for (int i = 0; i < 5; i++)
		loop_turn(w.loop, 0);
}

static void take_some(int fd, size_t n)
{
	static char b[65536];
	while (n) {
		ssize_t got = recv(fd, b, n < sizeof b ? n : sizeof b, 0);
		must(got > 0 || (got < 0 && errno == EAGAIN));
		n -= got > 0 ? (size_t)got : 0;
		loop_turn(w.loop, got > 0 ? 0 : 1);
	}
}

/* header_timeout counts from the request being sent; a fallback that takes nothing of it is silent
 * too, one that takes little is not, nor is one whose client sends little. */
static void a_fallback_that_takes_nothing_is_silent(unsigned pass)
{
	enum { MUCH = 24 << 20, LIMIT = 5000000 }; /* more than the kernels on the way take */
	begin(pass);
	w.cfg.other_methods = METHOD_TRY_PRIMARY;
	w.cfg.quick = false;
	w.hcm.stream_idle_timeout_us = 0;
	int little = 65536;
	must(setsockopt(places[1].fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little) == 0);
	size_t sent = 0;
	struct exchange *ex = ask_with("POST", "/takes-nothing", MUCH);
	int p = take_request(0);
	say(p, "HTTP/1.1 405 No\r\ncontent-length: 4\r\n\r\npage");
	int f = take_request(1);
	feed(ex, &sent, 100000, false);
	take_some(f, 100000);
	for (int i = 0; i < 5; i++)
		pass_time(LIMIT);
	must(!exch_answer_ready(ex)); /* it waits for the client */
	feed(ex, &sent, MUCH, true);
	must(sent == MUCH);
	for (int i = 0; i < 3; i++) { /* each time more than all buffers on the way hold */
		take_some(f, MUCH / 6);
		pass_time(LIMIT);
		must(!exch_answer_ready(ex));
	}
	pass_time(LIMIT - 1);
	must(!exch_answer_ready(ex));
	pass_time(1);
	must(exch_answer_ready(ex) && ex->resp.head.status == 405);
	must(str_eq(head_value(&ex->resp.head, FIELD_CACHE_CONTROL), STR("no-store")));
	must(str_eq(str_of(ex->fallback.served), STR("degraded")));
	exch_client_gone(ex);
	loop_turn(w.loop, 0);
	must(is_over(f));
	close(p);
	close(f);
	for (int i = 0; i < 3; i++)
		loop_turn(w.loop, 0);
	world_down(&w);
}

int main(void)
{
	static const unsigned passes[] = {1, 8, 256};
	start_tests();
	for (int i = 0; i < ORIGINS; i++)
		places[i] = listen_local();
	for (int i = 0; i < 3; i++) {
		a_slow_page_passes_byte_by_byte(passes[i]);
		heads_do_not_wait_for_bodies(passes[i]);
		a_client_that_leaves_ends_both(passes[i]);
		a_fallback_that_takes_nothing_is_silent(passes[i]);
	}
	return 0;
}

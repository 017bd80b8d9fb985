/* src/filters/fallback/turn_test.c: one exchange, step by step. What a fallback says goes on in the turn of the loop in which it was read,
 * however slow the rest is (spec/fallback.md 13), and what becomes of a request's body when a fallback does not take it. The clock stands
 * still unless the test lets time pass. */
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

static char body_byte(size_t at)
{
	return (char)('a' + at % 23);
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
			for (size_t i = 0; i < n; i++)
				b[i] = body_byte(*sent + i);
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

static const char REFUSED[] = "HTTP/1.1 405 No\r\ncontent-length: 4\r\n\r\npage";

static void is_degraded(const struct exchange *ex)
{
	must(exch_answer_ready(ex) && ex->resp.head.status == 405);
	must(str_eq(head_value(&ex->resp.head, FIELD_CACHE_CONTROL), STR("no-store")));
	must(str_eq(str_of(ex->fallback.served), STR("degraded")));
}

static void finish(struct exchange *ex, const int *fds, unsigned n)
{
	exch_client_gone(ex);
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
	for (int i = 0; i < 3; i++)
		loop_turn(w.loop, 0);
	world_down(&w);
}

/* header_timeout counts from the request being sent; a fallback that takes nothing of it is silent
 * too, one that takes little is not, nor is one whose client sends little. */
static void a_fallback_that_takes_nothing_is_silent(unsigned pass)
{
	enum { MUCH = 24 << 20, LIMIT = 5000000 }; /* more than the kernels on the way take */
	begin(pass);
	w.hcm.stream_idle_timeout_us = 0;
	int little = 65536;
	must(setsockopt(places[1].fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little) == 0);
	size_t sent = 0;
	struct exchange *ex = ask_with("POST", "/takes-nothing", MUCH);
	int p = take_request(0);
	say(p, REFUSED);
	int f = take_request(1);
	feed(ex, &sent, 100000, false);
	take_some(f, 100000);
	for (int i = 0; i < 5; i++)
		pass_time(LIMIT);
	must(!exch_answer_ready(ex));             /* it waits for the client */
	w.hcm.stream_idle_timeout_us = 2 * LIMIT; /* what the fallback takes is progress */
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
	is_degraded(ex);
	loop_turn(w.loop, 0);
	must(is_over(f));
	finish(ex, (int[]){p, f}, 2);
}

/* Never a body that is not the whole one. */
static void a_spool_that_cannot_be_read_reaches_no_fallback(unsigned pass)
{
	begin(pass);
	w.cfg.memory_bytes = 10;
	size_t sent = 0;
	struct exchange *ex = ask_with("POST", "/spooled", 1000);
	int p = take_request(0);
	feed(ex, &sent, 1000, true);
	const struct fb *fb = exch_state(ex, &w.filters[0]);
	must(fb->replay.fd >= 0 && ftruncate(fb->replay.fd, 500) == 0);
	say(p, REFUSED);
	feed(ex, &sent, 1000, true);
	is_degraded(ex);
	int f = accept4(places[1].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	char b[16];
	must(f < 0 || recv(f, b, sizeof b, 0) <= 0);
	must(str_eq(str_of(ex->details), STR("via_upstream")) && fb->why == FAILED_FILE);
	finish(ex, (int[]){p, f}, f < 0 ? 1 : 2);
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

/* A chunked body, to its end. */
static size_t take_chunks(int fd)
{
	static char b[1 << 18];
	size_t n = 0, at = 0, body = 0;
	for (int i = 0; i < 1000; i++) {
		ssize_t got = recv(fd, b + n, sizeof b - n, 0);
		n += got > 0 ? (size_t)got : 0;
		if (n >= 5 && !memcmp(b + n - 5, "0\r\n\r\n", 5))
			break;
		loop_turn(w.loop, 1);
	}
	for (size_t size = 1; size; at += size + 2) {
		char *end;
		size = strtoul(b + at, &end, 16);
		must(!memcmp(end, "\r\n", 2));
		at = (size_t)(end - b) + 2;
		must(at + size + 2 <= n);
		for (size_t i = 0; i < size; i++)
			must(b[at + i] == body_byte(body++));
	}
	must(at == n);
	return body;
}

/* What came behind the kept part, and was not yet given to the first, is the next one's too. */
static void the_next_fallback_gets_what_waited_behind_the_kept_part(unsigned pass)
{
	enum { KEPT = LIMIT_STREAM_HIGH, BEHIND = 10000, ALL = KEPT + 2 * BEHIND };
	int waiting[2];
	struct listening silent = silent_place(waiting);
	begin_at(pass, &silent);
	w.cfg.norigins = 2;
	w.cfg.memory_bytes = w.cfg.spool_bytes = KEPT;
	w.clusters[1]->connect_timeout_us = 1000000;
	size_t sent = 0;
	struct exchange *ex = ask_with("POST", "/behind", -1);
	int p = take_request(0);
	say(p, REFUSED);
	feed(ex, &sent, KEPT, false);
	feed(ex, &sent, KEPT + BEHIND, false);
	const struct fb *fb = exch_state(ex, &w.filters[0]);
	must(fb->direct && fb->rest.n == BEHIND && fb->which == 0);
	pass_time(1000000);
	int f = take_request(2);
	must(fb->which == 1);
	feed(ex, &sent, ALL, true);
	must(sent == ALL && take_chunks(f) == ALL);
	say(f, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
	for (int i = 0; i < 20 && !exch_answer_ready(ex); i++)
		loop_turn(w.loop, 1);
	must(exch_answer_ready(ex) && ex->resp.head.status == 200);
	finish(ex, (int[]){p, f, silent.fd, waiting[0], waiting[1]}, 5);
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
		a_spool_that_cannot_be_read_reaches_no_fallback(passes[i]);
		the_next_fallback_gets_what_waited_behind_the_kept_part(passes[i]);
	}
	return 0;
}

/* src/filters/fallback/body_test.c: what becomes of a request's body that is kept, when a fallback does not take it, or not all of it
 * (spec/fallback.md 8, 14). */
#include "filters/fallback/step_test.h"

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
	must(is_degraded(ex) && ex->resp.head.status == 405);
	must(!state_of(ex)->keeping && stat_read(w.cfg.shared->spooled_bytes) == 0);
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
	const struct fb *fb = state_of(ex);
	must(fb->replay.fd >= 0 && ftruncate(fb->replay.fd, 500) == 0);
	say(p, REFUSED);
	feed(ex, &sent, 1000, true);
	must(is_degraded(ex) && ex->resp.head.status == 405);
	must(!state_of(ex)->keeping && stat_read(w.cfg.shared->spooled_bytes) == 0);
	int f = accept4(places[1].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	char b[16];
	must(f < 0 || recv(f, b, sizeof b, 0) <= 0);
	must(str_eq(str_of(ex->details), STR("via_upstream")) && fb->why == FAILED_FILE);
	finish(ex, (int[]){p, f}, f < 0 ? 1 : 2);
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
	const struct fb *fb = state_of(ex);
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
	must(ex->fallback.ms == 0); /* its own, not the other one's */
	finish(ex, (int[]){p, f, silent.fd, waiting[0], waiting[1]}, 5);
}

/* A hole in it would be worse than no answer. */
static void what_one_fallback_took_of_the_rest_no_other_can_have(unsigned pass)
{
	enum { KEPT = 1000 };
	begin(pass);
	w.cfg.norigins = 2;
	w.cfg.memory_bytes = w.cfg.spool_bytes = KEPT;
	size_t sent = 0;
	struct exchange *ex = ask_with("POST", "/spent", -1);
	int p = take_request(0);
	say(p, REFUSED);
	feed(ex, &sent, KEPT, false);
	int f = take_request(1);
	feed(ex, &sent, 2 * KEPT, false);
	must(state_of(ex)->rest.n == 0 && state_of(ex)->spent);
	close(f);
	feed(ex, &sent, 2 * KEPT, false);
	must(is_degraded(ex) && state_of(ex)->why == FAILED_OVERFLOW);
	must(accept4(places[2].fd, NULL, NULL, SOCK_CLOEXEC) < 0);
	finish(ex, (int[]){p}, 1);
}

/* header_timeout begins when the last byte was sent, however late that is. */
static void a_slow_client_leaves_the_fallback_its_time(unsigned pass)
{
	enum { LIMIT = 5000000 };
	begin(pass);
	w.hcm.stream_idle_timeout_us = 0;
	size_t sent = 0;
	struct exchange *ex = ask_with("POST", "/slow", 1000);
	int p = take_request(0);
	say(p, REFUSED);
	int f = take_request(1);
	feed(ex, &sent, 500, false);
	pass_time(3 * LIMIT);
	feed(ex, &sent, 1000, true);
	take_some(f, 1000);
	pass_time(LIMIT - 1);
	must(!exch_answer_ready(ex));
	pass_time(1);
	must(is_degraded(ex) && state_of(ex)->why == FAILED_TIMEOUT);
	finish(ex, (int[]){p, f}, 2);
}

/* Not even for a piece of what waits: it waits longer. */
static void without_memory_a_body_waits(unsigned pass)
{
	enum { PIECE = 20000 }; /* two are more than a call takes before it is connected */
	static char b[PIECE];
	int waiting[2];
	struct listening silent = silent_place(waiting);
	struct chain bytes = {0};
	begin_at(pass, &silent);
	w.cfg.other_methods = METHOD_DIRECT;
	size_t sent = 0;
	struct exchange *ex = ask_with("POST", "/x", 3 * PIECE);
	feed(ex, &sent, PIECE, false);
	must(exch_held(ex, LEG_REQUEST)->n == 0 && chain_copy(&bytes, b, PIECE));
	exch_request_data(ex, &bytes, false, NULL);
	chain_trim();
	mem_set_limit(1);
	pass_time(0);
	mem_set_limit(0);
	must(exch_held(ex, LEG_REQUEST)->n == PIECE && !exch_answer_ready(ex));
	fb_pump_request((struct fb *)(uintptr_t)state_of(ex));
	must(exch_held(ex, LEG_REQUEST)->n == 2 * PIECE - LIMIT_STREAM_HIGH);
	finish(ex, (int[]){silent.fd, waiting[0], waiting[1]}, 3);
}

int main(void)
{
	RUN(a_fallback_that_takes_nothing_is_silent,
	    a_spool_that_cannot_be_read_reaches_no_fallback,
	    the_next_fallback_gets_what_waited_behind_the_kept_part,
	    what_one_fallback_took_of_the_rest_no_other_can_have,
	    a_slow_client_leaves_the_fallback_its_time, without_memory_a_body_waits);
	return 0;
}

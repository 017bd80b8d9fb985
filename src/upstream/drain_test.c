/* src/upstream/drain_test.c: answers that nobody wants, answers of which only so much is wanted,
 * addresses that must not be asked. */
#include "upstream/upstream_test.h"

#define OK "HTTP/1.1 200 OK\r\n"

static struct fix f;
static struct asked a, b;
static struct peer p;
static stat_id complete, drained, closed;

static struct call_discard how(uint64_t bytes)
{
	return (struct call_discard){bytes, 250000, complete, drained, closed};
}

/* As an owner that is freed at once. */
static void drain(struct asked *x, uint64_t bytes)
{
	struct call_discard h = how(bytes);
	x->inside = true;
	call_drain(x->call, &h);
	x->inside = false;
	x->call = NULL;
	arena_fini(&x->arena);
	memset(&x->head, 0xa5, sizeof x->head);
}

static void begin(const char *answer)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/1");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, answer);
	UNTIL(a.call->has_head);
}

static void reused(void)
{
	get(&b, f.u, f.m, f.c, "/2");
	peer_wait(&p, "GET /2");
	done(&b);
	peer_close(&p);
	fix_down(&f);
}

static void gone(void)
{
	UNTIL(peer_closed(&p));
	peer_close(&p);
	fix_down(&f);
}

static void what_is_left_is_read_and_the_connection_used_again(void)
{
	static const char *const heads[] = {OK "Content-Length: 6\r\n\r\nabc",
					    OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"};
	static const char *const rests[] = {"def", "3\r\ndef\r\n0\r\nX-T: 1\r\n\r\n"};
	for (int i = 0; i < 2; i++) {
		uint64_t before = stat_read(drained);
		begin(heads[i]);
		drain(&a, 100);
		turns(3);
		peer_send(&p, rests[i]);
		UNTIL(stat_read(drained) == before + 1);
		reused();
	}
}

static void an_answer_that_is_complete_costs_nothing(void)
{
	uint64_t before = stat_read(complete);
	begin(OK "Content-Length: 3\r\n\r\nabc");
	drain(&a, 100);
	must(stat_read(complete) == before + 1);
	reused();
}

static void too_much_of_it_or_too_late_closes(void)
{
	static const struct {
		const char *head, *rest;
	} rows[] = {
		{OK "Content-Length: 1000\r\n\r\nabc", ""}, /* known to be too much */
		{OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		 "7f\r\n0123456789"},                                      /* turns out to be */
		{OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ""}, /* does not come */
		{OK "\r\nuntil the end", ""},                              /* would be of no use */
		{OK "Connection: close\r\nContent-Length: 6\r\n\r\nabc", ""},
	};
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_t before = stat_read(closed);
		begin(rows[i].head);
		drain(&a, i == 1 ? 5 : 100);
		if (*rows[i].rest)
			peer_send(&p, rows[i].rest);
		UNTIL(stat_read(closed) == before + 1);
		gone();
	}
}

static void without_a_head_it_is_cancelled(void)
{
	uint64_t before = stat_read(closed);
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/1");
	take_peer(&p, &f.s);
	peer_request(&p);
	drain(&a, 100);
	must(stat_read(closed) == before + 1);
	gone();
}

static void a_peer_that_breaks_off_or_the_end_of_the_worker_ends_it(void)
{
	uint64_t before = stat_read(closed);
	begin(OK "Content-Length: 6\r\n\r\nabc");
	drain(&a, 100);
	peer_reset(&p);
	UNTIL(stat_read(closed) == before + 1);
	fix_down(&f);
	begin(OK "Content-Length: 6\r\n\r\nabc");
	drain(&a, 100);
	must(f.u->ncalls == 1);
	upstream_free(f.u);
	for (int i = 0; i < USES; i++)
		must(in_use("web", (enum breaker_what)i) == 0);
	turns(1);
	close(f.s.fd);
	must(atomic_load(&f.m->refs) == 1);
	model_unref(f.m);
	peer_close(&p);
}

static void no_more_is_read_than_allowed(void)
{
	static char body[200000];
	memset(body, 'x', sizeof body);
	begin(OK "Content-Length: 200003\r\n\r\nabc");
	a.inside = true;
	call_limit(a.call, 60000);
	a.inside = false;
	for (size_t sent = 0; sent < sizeof body; sent += 20000) {
		peer_bytes(&p, body + sent, 20000);
		turns(3);
		must(a.call->in.n <= 60000);
	}
	must(a.call->in.n == 60000 && !a.call->ended);
	a.inside = true;
	call_limit(a.call, SIZE_MAX);
	a.inside = false;
	size_t got = 0;
	UNTIL((got += strlen(take_in(&a))) == 200003 && a.call->ended);
	done(&a);
	reused();
}

static const char *not_that_one(const struct call_request *rq, const struct sockaddr *to)
{
	return "no";
}

static void an_address_may_be_refused(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/1");
	a.rq.refused = not_that_one;
	open_call(&a, f.u);
	UNTIL(a.call->failed);
	must(a.call->failure == FAILED_NO_HEALTHY && !strcmp(a.call->failure_text, "no"));
	no_peer(&f.s);
	done(&a);
	fix_down(&f);
}

int main(void)
{
	static void (*const tests[])(void) = {
		what_is_left_is_read_and_the_connection_used_again,
		an_answer_that_is_complete_costs_nothing,
		too_much_of_it_or_too_late_closes,
		without_a_head_it_is_cancelled,
		a_peer_that_breaks_off_or_the_end_of_the_worker_ends_it,
		no_more_is_read_than_allowed,
		an_address_may_be_refused,
	};
	complete = stat_register(STAT_COUNTER, STR("test.complete"));
	drained = stat_register(STAT_COUNTER, STR("test.drained"));
	closed = stat_register(STAT_COUNTER, STR("test.closed"));
	start_tests();
	for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++)
		with_passes(tests[i]);
	return 0;
}

/* src/filters/fallback/ask_test.c: whether a fallback is asked, how long it is waited for, what is held meanwhile (spec/fallback.md 13, 14). */
#include "filters/fallback/step_test.h"

/* A page that the primary lacks, while nobody is there to have it: why not. */
static enum failure_kind miss(void)
{
	struct exchange *ex = ask("/x");
	int p = take_request(0);
	say(p, MISSING);
	for (int i = 0; i < 100 && !exch_answer_ready(ex); i++)
		loop_turn(w.loop, 1);
	must(is_degraded(ex));
	enum failure_kind why = state_of(ex)->why;
	leave(ex);
	close(p);
	return why;
}

static void hit(void)
{
	struct exchange *ex = ask("/x");
	int p = take_request(0);
	say(p, MISSING);
	int f = take_request(1);
	say(f, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
	for (int i = 0; i < 100 && !exch_answer_ready(ex); i++)
		loop_turn(w.loop, 1);
	must(exch_answer_ready(ex) && ex->resp.head.status == 200);
	leave(ex);
	close(p);
	close(f);
}

/* So many failures in a row, and the fallback is left alone for a while; then as many again. */
static void the_breaker_counts_failures_in_a_row(unsigned pass)
{
	struct listening kept = places[1];
	places[1] = refusing();
	begin(pass);
	w.cfg.breaker_failures = 2;
	must(miss() == FAILED_CONNECT);
	must(listen(places[1].fd, 8) == 0);
	hit();                                      /* not in a row */
	must(shutdown(places[1].fd, SHUT_RD) == 0); /* refuses again */
	must(miss() == FAILED_CONNECT);
	must(miss() == FAILED_CONNECT);
	must(miss() == FAILED_NO_HEALTHY);
	pass_time(w.cfg.breaker_open_us - 1);
	must(miss() == FAILED_NO_HEALTHY);
	pass_time(1);
	must(miss() == FAILED_CONNECT);
	must(miss() == FAILED_CONNECT);
	must(miss() == FAILED_NO_HEALTHY);
	end((int[]){places[1].fd}, 1);
	places[1] = kept;
}

/* A connection that is not made in time is one that failed; a fallback that is silent was reached. */
static void the_breaker_counts_connections_only(unsigned pass)
{
	int waiting[2];
	struct listening silent = silent_place(waiting);
	for (int connects = 0; connects < 2; connects++) {
		begin_at(pass, connects ? &silent : &places[1]);
		w.cfg.breaker_failures = 1;
		w.clusters[1]->connect_timeout_us = 1000000;
		struct exchange *ex = ask("/x");
		int p = take_request(0), f = -1;
		say(p, MISSING);
		if (!connects)
			f = take_request(1);
		else
			pass_time(0);
		pass_time(connects ? 1000000 : 5000000);
		must(is_degraded(ex));
		must(state_of(ex)->why == (connects ? FAILED_CONNECT_TIMEOUT : FAILED_TIMEOUT));
		must((atomic_load(&w.cfg.shared->open_until_us) != 0) == (connects == 1));
		finish(ex, (int[]){p, f}, connects ? 1 : 2);
	}
	close(silent.fd);
	close(waiting[0]);
	close(waiting[1]);
}

/* connect_timeout is not the policy's: while a connection is made a request is not sent. But not for ever. */
static void a_connection_that_is_made_has_twice_the_time(unsigned pass)
{
	enum { LIMIT = 5000000 };
	int waiting[2];
	struct listening silent = silent_place(waiting);
	begin_at(pass, &silent);
	w.clusters[1]->connect_timeout_us = 60000000;
	w.cfg.degraded_status = 503;
	w.cfg.retry_after_us = 1000001;
	struct exchange *ex = ask("/x");
	int p = take_request(0);
	say(p, "HTTP/1.1 404 Not Found\r\nexpires: 0\r\netag: \"a\"\r\nlast-modified: "
	       "x\r\ncontent-length: 4\r\n\r\npage");
	pass_time(0);
	pass_time(LIMIT);
	pass_time(LIMIT - 1);
	must(!exch_answer_ready(ex));
	pass_time(1);
	must(is_degraded(ex) && state_of(ex)->why == FAILED_TIMEOUT && ex->resp.head.status == 503);
	const struct head *h = &ex->resp.head;
	must(!head_find(h, STR("expires")) && !head_find(h, STR("etag")) &&
	     !head_find(h, STR("last-modified")));
	must(str_eq(head_value(h, FIELD_RETRY_AFTER), STR("2"))); /* whole seconds, not too few */
	finish(ex, (int[]){p, silent.fd, waiting[0], waiting[1]}, 4);
}

/* One at a time, one more waits for a second, others are not asked for. */
static void so_many_are_asked_at_a_time(unsigned pass)
{
	begin(pass);
	w.cfg.max_inflight = 1;
	struct exchange *first = ask("/first");
	int p = take_request(0);
	say(p, MISSING);
	int f = take_request(1);
	struct exchange *second = ask("/second");
	int p2 = take_request(0);
	say(p2, MISSING);
	pass_time(0);
	must(!exch_answer_ready(second) && state_of(second)->queued);
	must(miss() == FAILED_OVERFLOW);
	must(accept4(places[1].fd, NULL, NULL, SOCK_CLOEXEC) < 0);
	say(f, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
	pass_time(0);
	must(exch_answer_ready(first) &&
	     first->resp.head.status == 200); /* not yet taken: the fallback is free all the same */
	pass_time(10000);
	int f2 = take_request(1);
	must(!exch_answer_ready(second) && !state_of(second)->queued);
	struct exchange *third = ask("/third");
	int p3 = take_request(0);
	say(p3, MISSING);
	pass_time(0);
	pass_time(1000000 - 10000);
	must(!exch_answer_ready(third));
	pass_time(10000); /* looked at as often */
	must(is_degraded(third) && state_of(third)->why == FAILED_OVERFLOW);
	leave(first);
	leave(second);
	finish(third, (int[]){p, p2, p3, f, f2}, 5);
}

/* Of a page that will be neither held whole nor drained: no more than one read brings. */
static void as_much_is_held_as_may_be(unsigned pass)
{
	static const struct {
		uint64_t hold, drain, total;
		int64_t length; /* -1: not known */
		uint64_t want;
	} rows[] = {
		{65536, 131072, 67108864, 100, 100},
		{65536, 131072, 67108864, 65536, 65536},
		{65536, 131072, 67108864, 65537, 65536},
		{65536, 131072, 67108864, -1, 65536},
		{65536, 131072, 67108864, 65536 + 131072, 65536},
		{65536, 131072, 67108864, 65536 + 131072 + 1, CHUNK_LARGE},
		{10, 10, 67108864, 1000, 10},
		{0, 131072, 67108864, 1000, 0},
		{65536, 131072, 100, 100, 100},
		{65536, 131072, 99, 100, 0},
		{65536, 131072, 65535, -1, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin(pass);
		w.cfg.hold_bytes = rows[i].hold;
		w.cfg.drain_bytes = rows[i].drain;
		w.cfg.hold_total = rows[i].total;
		struct exchange *ex = ask("/x");
		char text[200];
		int p = take_request(0);
		snprintf(text, sizeof text,
			 "HTTP/1.1 404 Not Found\r\ncontent-length: %lld\r\n\r\n",
			 (long long)rows[i].length);
		say(p, rows[i].length < 0
			       ? "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n"
			       : text);
		int f = take_request(1);
		must(state_of(ex)->reserved == rows[i].want &&
		     atomic_load(&w.cfg.shared->held) == rows[i].want);
		must(stat_read(w.cfg.shared->held_bytes) == rows[i].want);
		say(f, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n");
		pass_time(0);
		must(exch_answer_ready(ex) &&
		     atomic_load(&w.cfg.shared->held) == 0); /* not wanted any more */
		finish(ex, (int[]){p, f}, 2);
	}
}

static bool asked(unsigned o)
{
	pass_time(0);
	int fd = accept4(places[o].fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Not one that has begun to answer, whatever is left of its page, and not when hints are used up. */
static void a_hedge_is_for_a_primary_that_is_silent(unsigned pass)
{
	enum { SILENT, SPOKE, NO_BUDGET, CASES };
	for (int i = 0; i < CASES; i++) {
		begin(pass);
		w.cfg.quick = false;
		w.cfg.hedge_us = 150000;
		w.cfg.hint_budget = i == NO_BUDGET ? 0 : 100;
		struct exchange *ex = ask("/x");
		int p = take_request(0);
		if (i == SPOKE)
			say(p, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npa");
		pass_time(140000);
		must(!asked(1));
		pass_time(10000);
		must(asked(1) == (i == SILENT));
		finish(ex, (int[]){p}, 1);
	}
}

/* Hints stop when more than hint_budget percent of the requests were for nothing; the past counts for less and less. */
static void hints_are_paid_from_a_budget(unsigned pass)
{
	static const struct {
		unsigned asked, wasted, budget;
		bool both;
	} rows[] = {
		{0, 0, 10, true},      {0, 1, 10, true},      {0, 2, 10, false},
		{90, 10, 10, true},    {90, 11, 10, false},   {100, 0, 0, false},
		{1000, 100, 10, true}, {5000, 500, 10, true},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin(pass);
		struct fb_shared *s = w.cfg.shared;
		w.cfg.quick = false;
		w.cfg.memory = MEMORY_HINT;
		w.cfg.miss_ttl_us = 60000000;
		w.cfg.hint_budget = rows[i].budget;
		misses_learn(s->misses, FACT_MISS, STR("t.test"), STR("/x"), virtual_us, 60000000);
		atomic_store(&s->asked, rows[i].asked);
		atomic_store(&s->wasted, rows[i].wasted);
		uint64_t right = stat_read(s->hints_right), wrong = stat_read(s->hints_wrong);
		struct exchange *ex = ask("/x");
		int p = take_request(0);
		must(asked(1) == rows[i].both);
		say(p, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
		pass_time(0);
		must(exch_answer_ready(ex) && stat_read(s->hints_right) == right);
		must(stat_read(s->hints_wrong) == wrong + rows[i].both);
		unsigned after = rows[i].asked + rows[i].both, lost = rows[i].wasted + rows[i].both;
		must(atomic_load(&s->asked) == (after > 1000 ? after / 2 : after));
		must(atomic_load(&s->wasted) == (after > 1000 ? lost / 2 : lost));
		finish(ex, (int[]){p}, 1);
	}
}

static bool knows(enum fact f, const char *path)
{
	return misses_knows(w.cfg.shared->misses, f, STR("t.test"), str_of(path), virtual_us);
}

static void know_all(void)
{
	struct misses *m = w.cfg.shared->misses;
	w.cfg.quick = false;
	w.cfg.memory = MEMORY_TRUST;
	w.cfg.miss_ttl_us = w.cfg.both_ttl_us = 60000000;
	misses_learn(m, FACT_MISS, STR("t.test"), STR("/x"), virtual_us, 60000000);
	misses_learn(m, FACT_BOTH, STR("t.test"), STR("/x"), virtual_us, 60000000);
	misses_learn(m, FACT_BOTH, STR("t.test"), STR("/x?q"), virtual_us, 60000000);
}

/* It may have published the page. */
static void a_write_that_succeeds_drops_what_is_known(unsigned pass)
{
	static const struct {
		const char *method;
		unsigned status;
		bool drops;
	} rows[] = {{"PUT", 201, true},  {"DELETE", 204, true}, {"POST", 302, true},
		    {"PUT", 400, false}, {"POST", 503, false},  {"OPTIONS", 200, false}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin(pass);
		w.cfg.other_methods = METHOD_DIRECT;
		know_all();
		struct exchange *ex = ask_with(rows[i].method, "/x?q", 0);
		int f = take_request(1);
		char text[100];
		snprintf(text, sizeof text, "HTTP/1.1 %u X\r\ncontent-length: 0\r\n\r\n",
			 rows[i].status);
		say(f, text);
		pass_time(0);
		must(exch_answer_ready(ex) && knows(FACT_MISS, "/x"));
		leave(ex);
		must(knows(FACT_MISS, "/x") != rows[i].drops);
		must(knows(FACT_BOTH, "/x") != rows[i].drops);
		must(knows(FACT_BOTH, "/x?q") != rows[i].drops);
		end(&f, 1);
	}
}

/* Published meanwhile. */
static void a_page_that_the_primary_has_is_not_missing(unsigned pass)
{
	begin(pass);
	know_all();
	struct exchange *ex = ask("/x?q");
	int p = take_request(0);
	must(!asked(1)); /* nor has it the page, as far as is known */
	say(p, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
	pass_time(0);
	must(exch_answer_ready(ex) && ex->resp.head.status == 200);
	must(!knows(FACT_MISS, "/x") && !knows(FACT_BOTH, "/x?q") && knows(FACT_BOTH, "/x"));
	finish(ex, &p, 1);
}

int main(void)
{
	RUN(the_breaker_counts_failures_in_a_row, the_breaker_counts_connections_only,
	    a_connection_that_is_made_has_twice_the_time, so_many_are_asked_at_a_time,
	    as_much_is_held_as_may_be, a_hedge_is_for_a_primary_that_is_silent,
	    hints_are_paid_from_a_budget, a_write_that_succeeds_drops_what_is_known,
	    a_page_that_the_primary_has_is_not_missing);
	return 0;
}

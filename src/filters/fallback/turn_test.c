/* src/filters/fallback/turn_test.c: what a fallback says goes on in the turn of the loop in which it was read, however slow the rest is, and a
 * client that leaves ends both requests in one (spec/fallback.md 13). */
#include "filters/fallback/step_test.h"

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

int main(void)
{
	RUN(a_slow_page_passes_byte_by_byte, heads_do_not_wait_for_bodies,
	    a_client_that_leaves_ends_both);
	return 0;
}

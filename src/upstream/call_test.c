/* src/upstream/call_test.c: calls over real sockets: requests, answers, bodies, pooling. */
#include "upstream/upstream_test.h"

static struct peer p, q;
static struct asked a, b;
static struct fix f;

#define OK "HTTP/1.1 200 OK\r\n"

/* ---- requests and answers */

static void a_request_is_canonical(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/x?y");
	must(head_add(&a.head, STR("X-A"), STR("1")));
	must(head_add(&a.head, STR("Connection"), STR("x-a")));
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_wait(&p, "\r\n\r\n");
	must(!strcmp(p.got, "GET /x?y HTTP/1.1\r\nhost: t.test\r\nX-A: 1\r\n\r\n"));
	peer_send(&p, OK "Content-Length: 2\r\nX-B: 2\r\n\r\nhi");
	UNTIL(a.call->ended);
	must(status_of(&a) == 200 && a.call->length == 2 && !strcmp(take_in(&a), "hi"));
	must(str_eq(field_value(head_find(a.call->head, STR("x-b"))), STR("2")));
	must(a.call->attempts == 1 && a.call->peer->sa_family == AF_INET && a.call->local);
	must(((const struct sockaddr_in *)(const void *)a.call->peer)->sin_port ==
	     f.s.addr.sin_port);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void the_next_request_uses_the_same_connection(void)
{
	fix_up(&f, NULL);
	for (int i = 0; i < 3; i++) {
		get(&a, f.u, f.m, f.c, "/");
		if (i == 0)
			take_peer(&p, &f.s);
		peer_request(&p);
		peer_send(&p, OK "Content-Length: 2\r\n\r\nhi");
		UNTIL(a.call->ended);
		done(&a);
	}
	no_peer(&f.s);
	must(stat_read(f.c->stats->cx_total) >= 1);
	peer_close(&p);
	fix_down(&f);
}

static void the_last_connection_used_is_used_first(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/1");
	take_peer(&p, &f.s);
	get(&b, f.u, f.m, f.c, "/2");
	take_peer(&q, &f.s);
	peer_request(&p);
	peer_request(&q);
	peer_send(&q, OK "Content-Length: 0\r\n\r\n");
	UNTIL(b.call->ended);
	peer_send(&p, OK "Content-Length: 0\r\n\r\n");
	UNTIL(a.call->ended);
	done(&a);
	done(&b);
	get(&a, f.u, f.m, f.c, "/3");
	peer_wait(&p, "GET /3");
	get(&b, f.u, f.m, f.c, "/4");
	peer_wait(&q, "GET /4");
	done(&a);
	done(&b);
	UNTIL(peer_closed(&p) && peer_closed(&q)); /* cancelled: closed */
	peer_close(&p);
	peer_close(&q);
	fix_down(&f);
}

static void a_connection_is_free_when_its_answer_is_complete_not_when_it_is_taken(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/slow-client");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Content-Length: 2\r\n\r\nhi");
	UNTIL(a.call->ended);
	get(&b, f.u, f.m, f.c, "/2");
	peer_wait(&p, "GET /2");
	peer_send(&p, OK "Content-Length: 2\r\n\r\nho");
	UNTIL(b.call->ended);
	must(!strcmp(take_in(&a), "hi") && !strcmp(take_in(&b), "ho"));
	done(&a);
	done(&b);
	peer_close(&p);
	fix_down(&f);
}

static void enable_trailers(struct cluster_cfg *cfg)
{
	cfg->enable_trailers = true;
}

static void trailers_pass_where_they_are_enabled(void)
{
	for (int on = 0; on < 2; on++) {
		fix_up(&f, on ? enable_trailers : NULL);
		ask(&a, f.m, f.c, "POST", "/");
		a.rq.ended = false;
		a.rq.trailers_ok = true;
		open_call(&a, f.u);
		struct head trailers;
		must(head_init(&trailers, &a.arena, false, 2));
		must(head_add(&trailers, STR("x-sum"), STR("42")));
		struct chain none = {0};
		call_send(a.call, &none, true, &trailers);
		take_peer(&p, &f.s);
		peer_wait(&p, "0\r\n");
		peer_wait(&p, on ? "0\r\nx-sum: 42\r\n\r\n" : "0\r\n\r\n");
		peer_send(&p,
			  OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n");
		UNTIL(a.call->ended);
		must(!strcmp(take_in(&a), "hi"));
		must(!!a.call->trailers == on);
		if (on)
			must(str_eq(field_value(head_find(a.call->trailers, STR("x-t"))),
				    STR("1")));
		done(&a);
		get(&a, f.u, f.m, f.c, "/again");
		peer_wait(&p, "GET /again");
		done(&a);
		peer_close(&p);
		fix_down(&f);
	}
}

/* ---- what each answer gets: robustness.md 3.2 */

enum then { STAY, FIN, RST };
static const struct {
	const char *story, *method, *answer;
	enum then then;
	unsigned status;        /* 0: no head */
	const char *body;       /* of a complete answer; NULL: it fails */
	enum failure_kind kind; /* then */
	bool reused;            /* the connection afterwards */
} answers[] = {
	{"plain", "GET", OK "Content-Length: 2\r\n\r\nhi", STAY, 200, "hi", 0, true},
	{"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", STAY, 200, "hi", 0,
	 true},
	{"chunked", "GET", OK "Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\n\r\n",
	 STAY, 200, "hi", 0, true},
	{"until close", "GET", OK "\r\nhi", FIN, 200, "hi", 0, false},
	{"until close, reset", "GET", OK "\r\nhi", RST, 200, NULL, FAILED_TERMINATED, false},
	{"connection: close", "GET", OK "Connection: close\r\nContent-Length: 2\r\n\r\nhi", STAY,
	 200, "hi", 0, false},
	{"http/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", STAY, 200, "hi", 0,
	 false},
	{"http/1.0 keep-alive", "GET",
	 "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", STAY, 200,
	 "hi", 0, true},
	{"length and coding", "GET",
	 OK "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", STAY,
	 200, "hi", 0, false},
	{"equal lengths", "GET", OK "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", STAY, 200,
	 "hi", 0, true},
	{"obs-fold", "GET", OK "X-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nhi", STAY, 200, "hi", 0,
	 true},
	{"head", "HEAD", OK "Content-Length: 6\r\n\r\n", STAY, 200, "", 0, true},
	{"head with body", "HEAD", OK "Content-Length: 6\r\n\r\npoison", STAY, 200, "", 0, false},
	{"204 with body", "GET", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n", STAY, 204,
	 "", 0, false},
	{"304 with body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison",
	 STAY, 304, "", 0, false},
	{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", STAY, 304, "", 0,
	 true},
	{"bytes behind", "GET", OK "Content-Length: 2\r\n\r\nhiEXTRA", STAY, 200, "hi", 0, false},
	{"answer behind", "GET",
	 OK "Content-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", STAY, 200, "",
	 0, false},
	{"interim", "GET",
	 "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n" OK
	 "Content-Length: 2\r\n\r\nhi",
	 STAY, 200, "hi", 0, true},
	{"keep-alive of a second", "GET", OK "Keep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nhi",
	 STAY, 200, "hi", 0, false},
	{"keep-alive of five", "GET",
	 OK "Keep-Alive: max=9, timeout=5\r\nContent-Length: 2\r\n\r\nhi", STAY, 200, "hi", 0,
	 true},
	{"garbage", "GET", "hello world\r\n\r\n", STAY, 0, NULL, FAILED_PROTOCOL, false},
	{"tls", "GET", "\x15\x03\x01", STAY, 0, NULL, FAILED_PROTOCOL, false},
	{"status 000", "GET", "HTTP/1.1 000 X\r\n\r\n", STAY, 0, NULL, FAILED_PROTOCOL, false},
	{"fin", "GET", "", FIN, 0, NULL, FAILED_TERMINATED, false},
	{"rst", "GET", "", RST, 0, NULL, FAILED_TERMINATED, false},
	{"half a head, fin", "GET", OK "X-", FIN, 0, NULL, FAILED_TERMINATED, false},
	{"half a head, rst", "GET", OK "X-", RST, 0, NULL, FAILED_TERMINATED, false},
	{"interim, fin", "GET", "HTTP/1.1 100 Continue\r\n\r\n", FIN, 0, NULL, FAILED_TERMINATED,
	 false},
	{"101 unasked", "GET", "HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nRAW",
	 STAY, 0, NULL, FAILED_PROTOCOL, false},
	{"bad field", "GET", OK "X-A : 1\r\n\r\n", STAY, 0, NULL, FAILED_PROTOCOL, false},
	{"different lengths", "GET", OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\n", STAY, 0,
	 NULL, FAILED_PROTOCOL, false},
	{"bad coding", "GET", OK "Transfer-Encoding: gzip, chunked\r\n\r\n", STAY, 0, NULL,
	 FAILED_PROTOCOL, false},
	{"short, fin", "GET", OK "Content-Length: 100\r\n\r\npart", FIN, 200, NULL,
	 FAILED_TERMINATED, false},
	{"short, rst", "GET", OK "Content-Length: 100\r\n\r\npart", RST, 200, NULL,
	 FAILED_TERMINATED, false},
	{"chunked, fin", "GET", OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", FIN, 200,
	 NULL, FAILED_TERMINATED, false},
	{"chunked, in a chunk", "GET", OK "Transfer-Encoding: chunked\r\n\r\n50\r\nhello", FIN, 200,
	 NULL, FAILED_TERMINATED, false},
	{"chunked, no last line", "GET", OK "Transfer-Encoding: chunked\r\n\r\n0\r\n", FIN, 200,
	 NULL, FAILED_TERMINATED, false},
	{"bad chunk", "GET", OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", STAY, 200, NULL,
	 FAILED_PROTOCOL, false},
};

static void each_answer(size_t step)
{
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, answers[i].method, "/");
		open_call(&a, f.u);
		take_peer(&p, &f.s);
		peer_request(&p);
		const char *text = answers[i].answer;
		size_t n = strlen(text);
		for (size_t at = 0; at < n; at += step) {
			peer_bytes(&p, text + at, n - at < step ? n - at : step);
			turns(2);
		}
		if (answers[i].then == RST)
			turns(5); /* RST overtakes nothing that was read */
		if (answers[i].then == FIN)
			shutdown(p.fd, SHUT_WR);
		else if (answers[i].then == RST)
			peer_reset(&p);
		UNTIL(a.call->ended || a.call->failed);
		if (status_of(&a) != answers[i].status || a.call->failed == !!answers[i].body)
			printf("%s, in pieces of %zu: status %u, failed %d\n", answers[i].story,
			       step, status_of(&a), a.call->failed);
		must(status_of(&a) == answers[i].status);
		must(a.call->ended == !!answers[i].body && a.call->failed == !answers[i].body);
		if (answers[i].body)
			must(!strcmp(take_in(&a), answers[i].body));
		else
			must(a.call->failure == answers[i].kind);
		must(a.call->attempts == 1);
		done(&a);
		if (answers[i].then == STAY) {
			get(&a, f.u, f.m, f.c, "/next");
			if (answers[i].reused) {
				peer_wait(&p, "GET /next");
			} else {
				take_peer(&q, &f.s);
				peer_wait(&q, "GET /next");
				UNTIL(peer_closed(&p));
				peer_close(&q);
			}
			done(&a);
		}
		peer_close(&p);
		fix_down(&f);
	}
}

static void every_answer_gets_what_the_table_says(void)
{
	each_answer(SIZE_MAX / 2);
}

static void every_answer_in_pieces(void)
{
	each_answer(1);
	each_answer(7);
}

static void a_late_answer_on_an_idle_connection_closes_it(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Content-Length: 2\r\n\r\nhi");
	UNTIL(a.call->ended);
	done(&a);
	peer_send(&p, OK "Content-Length: 6\r\n\r\npoison");
	UNTIL(peer_closed(&p));
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&q, &f.s);
	done(&a);
	peer_close(&p);
	peer_close(&q);
	fix_down(&f);
}

/* The bytes are in the socket, epoll has not told yet: they are no answer to what is asked now. */
static void bytes_that_came_before_the_request_are_not_its_answer(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Content-Length: 2\r\n\r\nhi");
	UNTIL(a.call->ended);
	done(&a);
	peer_send(&p, OK "Content-Length: 6\r\n\r\npoison");
	/* the old connection is taken before the turn that would have told */
	get(&a, f.u, f.m, f.c, "/next");
	take_peer(&q, &f.s);
	peer_request(&q);
	peer_send(&q, OK "Content-Length: 2\r\n\r\nok");
	UNTIL(a.call->ended);
	must(!strcmp(take_in(&a), "ok") && a.call->attempts == 2);
	done(&a);
	/* A request that must not be sent twice looks first. */
	peer_send(&q, OK "Content-Length: 6\r\n\r\npoison");
	ask(&a, f.m, f.c, "POST", "/post");
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_request(&p);
	must(a.call->attempts == 1);
	done(&a);
	peer_close(&p);
	peer_close(&q);
	fix_down(&f);
}

static void interim_heads_are_handed_on_as_asked(void)
{
	for (int mode = 0; mode < 3; mode++) {
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "GET", "/");
		a.rq.keep_interim = mode == 1;
		a.rq.no_interim = mode == 2;
		open_call(&a, f.u);
		take_peer(&p, &f.s);
		peer_request(&p);
		peer_send(&p, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n");
		if (mode != 2) {
			UNTIL(a.call->interim && (mode == 0 || a.call->interim->next));
			must(a.events > 0);
		} else {
			turns(5);
			must(a.events == 0);
		}
		peer_send(&p, OK "Content-Length: 2\r\n\r\nhi");
		UNTIL(a.call->ended);
		struct interim *i = a.call->interim;
		must(mode != 2 || !i);
		if (mode == 1) {
			must(i->head->status == 100);
			i = i->next;
		}
		if (mode < 2)
			must(i->head->status == 103 && !i->next &&
			     str_eq(head_value(i->head, FIELD_LINK), STR("a")));
		done(&a);
		peer_close(&p);
		fix_down(&f);
	}
}

static void a_flood_of_interim_heads_is_refused(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	for (int i = 0; i < 20000; i++)
		peer_send(&p, "HTTP/1.1 103 E\r\n\r\n");
	UNTIL(a.call->failed);
	must(a.call->failure == FAILED_PROTOCOL && !a.call->has_head);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void small_heads(struct cluster_cfg *cfg)
{
	cfg->limits.head = 300 * 1024;
}

static void a_head_may_grow_to_its_limit_and_no_further(void)
{
	static char text[2000000];
	for (int big = 0; big < 3; big++) {
		fix_up(&f, big ? small_heads : NULL);
		get(&a, f.u, f.m, f.c, "/");
		take_peer(&p, &f.s);
		peer_request(&p);
		size_t n = big == 0 ? 59000 : big == 1 ? 250000 : 1900000;
		size_t at = (size_t)sprintf(text, OK "Content-Length: 2\r\nX-A: ");
		memset(text + at, 'a', n);
		strcpy(text + at + n, "\r\n\r\nhi");
		peer_send(&p, text);
		UNTIL(a.call->ended || a.call->failed);
		if (big < 2) {
			must(a.call->ended && !strcmp(take_in(&a), "hi"));
			must(field_value(head_find(a.call->head, STR("x-a"))).n == n);
		} else {
			must(a.call->failed && a.call->failure == FAILED_PROTOCOL);
		}
		done(&a);
		peer_close(&p);
		fix_down(&f);
	}
}

/* ---- bodies */

static char big[1 << 20];

static void fill_big(void)
{
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (char)('a' + i % 23);
}

static void a_big_answer_flows_under_credit(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	char head[100];
	sprintf(head, OK "Content-Length: %zu\r\n\r\n", sizeof big);
	peer_send(&p, head);
	size_t put = 0, got = 0, most = 0;
	while (got < sizeof big) {
		ssize_t n = put < sizeof big ? send(p.fd, big + put, sizeof big - put, MSG_NOSIGNAL)
					     : 0;
		put += n > 0 ? (size_t)n : 0;
		loop_turn(l, n > 0 ? 0 : 1);
		if (a.call->in.n > most)
			most = a.call->in.n;
		if (random_u64() % 3)
			continue; /* a client that is slow to take */
		size_t have = a.call->in.n;
		const char *text = take_in(&a);
		must(!memcmp(text, big + got, have));
		got += have;
	}
	UNTIL(a.call->ended);
	must(most <= LIMIT_STREAM_HIGH + CHUNK_LARGE);
	done(&a);
	get(&a, f.u, f.m, f.c, "/next");
	peer_wait(&p, "GET /next");
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void little_pieces_do_not_pin_big_chunks(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Content-Length: 1000000\r\n\r\n");
	UNTIL(a.call->has_head);
	must(!a.call->head_chunk);
	struct mem_totals before, after;
	mem_read_totals(&before);
	for (int i = 0; i < 1000; i++) {
		peer_send(&p, "x");
		loop_turn(l, 0);
	}
	UNTIL(a.call->in.n == 1000);
	mem_read_totals(&after);
	must(after.bytes[MEM_BUFFER] < before.bytes[MEM_BUFFER] + 100000);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void held_answers_stay_in_the_kernel(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	call_hold(a.call, true);
	peer_send(&p, OK "Content-Length: 1048576\r\n\r\n");
	UNTIL(a.call->has_head);
	size_t put = 0;
	for (int i = 0; i < 50; i++) {
		ssize_t n = send(p.fd, big + put, sizeof big - put, MSG_NOSIGNAL);
		put += n > 0 ? (size_t)n : 0;
		loop_turn(l, 0);
		must(a.call->in.n == 0);
	}
	call_hold(a.call, false);
	call_gather(a.call, sizeof big);
	while (put < sizeof big) {
		ssize_t n = send(p.fd, big + put, sizeof big - put, MSG_NOSIGNAL);
		put += n > 0 ? (size_t)n : 0;
		loop_turn(l, n > 0 ? 0 : 1);
	}
	UNTIL(a.call->ended);
	must(a.call->in.n == sizeof big && !memcmp(take_in(&a), big, sizeof big));
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void upload(bool chunked, size_t total, size_t piece)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "PUT", "/up");
	a.rq.ended = false;
	a.rq.length = chunked ? -1 : (int64_t)total;
	open_call(&a, f.u);
	size_t put = 0;
	bool accepted = false;
	while (put < total || total == 0) {
		size_t room = call_room(a.call), n = total - put < piece ? total - put : piece;
		if (n <= room) {
			send_body(&a, big + put, n, put + n == total);
			put += n;
			if (total == 0)
				break;
		} else if (accepted) {
			peer_pull(&p);
		}
		loop_turn(l, 0);
		if (!accepted)
			accepted = try_accept(&p, &f.s);
	}
	if (!accepted)
		take_peer(&p, &f.s);
	peer_wait(&p, "\r\n\r\n");
	const char *body = strstr(p.got, "\r\n\r\n") + 4;
	if (chunked) {
		peer_wait(&p, "0\r\n\r\n");
		must(strstr(p.got, "transfer-encoding: chunked\r\n") &&
		     !strstr(p.got, "content-length"));
		size_t at = 0;
		for (;;) {
			char *end;
			size_t n = strtoul(body, &end, 16);
			must(!memcmp(end, "\r\n", 2) && !memcmp(end + 2, big + at, n) &&
			     !memcmp(end + 2 + n, "\r\n", 2));
			at += n;
			body = end + 4 + n;
			if (!n)
				break;
		}
		must(at == total && body == p.got + p.n);
	} else {
		UNTIL((peer_pull(&p), p.n == (size_t)(body - p.got) + total));
		must(!memcmp(body, big, total) && !strstr(p.got, "transfer-encoding"));
	}
	must(a.call->sent_us);
	peer_send(&p, OK "Content-Length: 0\r\n\r\n");
	UNTIL(a.call->ended);
	done(&a);
	get(&a, f.u, f.m, f.c, "/next");
	peer_wait(&p, "GET /next");
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void bodies_arrive_as_they_were_sent(void)
{
	for (int chunked = 0; chunked < 2; chunked++) {
		upload(chunked, 0, 1);
		upload(chunked, 1, 1);
		upload(chunked, 100, 7);
		upload(chunked, 4096, 4096);
		upload(chunked, 4097, 4097);
		upload(chunked, 30000, 700);
		upload(chunked, sizeof big, 20000);
	}
}

static void a_body_of_another_length_than_announced_is_not_sent(void)
{
	for (int mode = 0; mode < 4; mode++) {
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "POST", "/");
		a.rq.ended = false;
		a.rq.length = 10;
		open_call(&a, f.u);
		take_peer(&p, &f.s);
		if (mode < 2)
			peer_wait(&p, "\r\n\r\n");
		send_body(&a, big, mode & 1 ? 11 : 9, true);
		UNTIL(a.call->failed);
		must(a.call->failure == FAILED_CLIENT_PROTOCOL);
		UNTIL(peer_closed(&p));
		must(p.n < 200);
		done(&a);
		peer_close(&p);
		fix_down(&f);
	}
}

static void an_early_answer_ends_the_upload(void)
{
	for (int mode = 0; mode < 3; mode++) {
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "POST", "/");
		a.rq.ended = false;
		a.rq.length = 200000000;
		open_call(&a, f.u);
		take_peer(&p, &f.s);
		for (int full = 0; full < 10; turns(1)) { /* until no socket buffer takes more */
			size_t room = call_room(a.call);
			full = room ? 0 : full + 1;
			if (room)
				send_body(&a, big, room, false);
		}
		peer_send(&p, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
		if (mode == 1)
			shutdown(p.fd, SHUT_WR);
		UNTIL(a.call->ended || a.call->failed);
		must(a.call->ended && a.call->request_lost && status_of(&a) == 413);
		if (mode == 2)
			send_body(&a, big, 1000, true); /* dropped */
		must(!strcmp(take_in(&a), "no"));
		done(&a);
		UNTIL(peer_closed(&p));
		peer_close(&p);
		fix_down(&f);
	}
}

static void a_tunnel_is_raw_both_ways(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/ws");
	a.rq.ended = false;
	a.rq.upgrade = STR("websocket");
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_wait(&p, "\r\n\r\n");
	must(strstr(p.got, "connection: upgrade\r\nupgrade: websocket\r\n") &&
	     !strstr(p.got, "chunked"));
	send_body(&a, "early", 5, false);
	turns(5);
	must(!peer_has(&p, "early"));
	peer_send(
		&p,
		"HTTP/1.1 101 Switching\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\nhello");
	UNTIL(a.call->has_head && a.call->in.n == 5);
	must(a.call->tunnel && status_of(&a) == 101 && !strcmp(take_in(&a), "hello"));
	peer_wait(&p, "early");
	send_body(&a, "more", 4, false);
	peer_wait(&p, "more");
	send_body(&a, "", 0, true);
	UNTIL(peer_closed(&p)); /* FIN passes */
	peer_send(&p, "last words");
	UNTIL(a.call->in.n == 10);
	shutdown(p.fd, SHUT_WR);
	UNTIL(a.call->ended);
	must(!strcmp(take_in(&a), "last words"));
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void a_refused_upgrade_is_an_answer_like_any_other(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/ws");
	a.rq.ended = false;
	a.rq.upgrade = STR("websocket");
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
	UNTIL(a.call->ended);
	must(!a.call->tunnel && status_of(&a) == 403);
	done(&a);
	get(&a, f.u, f.m, f.c, "/next");
	peer_wait(&p, "GET /next");
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void a_reset_tunnel_has_failed(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/ws");
	a.rq.ended = false;
	a.rq.upgrade = STR("websocket");
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p,
		  "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
	UNTIL(a.call->has_head);
	peer_reset(&p);
	UNTIL(a.call->failed);
	done(&a);
	fix_down(&f);
}

static void the_attempt_is_counted_in_the_request(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/");
	must(head_add(&a.head, STR("X-Envoy-Attempt-Count"), STR("99")));
	must(head_add(&a.head, STR("X-Z"), STR("1")));
	a.rq.attempt_count = true;
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_wait(&p, "\r\n\r\n");
	must(strstr(p.got, "x-envoy-attempt-count: 1\r\n") && !strstr(p.got, "99") &&
	     a.head.n == 6);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

int main(void)
{
	static void (*const tests[])(void) = {
		a_request_is_canonical,
		the_next_request_uses_the_same_connection,
		the_last_connection_used_is_used_first,
		a_connection_is_free_when_its_answer_is_complete_not_when_it_is_taken,
		trailers_pass_where_they_are_enabled,
		every_answer_gets_what_the_table_says,
		every_answer_in_pieces,
		a_late_answer_on_an_idle_connection_closes_it,
		bytes_that_came_before_the_request_are_not_its_answer,
		interim_heads_are_handed_on_as_asked,
		a_flood_of_interim_heads_is_refused,
		a_head_may_grow_to_its_limit_and_no_further,
		a_big_answer_flows_under_credit,
		little_pieces_do_not_pin_big_chunks,
		held_answers_stay_in_the_kernel,
		bodies_arrive_as_they_were_sent,
		a_body_of_another_length_than_announced_is_not_sent,
		an_early_answer_ends_the_upload,
		a_tunnel_is_raw_both_ways,
		a_refused_upgrade_is_an_answer_like_any_other,
		a_reset_tunnel_has_failed,
		the_attempt_is_counted_in_the_request,
	};
	start_tests();
	fill_big();
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		with_passes(tests[i]);
	arena_trim();
	chain_trim();
	return 0;
}

/* src/upstream/retry_test.c: time limits, retries, circuit breakers, lack of memory, calls left
 * midway; over real sockets. */
#include "upstream/upstream_test.h"

static struct peer p, q;
static struct asked a, b, c;
static struct fix f;
static const char big[20000];

#define OK "HTTP/1.1 200 OK\r\n"

static void enable_trailers(struct cluster_cfg *cfg)
{
	cfg->enable_trailers = true;
}

/* ---- failures and time */

static void a_refused_connection_fails(void)
{
	struct listening dead = refusing();
	struct model *m = model_with_options();
	const struct listening *at[] = {&dead};
	struct cluster_cfg *cfg = cluster_new(m, "web", at, 1);
	prepare(m);
	struct upstream *u = upstream_new(l, m);
	get(&a, u, m, cfg, "/");
	get(&b, u, m, cfg, "/");
	UNTIL(a.call->failed && b.call->failed);
	must(a.call->failure == FAILED_CONNECT && a.call->failure_text && a.call->attempts == 1);
	must(strstr(a.call->failure_text, "refused"));
	done(&a);
	done(&b);
	upstream_free(u);
	turns(1);
	close(dead.fd);
	model_unref(m);
}

static void a_cluster_without_hosts_has_no_healthy_one(void)
{
	struct model *m = model_with_options();
	struct cluster_cfg *cfg = cluster_new(m, "web", NULL, 0);
	prepare(m);
	struct upstream *u = upstream_new(l, m);
	get(&a, u, m, cfg, "/");
	must(a.events == 0);
	UNTIL(a.call->failed);
	must(a.call->failure == FAILED_NO_HEALTHY && a.events == 1);
	done(&a);
	upstream_free(u);
	turns(1);
	model_unref(m);
}

/* Listens, but its queue is full: SYNs are dropped. */
static void fill_backlog(const struct listening *s, int *fds, int n)
{
	for (int i = 0; i < n; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		connect(fds[i], (const struct sockaddr *)&s->addr, sizeof s->addr);
	}
}

static void a_connection_that_does_not_come_times_out(void)
{
	int fds[4];
	fix_up(&f, NULL);
	must(listen(f.s.fd, 0) == 0);
	fill_backlog(&f.s, fds, 4);
	get(&a, f.u, f.m, f.c, "/");
	pass_time(4900000);
	must(!a.call->failed);
	pass_time(300000);
	must(a.call->failed && a.call->failure == FAILED_CONNECT_TIMEOUT);
	done(&a);
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	fix_down(&f);
}

static void the_whole_answer_must_come_in_time(void)
{
	for (int stage = 0; stage < 3; stage++) {
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "GET", "/");
		a.rq.timeout_us = 2000000;
		open_call(&a, f.u);
		take_peer(&p, &f.s);
		peer_request(&p);
		if (stage == 1)
			peer_send(&p, OK "X-");
		if (stage == 2)
			peer_send(&p, OK "Content-Length: 10\r\n\r\npart");
		pass_time(1900000);
		must(!a.call->failed && a.call->has_head == (stage == 2));
		pass_time(200000);
		must(a.call->failed && a.call->failure == FAILED_TIMEOUT);
		UNTIL(peer_closed(&p));
		done(&a);
		peer_close(&p);
		fix_down(&f);
	}
}

static void a_silent_answer_is_idle_a_slow_one_is_not(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.idle_timeout_us = 1000000;
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Content-Length: 1000\r\n\r\n");
	for (int i = 0; i < 20; i++) {
		peer_send(&p, "x");
		pass_time(500000);
		must(!a.call->failed);
	}
	pass_time(700000);
	must(a.call->failed && a.call->failure == FAILED_STREAM_IDLE);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void an_idle_connection_is_closed_after_55_seconds(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Content-Length: 0\r\n\r\n");
	UNTIL(a.call->ended);
	done(&a);
	pass_time(54900000);
	must(!peer_closed(&p));
	pass_time(200000);
	must(peer_closed(&p));
	peer_close(&p);
	fix_down(&f);
}

static void an_origin_that_keeps_connections_for_5_seconds_is_left_after_4(void)
{
	fix_up(&f, NULL);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Keep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n");
	UNTIL(a.call->ended);
	done(&a);
	pass_time(3900000);
	must(!peer_closed(&p));
	pass_time(200000);
	must(peer_closed(&p));
	peer_close(&p);
	fix_down(&f);
}

static void what_a_crowd_leaves_is_thinned_out(void)
{
	enum { CROWD = LIMIT_SPARES + 5 };
	static struct peer crowd[CROWD];
	static struct asked many[CROWD];
	fix_up(&f, NULL);
	for (int i = 0; i < CROWD; i++) {
		get(&many[i], f.u, f.m, f.c, "/");
		take_peer(&crowd[i], &f.s);
		peer_request(&crowd[i]);
	}
	for (int i = 0; i < CROWD; i++) {
		peer_send(&crowd[i], OK "Content-Length: 0\r\n\r\n");
		UNTIL(many[i].call->ended);
		done(&many[i]);
	}
	must(f.u->sets->live[0]->balance.hosts[0]->nidle == CROWD);
	pass_time(3200000);
	must(f.u->sets->live[0]->balance.hosts[0]->nidle == LIMIT_SPARES);
	pass_time(50000000);
	must(f.u->sets->live[0]->balance.hosts[0]->nidle == LIMIT_SPARES);
	pass_time(5200000);
	must(f.u->sets->live[0]->balance.hosts[0]->nidle == 0);
	for (int i = 0; i < CROWD; i++)
		peer_close(&crowd[i]);
	fix_down(&f);
}

static void two_requests(struct cluster_cfg *cfg)
{
	cfg->max_requests_per_connection = 2;
}
static void two_seconds(struct cluster_cfg *cfg)
{
	cfg->max_connection_duration_us = 2000000;
}

static void connections_retire_by_requests_and_by_age(void)
{
	fix_up(&f, two_requests);
	for (int i = 0; i < 2; i++) {
		get(&a, f.u, f.m, f.c, "/");
		if (!i)
			take_peer(&p, &f.s);
		peer_request(&p);
		peer_send(&p, OK "Content-Length: 0\r\n\r\n");
		UNTIL(a.call->ended);
		done(&a);
	}
	UNTIL(peer_closed(&p));
	peer_close(&p);
	fix_down(&f);

	fix_up(&f, two_seconds);
	get(&a, f.u, f.m, f.c, "/");
	take_peer(&p, &f.s);
	peer_request(&p);
	pass_time(1000000);
	peer_send(&p, OK "Content-Length: 0\r\n\r\n");
	UNTIL(a.call->ended);
	done(&a);
	turns(2);
	must(!peer_closed(&p));
	pass_time(1100000);
	must(peer_closed(&p));
	peer_close(&p);
	fix_down(&f);
}

/* ---- retries */

static void warm_up(void)
{
	get(&a, f.u, f.m, f.c, "/warm");
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK "Content-Length: 0\r\n\r\n");
	UNTIL(a.call->ended);
	done(&a);
}

static void a_stale_connection_costs_a_get_nothing(void)
{
	static const char *const methods[] = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"};
	for (int i = 0; i < 10; i++) {
		fix_up(&f, NULL);
		warm_up();
		ask(&b, f.m, f.c, methods[i / 2], "/b");
		open_call(&b, f.u);
		peer_wait(&p, "/b");
		if (i & 1)
			peer_reset(&p);
		else
			peer_close(&p);
		take_peer(&q, &f.s);
		peer_wait(&q, "/b");
		peer_send(&q, OK "Content-Length: 0\r\n\r\n");
		UNTIL(b.call->ended);
		must(b.call->attempts == 2);
		done(&b);
		peer_close(&q);
		fix_down(&f);
	}
}

static void a_post_is_not_sent_twice(void)
{
	for (int i = 0; i < 2; i++) {
		fix_up(&f, NULL);
		warm_up();
		ask(&b, f.m, f.c, "POST", "/b");
		b.rq.ended = false;
		b.rq.length = 5;
		open_call(&b, f.u);
		send_body(&b, "hello", 5, true);
		peer_wait(&p, "hello");
		if (i)
			peer_reset(&p);
		else
			peer_close(&p);
		UNTIL(b.call->failed);
		must(b.call->failure == FAILED_TERMINATED && b.call->attempts == 1);
		no_peer(&f.s);
		done(&b);
		fix_down(&f);
	}
}

static void a_put_with_a_kept_body_is_sent_again_whole(void)
{
	fix_up(&f, NULL);
	warm_up();
	ask(&b, f.m, f.c, "PUT", "/b");
	b.rq.ended = false;
	open_call(&b, f.u);
	send_body(&b, "hello ", 6, false);
	peer_wait(&p, "hello ");
	send_body(&b, "you", 3, false);
	peer_wait(&p, "you");
	peer_close(&p);
	take_peer(&q, &f.s);
	peer_wait(&q, "\r\n\r\n9\r\nhello you\r\n");
	send_body(&b, "!", 1, true);
	peer_wait(&q, "1\r\n!\r\n0\r\n\r\n");
	peer_send(&q, OK "Content-Length: 0\r\n\r\n");
	UNTIL(b.call->ended);
	done(&b);
	peer_close(&q);
	fix_down(&f);
}

static void a_put_with_more_than_is_kept_fails(void)
{
	fix_up(&f, NULL);
	warm_up();
	ask(&b, f.m, f.c, "PUT", "/b");
	b.rq.ended = false;
	open_call(&b, f.u);
	for (int i = 0; i < 5; i++) {
		UNTIL(call_room(b.call) >= 10000);
		send_body(&b, big, 10000, false);
		turns(2);
		peer_pull(&p);
	}
	peer_close(&p);
	UNTIL(b.call->failed);
	must(b.call->attempts == 1);
	done(&b);
	fix_down(&f);
}

static void one_byte_of_an_answer_ends_implicit_retries(void)
{
	fix_up(&f, NULL);
	warm_up();
	get(&b, f.u, f.m, f.c, "/b");
	peer_wait(&p, "/b");
	peer_send(&p, "H");
	turns(3);
	peer_close(&p);
	UNTIL(b.call->failed);
	must(b.call->attempts == 1);
	done(&b);
	fix_down(&f);
}

static void a_second_stale_one_is_not_asked_a_third_time(void)
{
	fix_up(&f, NULL);
	warm_up();
	get(&b, f.u, f.m, f.c, "/b");
	peer_wait(&p, "/b");
	peer_close(&p);
	take_peer(&q, &f.s);
	peer_wait(&q, "/b");
	peer_close(&q);
	UNTIL(b.call->failed);
	must(b.call->attempts == 2 && b.call->failure == FAILED_TERMINATED);
	done(&b);
	fix_down(&f);
}

static struct retry_policy policy(unsigned on, unsigned n)
{
	return (struct retry_policy){
		.on = on, .num_retries = n, .backoff = {25000, 250000}, .host_attempts = 1};
}

static void an_answer_of_the_policy_is_asked_again(void)
{
	struct retry_policy rp = policy(RETRY_5XX, 2);
	for (int whole = 0; whole < 2; whole++) {
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "POST", "/");
		a.rq.retry = &rp;
		a.rq.ended = false;
		a.rq.length = 5;
		a.rq.attempt_count = true;
		open_call(&a, f.u);
		send_body(&a, "hello", 5, true);
		take_peer(&p, &f.s);
		peer_wait(&p, "hello");
		p.n = 0;
		peer_send(&p, whole ? "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"
				    : "HTTP/1.1 503 No\r\nContent-Length: 20\r\n\r\nno");
		turns(3);
		must(!a.call->has_head && a.events == 0);
		pass_time(100000);
		if (whole) { /* its connection is as good as before */
			peer_wait(&p, "hello");
			must(strstr(p.got, "attempt-count: 2"));
			peer_send(&p, OK "Content-Length: 2\r\n\r\nhi");
		} else {
			UNTIL(peer_closed(&p));
			take_peer(&q, &f.s);
			peer_wait(&q, "hello");
			peer_send(&q, OK "Content-Length: 2\r\n\r\nhi");
		}
		UNTIL(a.call->ended);
		must(status_of(&a) == 200 && a.call->attempts == 2 && !strcmp(take_in(&a), "hi"));
		must(in_use("web", USE_RETRIES) == 0);
		done(&a);
		peer_close(&p);
		if (!whole)
			peer_close(&q);
		fix_down(&f);
	}
}

static void the_last_answer_of_all_passes(void)
{
	struct retry_policy rp = policy(RETRY_5XX, 2);
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.retry = &rp;
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	for (int i = 0; i < 3; i++) {
		peer_request(&p);
		peer_send(&p, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno");
	}
	UNTIL(a.call->ended);
	must(status_of(&a) == 503 && a.call->attempts == 3 && !strcmp(take_in(&a), "no"));
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void what_the_policy_does_not_name_passes(void)
{
	static uint16_t codes[] = {418, 429};
	static const struct {
		unsigned on, status;
		bool again;
	} rows[] = {
		{RETRY_5XX, 499, false},
		{RETRY_5XX, 500, true},
		{RETRY_GATEWAY_ERROR, 500, false},
		{RETRY_GATEWAY_ERROR, 502, true},
		{RETRY_GATEWAY_ERROR, 504, true},
		{RETRY_GATEWAY_ERROR, 505, false},
		{RETRY_RETRIABLE_4XX, 409, true},
		{RETRY_RETRIABLE_4XX, 408, false},
		{RETRY_STATUS_CODES, 429, true},
		{RETRY_STATUS_CODES, 503, false},
		{RETRY_RESET | RETRY_CONNECT_FAILURE, 503, false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct retry_policy rp = policy(rows[i].on, 1);
		rp.codes = codes;
		rp.ncodes = 2;
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "GET", "/");
		a.rq.retry = &rp;
		open_call(&a, f.u);
		take_peer(&p, &f.s);
		peer_request(&p);
		char text[100];
		sprintf(text, "HTTP/1.1 %u X\r\nContent-Length: 0\r\n\r\n", rows[i].status);
		peer_send(&p, text);
		if (rows[i].again) {
			peer_request(&p);
			peer_send(&p, OK "Content-Length: 0\r\n\r\n");
		}
		UNTIL(a.call->ended);
		must(status_of(&a) == (rows[i].again ? 200 : rows[i].status));
		done(&a);
		peer_close(&p);
		fix_down(&f);
	}
}

static void headers_of_answer_and_request_steer_retries(void)
{
	struct field_match retriable = {
		.name = STR("x-again"), .kind = FIELD_MATCH_PRESENT, .present = true};
	struct retry_policy rp = policy(RETRY_HEADERS | RETRY_5XX, 1);
	rp.headers = &retriable;
	rp.nheaders = 1;
	for (int mode = 0; mode < 2; mode++) {
		rp.request_headers = &retriable;
		rp.nrequest_headers = mode ? 1 : 0;
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "GET", "/");
		a.rq.retry = &rp;
		open_call(&a, f.u);
		take_peer(&p, &f.s);
		peer_request(&p);
		peer_send(&p, OK "X-Again: 1\r\nContent-Length: 0\r\n\r\n");
		if (!mode) {
			peer_request(&p);
			peer_send(&p, OK "Content-Length: 0\r\n\r\n");
		}
		UNTIL(a.call->ended);
		must(a.call->attempts == (mode ? 1 : 2));
		done(&a);
		peer_close(&p);
		fix_down(&f);
	}
}

static void resets_and_refusals_by_policy(void)
{
	static const struct {
		unsigned on;
		bool reset, again;
	} rows[] = {
		{RETRY_RESET, true, true},
		{RETRY_5XX, true, true},
		{RETRY_GATEWAY_ERROR, true, true},
		{RETRY_CONNECT_FAILURE, true, false},
		{RETRY_CONNECT_FAILURE, false, true},
		{RETRY_RESET_BEFORE_REQUEST, true, false},
		{RETRY_RESET_BEFORE_REQUEST, false, true},
		{RETRY_STATUS_CODES, true, false},
		{RETRY_REFUSED_STREAM, false, false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct retry_policy rp = policy(rows[i].on, 1);
		struct listening dead = refusing(), good = listen_local();
		struct model *m = model_with_options();
		const struct listening *at[] = {rows[i].reset ? &good : &dead};
		struct cluster_cfg *cfg = cluster_new(m, "web", at, 1);
		prepare(m);
		struct upstream *u = upstream_new(l, m);
		ask(&a, m, cfg, "POST", "/");
		a.rq.retry = &rp;
		open_call(&a, u);
		if (rows[i].reset) {
			take_peer(&p, &good);
			peer_request(&p);
			peer_reset(&p);
			if (rows[i].again) {
				take_peer(&p, &good);
				peer_request(&p);
				peer_reset(&p);
			}
		}
		UNTIL(a.call->failed);
		must(a.call->attempts == (rows[i].again ? 2 : 1));
		done(&a);
		upstream_free(u);
		turns(1);
		close(dead.fd);
		close(good.fd);
		model_unref(m);
	}
}

static void a_try_has_its_own_time(void)
{
	struct retry_policy rp = policy(RETRY_5XX, 1);
	rp.per_try_timeout_us = 500000;
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.retry = &rp;
	a.rq.timeout_us = 10000000;
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_request(&p);
	pass_time(600000);
	UNTIL(peer_closed(&p));
	pass_time(100000);
	take_peer(&q, &f.s);
	peer_request(&q);
	pass_time(600000);
	must(a.call->failed && a.call->failure == FAILED_PER_TRY_TIMEOUT && a.call->attempts == 2);
	done(&a);
	peer_close(&p);
	peer_close(&q);
	fix_down(&f);
}

static void the_time_for_all_tries_ends_the_last(void)
{
	struct retry_policy rp = policy(RETRY_5XX, 100);
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.retry = &rp;
	a.rq.timeout_us = 1000000;
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	for (int i = 0; i < 300 && !a.call->failed; i++) {
		if (peer_has(&p, "\r\n\r\n")) {
			p.n = 0;
			peer_send(&p, "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n");
		}
		pass_time(10000);
	}
	must(a.call->failed && a.call->failure == FAILED_TIMEOUT);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void another_host_is_tried(void)
{
	struct listening dead = refusing(), good = listen_local();
	struct retry_policy rp = policy(RETRY_CONNECT_FAILURE, 1);
	rp.previous_hosts = true;
	rp.host_attempts = 5;
	for (int i = 0; i < 6; i++) {
		struct model *m = model_with_options();
		const struct listening *at[] = {&dead, &good};
		struct cluster_cfg *cfg = cluster_new(m, "web", at, 2);
		cfg->lb = i & 1 ? LB_RANDOM : LB_ROUND_ROBIN;
		prepare(m);
		struct upstream *u = upstream_new(l, m);
		ask(&a, m, cfg, "GET", "/");
		a.rq.retry = &rp;
		a.rq.override_host = str_of(dead.text);
		open_call(&a, u);
		UNTIL(a.call->failed || try_accept(&p, &good));
		if (!a.call->failed) { /* random may choose the dead one five times */
			peer_request(&p);
			peer_send(&p, OK "Content-Length: 0\r\n\r\n");
			UNTIL(a.call->ended);
			peer_close(&p);
		} else {
			must(i & 1);
		}
		must(a.call->attempts == 2);
		done(&a);
		upstream_free(u);
		turns(1);
		model_unref(m);
	}
	close(dead.fd);
	close(good.fd);
}

static void strict_override(void)
{
	fix_up(&f, NULL);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.override_host = STR("127.0.0.1:1");
	a.rq.override_strict = true;
	open_call(&a, f.u);
	UNTIL(a.call->failed);
	must(a.call->failure == FAILED_NO_HEALTHY);
	done(&a);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.override_host = STR("127.0.0.1:1");
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

/* ---- circuit breakers */

static void one_connection(struct cluster_cfg *cfg)
{
	cfg->breakers[0].max_connections = 1;
	cfg->breakers[0].max_pending = 1;
}
static void one_request(struct cluster_cfg *cfg)
{
	cfg->breakers[0].max_requests = 1;
}
static void no_retries(struct cluster_cfg *cfg)
{
	cfg->breakers[0].max_retries = 0;
}

static void calls_wait_for_the_only_connection_but_not_all(void)
{
	fix_up(&f, one_connection);
	get(&a, f.u, f.m, f.c, "/a");
	take_peer(&p, &f.s);
	peer_request(&p);
	get(&b, f.u, f.m, f.c, "/b");
	get(&c, f.u, f.m, f.c, "/c");
	UNTIL(c.call->failed);
	must(c.call->failure == FAILED_OVERFLOW && !b.call->failed);
	must(in_use("web", USE_CONNECTIONS) == 1 && in_use("web", USE_PENDING) == 1);
	done(&c);
	no_peer(&f.s);
	peer_send(&p, OK "Content-Length: 0\r\n\r\n");
	UNTIL(a.call->ended);
	peer_wait(&p, "GET /b");
	peer_send(&p, OK "Connection: close\r\nContent-Length: 0\r\n\r\n");
	UNTIL(b.call->ended);
	done(&a);
	done(&b);
	UNTIL(peer_closed(&p));
	peer_close(&p);
	fix_down(&f);
}

static void a_waiting_call_gets_a_new_connection_when_the_only_one_dies(void)
{
	fix_up(&f, one_connection);
	get(&a, f.u, f.m, f.c, "/a");
	take_peer(&p, &f.s);
	peer_request(&p);
	get(&b, f.u, f.m, f.c, "/b");
	done(&a); /* cancelled */
	take_peer(&q, &f.s);
	peer_wait(&q, "GET /b");
	done(&b);
	peer_close(&p);
	peer_close(&q);
	fix_down(&f);
}

static void workers_share_the_limit(void)
{
	fix_up(&f, one_connection);
	struct upstream *other = upstream_new(l, f.m);
	get(&a, f.u, f.m, f.c, "/a");
	take_peer(&p, &f.s);
	peer_request(&p);
	get(&b, f.u, f.m, f.c, "/b");
	get(&c, other, f.m, f.c, "/c");
	UNTIL(c.call->failed);
	must(c.call->failure == FAILED_OVERFLOW); /* the one place in the queue is b's */
	done(&c);
	done(&b);
	get(&c, other, f.m, f.c, "/c");
	take_peer(&q, &f.s); /* a pool without any connection may always have one */
	done(&c);
	done(&a);
	peer_close(&p);
	peer_close(&q);
	upstream_free(other);
	fix_down(&f);
}

static void requests_are_limited(void)
{
	fix_up(&f, one_request);
	get(&a, f.u, f.m, f.c, "/a");
	take_peer(&p, &f.s);
	get(&b, f.u, f.m, f.c, "/b");
	UNTIL(b.call->failed);
	must(b.call->failure == FAILED_OVERFLOW);
	done(&b);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

static void retries_are_limited(void)
{
	struct retry_policy rp = policy(RETRY_5XX, 1);
	fix_up(&f, no_retries);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.retry = &rp;
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno");
	UNTIL(a.call->ended);
	must(status_of(&a) == 503 && a.call->attempts == 1);
	done(&a);
	peer_close(&p);
	fix_down(&f);
}

/* ---- no memory */

/* The nth allocation fails: the call fails with it or not at all, and nothing is left. False: n
 * was beyond the last. */
static bool starve(uint64_t n, int scene)
{
	struct retry_policy rp = policy(RETRY_5XX, 1);
	fix_up(&f, enable_trailers);
	if (scene == 2)
		warm_up();
	ask(&a, f.m, f.c, scene ? "PUT" : "GET", "/");
	a.rq.ended = !scene;
	a.rq.retry = scene == 1 ? &rp : NULL;
	a.rq.attempt_count = true;
	chain_trim();
	arena_trim();
	mem_fail_nth(n);
	a.inside = true;
	a.call = call_open(f.u, &a.rq, on_event, &a);
	a.inside = false;
	p.fd = scene == 2 ? p.fd : -1;
	for (int i = 0, said = 0; a.call && i < 200 && !a.call->ended && !a.call->failed; i++) {
		struct chain body = {0};
		if (i == 2 && scene && chain_copy(&body, big, 20000))
			call_send(a.call, &body, true, NULL);
		loop_turn(l, 0);
		virtual_us += 5000;
		if (p.fd < 0 && !try_accept(&p, &f.s))
			continue;
		if (peer_has(&p, scene ? "0\r\n\r\n" : "\r\n\r\n")) {
			p.n = 0;
			if (scene == 2 && said++ == 0)
				peer_close(&p);
			else if (scene == 1 && said++ == 0)
				peer_send(&p, "HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\nno");
			else
				peer_send(&p, "HTTP/1.1 103 E\r\nLink: a\r\n\r\n" OK
					      "Transfer-Encoding: "
					      "chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n");
		} else if (p.fin) {
			peer_close(&p);
		}
	}
	bool fired = mem_fail_left() == 0;
	mem_fail_nth(0);
	if (a.call &&
	    a.call->ended) /* what is not kept is not sent again: then the first answer is the last */
		must(!strcmp(take_in(&a), status_of(&a) == 200 ? "hi" : "no"));
	must(fired || (a.call && a.call->ended));
	done(&a);
	peer_close(&p);
	turns(2);
	fix_down(&f);
	return fired;
}

static void without_memory_only_the_call_suffers(void)
{
	for (int scene = 0; scene < 3; scene++)
		for (uint64_t n = 1; starve(n, scene); n++)
			must(n < 500);
}

/* ---- leaving at every step */

static void a_call_may_be_left_at_any_step(void)
{
	for (int step = 0; step < 8; step++) {
		fix_up(&f, NULL);
		ask(&a, f.m, f.c, "POST", "/");
		a.rq.ended = false;
		a.rq.timeout_us = 1000000;
		open_call(&a, f.u);
		bool accepted = false;
		if (step > 0)
			turns(1);
		if (step > 1) {
			take_peer(&p, &f.s);
			accepted = true;
		}
		if (step > 2)
			peer_wait(&p, "\r\n\r\n");
		if (step > 3)
			send_body(&a, "hello", 5, step > 4);
		if (step > 5)
			peer_send(&p, OK "Content-");
		turns(step > 5 ? 3 : 0);
		if (step > 6) {
			peer_send(&p, "Length: 10\r\n\r\npart");
			UNTIL(a.call->has_head);
		}
		done(&a);
		if (step > 1)
			UNTIL(peer_closed(&p));
		if (!accepted)
			take_peer(&p, &f.s); /* dialled, kept for the next */
		peer_close(&p);
		turns(2);
		fix_down(&f);
	}
}

int main(void)
{
	static void (*const tests[])(void) = {
		a_refused_connection_fails,
		a_cluster_without_hosts_has_no_healthy_one,
		a_connection_that_does_not_come_times_out,
		the_whole_answer_must_come_in_time,
		a_silent_answer_is_idle_a_slow_one_is_not,
		an_idle_connection_is_closed_after_55_seconds,
		an_origin_that_keeps_connections_for_5_seconds_is_left_after_4,
		connections_retire_by_requests_and_by_age,
		what_a_crowd_leaves_is_thinned_out,
		a_stale_connection_costs_a_get_nothing,
		a_post_is_not_sent_twice,
		a_put_with_a_kept_body_is_sent_again_whole,
		a_put_with_more_than_is_kept_fails,
		one_byte_of_an_answer_ends_implicit_retries,
		a_second_stale_one_is_not_asked_a_third_time,
		an_answer_of_the_policy_is_asked_again,
		the_last_answer_of_all_passes,
		what_the_policy_does_not_name_passes,
		headers_of_answer_and_request_steer_retries,
		resets_and_refusals_by_policy,
		a_try_has_its_own_time,
		the_time_for_all_tries_ends_the_last,
		another_host_is_tried,
		strict_override,
		calls_wait_for_the_only_connection_but_not_all,
		a_waiting_call_gets_a_new_connection_when_the_only_one_dies,
		workers_share_the_limit,
		requests_are_limited,
		retries_are_limited,
		without_memory_only_the_call_suffers,
		a_call_may_be_left_at_any_step,
	};
	start_tests();
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		with_passes(tests[i]);
	arena_trim();
	chain_trim();
	return 0;
}

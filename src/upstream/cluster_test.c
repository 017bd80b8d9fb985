/* src/upstream/cluster_test.c: clusters that change: models swapped, names resolved, what
 * /clusters shows. */
#include "upstream/upstream_test.h"

static struct peer p, q;
static struct asked a, b;
static struct fix f;

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

static void one_request(struct upstream *u, const struct model *m, const struct cluster_cfg *cfg,
			struct peer *at, const struct listening *new_at)
{
	get(&a, u, m, cfg, "/");
	if (new_at)
		take_peer(at, new_at);
	peer_request(at);
	peer_send(at, OK);
	UNTIL(a.call->ended);
	done(&a);
}

static void time_for_sweeps(void)
{
	pass_time(3500000);
}

/* ---- swaps */

static struct model *next_model(const struct listening *at, uint64_t idle_us)
{
	struct model *m = model_with_options();
	const struct listening *one[] = {at};
	cluster_new(m, "other", one, 1);
	struct cluster_cfg *c = cluster_new(m, "web", one, 1);
	c->idle_timeout_us = idle_us;
	prepare(m);
	return m;
}

static void an_unchanged_cluster_keeps_its_connections(void)
{
	fix_up(&f, NULL);
	one_request(f.u, f.m, f.c, &p, &f.s);
	struct model *m = next_model(&f.s, f.c->idle_timeout_us);
	upstream_swap(f.u, m);
	one_request(f.u, m, m->clusters[1], &p, NULL);
	one_request(f.u, f.m, f.c, &p, NULL); /* an exchange of the old model uses them too */
	time_for_sweeps();
	must(atomic_load(&f.m->refs) == 1); /* the old model is let go */
	one_request(f.u, m, m->clusters[1], &p, NULL);
	one_request(f.u, f.m, f.c, &p, NULL); /* even now */
	time_for_sweeps();
	must(atomic_load(&f.m->refs) == 1);
	peer_close(&p);
	upstream_swap(f.u, f.m);
	time_for_sweeps();
	must(atomic_load(&m->refs) == 1);
	model_unref(m);
	fix_down(&f);
}

static void a_changed_cluster_is_a_new_one(void)
{
	fix_up(&f, NULL);
	one_request(f.u, f.m, f.c, &p, &f.s);
	get(&b, f.u, f.m, f.c, "/in-flight");
	peer_wait(&p, "/in-flight");
	struct model *m = next_model(&f.s, 1000000);
	upstream_swap(f.u, m);
	turns(2);
	one_request(f.u, m, m->clusters[1], &q, &f.s);
	time_for_sweeps();
	must(atomic_load(&f.m->refs) > 1); /* a call is on */
	peer_send(&p, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	UNTIL(b.call->ended);
	must(!strcmp(take_in(&b), "hi"));
	done(&b);
	UNTIL(peer_closed(&p)); /* drained */
	/* A late exchange of the old model: served, not pooled. */
	peer_close(&p);
	one_request(f.u, f.m, f.c, &p, &f.s);
	UNTIL(peer_closed(&p));
	peer_close(&p);
	peer_close(&q);
	time_for_sweeps();
	must(atomic_load(&f.m->refs) == 1);
	one_request(f.u, f.m, f.c, &p, &f.s);
	UNTIL(peer_closed(&p));
	peer_close(&p);
	upstream_swap(f.u, f.m);
	time_for_sweeps();
	model_unref(m);
	fix_down(&f);
}

static void a_vanished_cluster_closes_what_is_idle(void)
{
	fix_up(&f, NULL);
	one_request(f.u, f.m, f.c, &p, &f.s);
	struct model *m = model_with_options();
	prepare(m);
	upstream_swap(f.u, m);
	UNTIL(peer_closed(&p));
	peer_close(&p);
	get(&b, f.u, f.m, f.c, "/late");
	take_peer(&p, &f.s);
	done(&b);
	time_for_sweeps();
	must(in_use("web", USE_CONNECTIONS) == 0);
	upstream_swap(f.u, f.m);
	peer_close(&p);
	time_for_sweeps();
	model_unref(m);
	fix_down(&f);
}

static void endpoints_come_and_go_with_their_own_pools(void)
{
	struct listening more = listen_local();
	fix_up(&f, NULL);
	one_request(f.u, f.m, f.c, &p, &f.s);
	struct model *m = model_with_options();
	const struct listening *both[] = {&more, &f.s}, *only[] = {&more};
	struct cluster_cfg *c = cluster_new(m, "web", both, 2);
	prepare(m);
	upstream_swap(f.u, m);
	ask(&a, m, c, "GET", "/kept");
	a.rq.override_host = str_of(f.s.text);
	open_call(&a, f.u);
	peer_wait(&p, "/kept"); /* the same connection */
	p.n = 0;
	struct model *last = model_with_options();
	c = cluster_new(last, "web", only, 1);
	prepare(last);
	upstream_swap(f.u, last);
	peer_send(&p, OK);
	UNTIL(a.call->ended);
	done(&a);
	UNTIL(peer_closed(&p)); /* its host has left */
	one_request(f.u, last, c, &q, &more);
	peer_close(&p);
	peer_close(&q);
	upstream_swap(f.u, f.m);
	time_for_sweeps();
	model_unref(m);
	model_unref(last);
	fix_down(&f);
	close(more.fd);
}

static void many_swaps_leave_nothing(void)
{
	fix_up(&f, NULL);
	one_request(f.u, f.m, f.c, &p, &f.s);
	const struct model *before = f.m;
	for (int i = 0; i < 50; i++) {
		struct model *m = next_model(&f.s, f.c->idle_timeout_us);
		upstream_swap(f.u, m);
		model_unref(m); /* the worker's reference is the last */
		before = m;
		one_request(f.u, before, before->clusters[1], &p, NULL);
		pass_time(100000);
	}
	time_for_sweeps();
	must(f.u->sets->model == before && !f.u->sets->next);
	upstream_swap(f.u, f.m);
	peer_close(&p);
	fix_down(&f);
}

static void a_drained_worker_keeps_no_connection(void)
{
	fix_up(&f, NULL);
	one_request(f.u, f.m, f.c, &p, &f.s);
	get(&b, f.u, f.m, f.c, "/on");
	peer_request(&p);
	one_request(f.u, f.m, f.c, &q, &f.s);
	upstream_drain(f.u);
	UNTIL(peer_closed(&q));
	peer_send(&p, OK);
	UNTIL(b.call->ended);
	UNTIL(peer_closed(&p));
	done(&b);
	peer_close(&p);
	peer_close(&q);
	fix_down(&f);
}

/* ---- DNS */

static struct cluster_cfg *dns_cluster(struct model *m, enum cluster_type type, uint16_t port,
				       const char *const *names, unsigned n)
{
	struct cluster_cfg *c = cluster_new(m, "web", NULL, 0);
	c->type = type;
	c->endpoints = arena_zalloc(&m->arena, n * sizeof *c->endpoints);
	c->nendpoints = n;
	for (unsigned i = 0; i < n; i++) {
		c->endpoints[i].weight = 1;
		c->endpoints[i].addr.name = str_of(names[i]);
		c->endpoints[i].addr.port = port;
		c->endpoints[i].addr.text = str_of(names[i]);
	}
	return c;
}

static void dns_up(enum cluster_type type, const char *const *names, unsigned n, bool ttl)
{
	f.s = listen_local();
	f.m = model_with_options();
	f.c = dns_cluster(f.m, type, ntohs(f.s.addr.sin_port), names, n);
	f.c->respect_dns_ttl = ttl;
	prepare(f.m);
	f.u = upstream_new(l, f.m);
}

static const char *const web[] = {"web.test"};

static void calls_wait_for_the_first_answer(void)
{
	dns_up(CLUSTER_STRICT_DNS, web, 1, false);
	must(!upstream_warm(f.u));
	get(&a, f.u, f.m, f.c, "/");
	get(&b, f.u, f.m, f.c, "/left");
	turns(3);
	must(a.events == 0);
	done(&b);
	dns_say("web.test", "127.0.0.1", 1);
	must(upstream_warm(f.u));
	take_peer(&p, &f.s);
	peer_wait(&p, "GET / ");
	must(!strcmp(a.call->hostname, "web.test"));
	peer_send(&p, OK);
	UNTIL(a.call->ended);
	done(&a);
	peer_close(&p);
	fix_down(&f);
	must(dns_made == 0 && !dns_asked);
}

static void without_any_answer_there_is_no_healthy_host(void)
{
	dns_up(CLUSTER_STRICT_DNS, web, 1, false);
	get(&a, f.u, f.m, f.c, "/");
	dns_say("web.test", NULL, 0);
	must(upstream_warm(f.u));
	UNTIL(a.call->failed);
	must(a.call->failure == FAILED_NO_HEALTHY);
	done(&a);
	get(&a, f.u, f.m, f.c, "/");
	UNTIL(a.call->failed); /* at once, from now on */
	done(&a);
	must(!dns_asked);
	pass_time(5100000);
	dns_say("web.test", "127.0.0.1", 1);
	one_request(f.u, f.m, f.c, &p, &f.s);
	peer_close(&p);
	fix_down(&f);
}

static void answers_are_renewed_and_the_last_good_one_stays(void)
{
	dns_up(CLUSTER_STRICT_DNS, web, 1, false);
	dns_say("web.test", "127.0.0.1 127.0.0.2", 1);
	struct live *live = f.u->sets->live[0];
	must(live->balance.nhosts == 2);
	ask(&a, f.m, f.c, "GET", "/");
	a.rq.override_host = str_of(f.s.text);
	open_call(&a, f.u);
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK);
	UNTIL(a.call->ended);
	done(&a);
	pass_time(4900000);
	must(!dns_asked);
	pass_time(200000);
	dns_say("web.test", NULL, 0); /* fails: nothing changes */
	must(live->balance.nhosts == 2);
	pass_time(5100000);
	dns_say("web.test", "127.0.0.2 127.0.0.1", 1);
	must(live->balance.nhosts == 2 && !peer_closed(&p));
	pass_time(5100000);
	/* moved: idle connections to the old place are closed */
	dns_say("web.test", "127.0.0.7", 1);
	must(live->balance.nhosts == 1);
	UNTIL(peer_closed(&p));
	peer_close(&p);
	must(stat_read(f.c->stats->membership_total) == 1);
	fix_down(&f);
}

static void the_ttl_counts_where_it_is_asked_for(void)
{
	dns_up(CLUSTER_STRICT_DNS, web, 1, true);
	dns_say("web.test", "127.0.0.1", 60);
	pass_time(59000000);
	must(!dns_asked);
	pass_time(1200000);
	dns_say("web.test", "127.0.0.1", 0); /* none: the configured rate */
	pass_time(5200000);
	must(dns_asked);
	fix_down(&f);
	must(!dns_asked);
}

static void a_logical_cluster_moves_new_connections_only(void)
{
	dns_up(CLUSTER_LOGICAL_DNS, web, 1, false);
	dns_say("web.test", "127.0.0.1 127.0.0.9", 1);
	struct live *live = f.u->sets->live[0];
	must(live->balance.nhosts == 1);
	one_request(f.u, f.m, f.c, &p, &f.s);
	pass_time(5100000);
	dns_say("web.test", "127.0.0.2", 1);
	must(live->balance.nhosts == 1 && !strncmp(live->balance.hosts[0]->text, "127.0.0.2:", 10));
	one_request(f.u, f.m, f.c, &p, NULL); /* the old connection is as good as ever */
	must(!peer_closed(&p));
	peer_close(&p);
	fix_down(&f);
}

static void several_names_and_a_plain_address(void)
{
	static const char *const names[] = {"a.test", "b.test", "127.0.0.3"};
	f.s = listen_local();
	f.m = model_with_options();
	f.c = dns_cluster(f.m, CLUSTER_STRICT_DNS, 80, names, 3);
	struct endpoint_cfg *plain = &f.c->endpoints[2];
	plain->addr.in4.sin_family = AF_INET;
	plain->addr.in4.sin_port = htons(80);
	plain->addr.in4.sin_addr.s_addr = inet_addr("127.0.0.3");
	plain->addr.len = sizeof plain->addr.in4;
	plain->addr.text = STR("127.0.0.3:80");
	f.c->endpoints[1].priority = 1;
	prepare(f.m);
	f.u = upstream_new(l, f.m);
	struct live *live = f.u->sets->live[0];
	must(live->balance.nhosts == 1); /* usable before any name is */
	dns_say("a.test", "127.0.0.1 127.0.0.2", 1);
	must(live->balance.nhosts == 3 && !upstream_warm(f.u));
	dns_say("b.test", "127.0.0.4 127.0.0.1", 1); /* one address twice: the first counts */
	must(live->balance.nhosts == 4 && live->balance.n == 2 && live->balance.tiers[1].n == 1);
	must(upstream_warm(f.u));
	fix_down(&f);
}

static void a_swap_in_the_middle_of_a_question(void)
{
	dns_up(CLUSTER_STRICT_DNS, web, 1, false);
	struct model *m = model_with_options();
	dns_cluster(m, CLUSTER_STRICT_DNS, ntohs(f.s.addr.sin_port), web, 1);
	m->clusters[0]->respect_dns_ttl = false;
	prepare(m);
	get(&a, f.u, f.m, f.c, "/");
	upstream_swap(f.u, m); /* the same: the question stands, and now belongs to the new model */
	must(dns_asked && !dns_asked->next);
	struct model *other = model_with_options();
	static const char *const names[] = {"other.test"};
	dns_cluster(other, CLUSTER_STRICT_DNS, ntohs(f.s.addr.sin_port), names, 1);
	prepare(other);
	upstream_swap(f.u, other); /* another one */
	must(dns_asked && dns_asked->next);
	dns_say("web.test", "127.0.0.1", 1);
	take_peer(&p, &f.s);
	peer_request(&p);
	peer_send(&p, OK);
	UNTIL(a.call->ended);
	done(&a);
	peer_close(&p);
	upstream_swap(f.u, f.m);
	time_for_sweeps();
	model_unref(m);
	model_unref(other);
	fix_down(&f);
	must(!dns_asked && dns_made == 0);
}

/* ---- rows */

static struct endpoint_row rows[8];
static unsigned nrows;

static void take_row(void *arg, const struct endpoint_row *r)
{
	must(nrows < 8);
	rows[nrows++] = *r;
}

static void rows_are_summed_over_workers(void)
{
	fix_up(&f, NULL);
	struct upstream *other = upstream_new(l, f.m);
	one_request(f.u, f.m, f.c, &p, &f.s);
	one_request(f.u, f.m, f.c, &p, NULL);
	one_request(other, f.m, f.c, &q, &f.s);
	get(&b, other, f.m, f.c, "/");
	peer_wait(&q, "GET /");
	nrows = 0;
	upstream_rows(f.m, take_row, NULL);
	must(nrows == 1 && rows[0].cluster == f.c && !strcmp(rows[0].address, f.s.text) &&
	     !rows[0].hostname[0]);
	must(rows[0].cx_active == 2 && rows[0].cx_total == 2 && rows[0].rq_total == 4 &&
	     rows[0].rq_active == 1 && rows[0].rq_success == 3);
	must(rows[0].healthy && rows[0].weight == 1);
	peer_send(&q, "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
	UNTIL(b.call->ended);
	done(&b);
	nrows = 0;
	upstream_rows(f.m, take_row, NULL);
	must(rows[0].rq_error == 1 && rows[0].rq_active == 0);
	peer_close(&p);
	peer_close(&q);
	upstream_free(other);
	fix_down(&f);
}

int main(void)
{
	static void (*const tests[])(void) = {
		an_unchanged_cluster_keeps_its_connections,
		a_changed_cluster_is_a_new_one,
		a_vanished_cluster_closes_what_is_idle,
		endpoints_come_and_go_with_their_own_pools,
		many_swaps_leave_nothing,
		a_drained_worker_keeps_no_connection,
		calls_wait_for_the_first_answer,
		without_any_answer_there_is_no_healthy_host,
		answers_are_renewed_and_the_last_good_one_stays,
		the_ttl_counts_where_it_is_asked_for,
		a_logical_cluster_moves_new_connections_only,
		several_names_and_a_plain_address,
		a_swap_in_the_middle_of_a_question,
		rows_are_summed_over_workers,
	};
	start_tests();
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		with_passes(tests[i]);
	arena_trim();
	chain_trim();
	return 0;
}

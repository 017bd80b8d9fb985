/* src/exchange/hold_test.c: an answer held by a filter, and another one in its place; the source
 * and the client are fakes. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "exchange/exch_int.h"
#include "obs/stats.h"
#include <stdio.h>

/* Handed through as it is. */
static char opaque;
#define LOSER ((const struct call_discard *)(const void *)&opaque)

enum plan { RELEASE, REPLACE };
static enum plan plan;
static bool decided; /* the other origin has spoken */
static unsigned resumed, pumped, ended, lost, source_ended;
static char *second; /* what the replacing answer is fed with, in pieces */

static enum verdict h_response(struct exchange *ex, const struct filter_cfg *f)
{
	if (ex->resp.head.status != 404)
		return GO_ON;
	exch_hold_answer(ex, 10);
	return WAIT;
}

static enum verdict h_resume(struct exchange *ex, const struct filter_cfg *f, enum leg_kind leg)
{
	must(leg == LEG_RESPONSE);
	resumed++;
	if (!decided)
		return WAIT;
	if (plan == RELEASE)
		return GO_ON;
	exch_answer_instead(ex, f, LOSER);
	must(head_init(&ex->resp.head, &ex->arena, true, 4) &&
	     head_set_status(&ex->resp.head, 200));
	exch_answer_head(ex, -1);
	return GO_ON;
}

static void h_pump(struct exchange *ex, const struct filter_cfg *f)
{
	struct chain c = {0};
	pumped++;
	if (!*second)
		return;
	must(chain_copy(&c, second, 2));
	second += 2;
	exch_answer_data(ex, &c, !*second, NULL);
	ex->pump_due = true;
}

static void h_end(struct exchange *ex, const struct filter_cfg *f)
{
	ended++;
}

static enum verdict s_request(struct exchange *ex, const struct filter_cfg *f)
{
	return GO_ON;
}
static void s_pump(struct exchange *ex, const struct filter_cfg *f)
{
}
static void s_lose(struct exchange *ex, const struct filter_cfg *f, const struct call_discard *how)
{
	must(how == LOSER);
	lost++;
}
static void s_end(struct exchange *ex, const struct filter_cfg *f)
{
	source_ended++;
}

static const struct filter_type holder = {
	.name = "holder", .response = h_response, .resume = h_resume, .pump = h_pump, .end = h_end};
static const struct filter_type source = {.name = "source",
					  .terminal = true,
					  .request = s_request,
					  .pump = s_pump,
					  .lose = s_lose,
					  .end = s_end};

static unsigned overs;
static bool over_cut;
static void p_nothing(struct exchange *ex)
{
}
static void p_over(struct exchange *ex, bool cut)
{
	overs++;
	over_cut = cut;
}
static const struct exch_port port = {.output = p_nothing, .room = p_nothing, .over = p_over};

static struct loop *loop;
static struct exch_env env;
static struct filter_cfg filters[2];
static struct hcm_stats stats;
static struct route_config routes;
static struct hcm_cfg hcm;
static struct model *model;
static struct exch_peer peer = {.remote = {"127.0.0.1:1", 11}, .local = {"127.0.0.1:2", 11}};

static struct exchange *begin(enum plan what)
{
	plan = what;
	decided = false;
	resumed = pumped = ended = lost = source_ended = overs = 0;
	struct exchange *ex = exch_new(&env, &port, NULL, &peer, model, &hcm);
	must(ex && head_add_id(&ex->req.head, FIELD_AUTHORITY, STR("a")) &&
	     head_add_id(&ex->req.head, FIELD_PATH, STR("/")) &&
	     head_add_id(&ex->req.head, FIELD_METHOD, STR("GET")) &&
	     head_add_id(&ex->req.head, FIELD_SCHEME, STR("http")));
	exch_begin(ex, 0);
	loop_turn(loop, 0);
	must(head_init(&ex->resp.head, &ex->arena, true, 4) &&
	     head_set_status(&ex->resp.head, 404));
	exch_answer_head(ex, -1);
	loop_turn(loop, 0);
	must(!exch_answer_ready(ex) && ex->resp.holding);
	return ex;
}

static void bytes(struct exchange *ex, const char *text, bool end)
{
	struct chain c = {0};
	must(chain_copy(&c, text, strlen(text)));
	exch_answer_data(ex, &c, end, NULL);
	loop_turn(loop, 0);
}

static void decide(struct exchange *ex)
{
	decided = true;
	exch_wake(ex, &filters[0], LEG_RESPONSE);
	loop_turn(loop, 0);
}

static void out_is(struct exchange *ex, const char *text)
{
	char b[64];
	must(ex->resp.out.n == strlen(text));
	chain_read(&ex->resp.out, 0, b, ex->resp.out.n);
	must(memcmp(b, text, ex->resp.out.n) == 0);
}

static void end(struct exchange *ex)
{
	exch_answer_done(ex);
	must(overs == 1 && ended == 1 && source_ended + lost == 1);
	loop_turn(loop, 0);
	must(env.active == 0);
}

static void a_held_answer_has_room_for_so_much_and_goes_on_whole(void)
{
	struct exchange *ex = begin(RELEASE);
	must(exch_answer_room(ex) == 10);
	bytes(ex, "0123456", false);
	must(exch_answer_room(ex) == 3);
	bytes(ex, "789", false);
	must(exch_answer_room(ex) == 0);
	decide(ex);
	must(exch_answer_ready(ex) && !ex->resp.holding && exch_answer_room(ex) > 10);
	bytes(ex, "abc", true);
	out_is(ex, "0123456789abc");
	must(ex->resp.ended && ex->resp.head.status == 404 && pumped == 0);
	end(ex);
	must(lost == 0);
}

static void another_answer_takes_its_place(void)
{
	char pieces[] = "abcdef";
	second = pieces;
	struct exchange *ex = begin(REPLACE);
	bytes(ex, "0123456", false);
	decide(ex);
	loop_turn(loop, 0);
	must(exch_answer_ready(ex) && ex->resp.head.status == 200 && lost == 1 &&
	     source_ended == 0);
	out_is(ex, "abcdef");
	must(ex->resp.ended);
	end(ex);
}

static void a_source_that_breaks_off_while_held_does_not_end_the_exchange(void)
{
	char pieces[] = "abcdef";
	for (int replace = 0; replace < 2; replace++) {
		second = pieces;
		struct exchange *ex = begin(replace ? REPLACE : RELEASE);
		bytes(ex, "0123", false);
		exch_answer_broken(ex, FAILED_TERMINATED);
		loop_turn(loop, 0);
		must(resumed == 1 && ex->resp.broke == FAILED_TERMINATED &&
		     !exch_answer_ready(ex) && !ex->cut && source_ended == 1);
		decide(ex);
		loop_turn(loop, 0);
		must(exch_answer_ready(ex));
		out_is(ex, replace ? "abcdef" : "0123");
		must(ex->resp.ended == replace);
		exch_answer_done(ex);
		must(overs == 1 && ended == 1 && source_ended == 1);
		loop_turn(loop, 0);
	}
}

static void a_client_may_leave_while_it_is_held(void)
{
	struct exchange *ex = begin(RELEASE);
	bytes(ex, "0123", false);
	exch_client_gone(ex);
	must(overs == 1 && ended == 1 && source_ended == 1);
	loop_turn(loop, 0);
	must(env.active == 0);
}

static bool left;
static void leave(struct exch_guest *g)
{
	exch_guest_remove(g);
	left = true;
}

int main(void)
{
	static struct exch_guest one = {.leave = leave}, two = {.leave = leave};
	hash_seed();
	loop = loop_new(0);
	model = model_new();
	must(loop && model);
	env = (struct exch_env){.loop = loop, .workers = 1};
	for (unsigned i = 0; i < 2; i++)
		filters[i] =
			(struct filter_cfg){.type = i ? &source : &holder, .index = i, .hcm = &hcm};
	hcm = (struct hcm_cfg){.filters = filters,
			       .nfilters = 2,
			       .routes = &routes,
			       .stats = &stats,
			       .server_name = STR("postern"),
			       .limits = h1_default_limits,
			       .stream_idle_timeout_us = 1000000};
	a_held_answer_has_room_for_so_much_and_goes_on_whole();
	another_answer_takes_its_place();
	a_source_that_breaks_off_while_held_does_not_end_the_exchange();
	a_client_may_leave_while_it_is_held();
	exch_guest_add(&env, &one);
	exch_guest_add(&env, &two);
	exch_guest_remove(&two);
	exch_env_fini(&env);
	must(left && !env.guests);
	model_unref(model);
	loop_free(loop);
	arena_trim();
	chain_trim();
	return 0;
}

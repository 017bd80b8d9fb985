/* src/exchange/exchange_test.c: heads and bodies past filters, without sockets; the terminal
 * filter and the client are fakes. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "exchange/exch_int.h"
#include <stdio.h>

enum mode { PASS, STOP, GATHER, WATCH, WATCH_STOP, ANSWER };
struct fake {
	enum mode request, response;
	unsigned heads, bodies, resumes, ends;
	char seen[256];
	bool saw_end;
	const char *replace;
};
static struct fake fakes[3];
static struct fake *fake_of(const struct filter_cfg *f)
{
	return &fakes[f->index];
}

static enum verdict head(struct exchange *ex, const struct filter_cfg *f, enum leg_kind k)
{
	struct fake *x = fake_of(f);
	x->heads++;
	switch (k == LEG_REQUEST ? x->request : x->response) {
	case PASS: return GO_ON;
	case STOP: return WAIT;
	case GATHER: exch_gather(ex, k, 100); return WAIT;
	case WATCH:
	case WATCH_STOP: exch_watch_body(ex, f, k); return GO_ON;
	case ANSWER: exch_reply(ex, 403, STR("no"), "test", ""); return ANSWERED;
	}
	return GO_ON;
}
static enum verdict on_request(struct exchange *ex, const struct filter_cfg *f)
{
	return head(ex, f, LEG_REQUEST);
}
static enum verdict on_response(struct exchange *ex, const struct filter_cfg *f)
{
	return head(ex, f, LEG_RESPONSE);
}
static enum verdict on_resume(struct exchange *ex, const struct filter_cfg *f, enum leg_kind k)
{
	struct fake *x = fake_of(f);
	x->resumes++;
	enum mode m = k == LEG_REQUEST ? x->request : x->response;
	if (m == GATHER) {
		struct chain *held = exch_held(ex, k);
		must(exch_gathered(ex, k));
		must(held->n < sizeof x->seen);
		chain_read(held, 0, x->seen, held->n);
		x->seen[held->n] = 0;
		if (x->replace) {
			struct chain c = {0};
			must(chain_copy(&c, x->replace, strlen(x->replace)));
			exch_replace_body(ex, k, &c);
		}
	}
	return GO_ON;
}
static enum verdict on_body(struct exchange *ex, const struct filter_cfg *f, enum leg_kind k,
			    struct chain *batch, bool end)
{
	struct fake *x = fake_of(f);
	size_t n = strlen(x->seen);
	x->bodies++;
	must(n + batch->n < sizeof x->seen);
	chain_read(batch, 0, x->seen + n, batch->n);
	x->seen[n + batch->n] = 0;
	x->saw_end |= end;
	return (k == LEG_REQUEST ? x->request : x->response) == WATCH_STOP ? WAIT : GO_ON;
}
static void on_end(struct exchange *ex, const struct filter_cfg *f)
{
	fake_of(f)->ends++;
}

static char sent[256];
static bool sent_end;
static enum verdict t_request(struct exchange *ex, const struct filter_cfg *f)
{
	fakes[2].heads++;
	return GO_ON;
}
static void t_pump(struct exchange *ex, const struct filter_cfg *f)
{
	size_t n = strlen(sent);
	chain_read(&ex->req.out, 0, sent + n, ex->req.out.n);
	sent[n + ex->req.out.n] = 0;
	chain_clear(&ex->req.out);
	sent_end = ex->req.ended;
}

static const struct filter_type plain = {.name = "plain",
					 .request = on_request,
					 .response = on_response,
					 .resume = on_resume,
					 .body = on_body,
					 .end = on_end};
static const struct filter_type terminal = {
	.name = "terminal", .terminal = true, .request = t_request, .pump = t_pump, .end = on_end};

static unsigned outputs, overs;
static bool over_cut;
static void p_output(struct exchange *ex)
{
	outputs++;
}
static void p_room(struct exchange *ex)
{
}
static void p_over(struct exchange *ex, bool cut)
{
	overs++;
	over_cut = cut;
}
static const struct exch_port port = {.output = p_output, .room = p_room, .over = p_over};

static struct loop *loop;
static struct exch_env env;
static struct filter_cfg filters[3];
static struct hcm_stats stats;
static struct route_config routes;
static struct hcm_cfg hcm;
static struct model *model;
static struct exch_peer peer = {.remote = {"127.0.0.1:1", 11}, .local = {"127.0.0.1:2", 11}};

static struct exchange *begin(int64_t size)
{
	memset(sent, 0, sizeof sent);
	sent_end = false;
	outputs = overs = 0;
	over_cut = false;
	struct exchange *ex = exch_new(&env, &port, NULL, &peer, model, &hcm);
	must(ex);
	must(head_add_id(&ex->req.head, FIELD_AUTHORITY, STR("a.example")));
	must(head_add_id(&ex->req.head, FIELD_PATH, STR("/x?y=1")));
	must(head_add_id(&ex->req.head, FIELD_METHOD, STR("POST")));
	must(head_add_id(&ex->req.head, FIELD_SCHEME, STR("http")));
	exch_begin(ex, size);
	return ex;
}

static void give(struct exchange *ex, const char *text, bool end)
{
	struct chain c = {0};
	must(chain_copy(&c, text, strlen(text)));
	exch_request_data(ex, &c, end, NULL);
	loop_turn(loop, 0);
}

static void answer(struct exchange *ex, const char *text, bool end)
{
	struct chain c = {0};
	if (!ex->resp.begun) {
		must(head_init(&ex->resp.head, &ex->arena, true, 4) &&
		     head_set_status(&ex->resp.head, 200));
		exch_answer_head(ex, -1);
	}
	must(chain_copy(&c, text, strlen(text)));
	exch_answer_data(ex, &c, end, NULL);
	loop_turn(loop, 0);
}

static void out_is(struct exchange *ex, const char *text)
{
	char b[256];
	must(ex->resp.out.n < sizeof b);
	chain_read(&ex->resp.out, 0, b, ex->resp.out.n);
	b[ex->resp.out.n] = 0;
	if (strcmp(b, text)) {
		fprintf(stderr, "out is \"%s\", not \"%s\"\n", b, text);
		must(!"as expected");
	}
}

static void set(enum mode a, enum mode b, enum mode ra, enum mode rb)
{
	memset(fakes, 0, sizeof fakes);
	fakes[0].request = a;
	fakes[1].request = b;
	fakes[0].response = ra;
	fakes[1].response = rb;
}

static void end(struct exchange *ex)
{
	uint64_t number = ex->number;
	exch_answer_done(ex);
	must(overs == 1);
	must(exch_find(&env, number) == NULL);
	loop_turn(loop, 0);
	must(env.active == 0);
}

static void bodies_flow(void)
{
	set(PASS, PASS, PASS, PASS);
	struct exchange *ex = begin(-1);
	loop_turn(loop, 0);
	must(fakes[2].heads == 1);
	give(ex, "abc", false);
	give(ex, "def", true);
	must(!strcmp(sent, "abcdef") && sent_end);
	answer(ex, "hello", false);
	must(exch_answer_ready(ex) && outputs);
	answer(ex, " you", true);
	out_is(ex, "hello you");
	must(ex->resp.ended && leg_framing(&ex->resp) == -1);
	end(ex);
	must(fakes[0].ends == 1);
}

static void a_stopped_head_holds_the_body(void)
{
	set(PASS, STOP, PASS, PASS);
	struct exchange *ex = begin(6);
	give(ex, "abcdef", true);
	must(fakes[2].heads == 0 && !*sent && ex->req.held.n == 6);
	exch_wake(ex, &filters[1], LEG_REQUEST);
	loop_turn(loop, 0);
	must(fakes[1].resumes == 1 && fakes[2].heads == 1 && !strcmp(sent, "abcdef") && sent_end);
	exch_client_gone(ex);
	must(overs == 1 && fakes[0].ends == 1 && fakes[1].ends == 1);
	loop_turn(loop, 0);
}

static void gathering_waits_for_the_end_and_may_replace(void)
{
	set(GATHER, WATCH, PASS, PASS);
	fakes[0].replace = "new";
	struct exchange *ex = begin(-1);
	give(ex, "abc", false);
	must(fakes[1].heads == 0);
	give(ex, "d", true);
	must(!strcmp(fakes[0].seen, "abcd"));
	must(!strcmp(fakes[1].seen, "new") && fakes[1].saw_end);
	must(!strcmp(sent, "new") && sent_end && leg_framing(&ex->req) == 3);
	exch_client_gone(ex);
	loop_turn(loop, 0);
}

static void over_the_gather_limit_is_413(void)
{
	char big[120];
	set(GATHER, PASS, PASS, PASS);
	struct exchange *ex = begin(-1);
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = 0;
	give(ex, big, false);
	must(exch_answer_ready(ex) && ex->resp.head.status == 413);
	/* only its response hook ran */
	must(fakes[0].resumes == 0 && fakes[1].heads == 1 && fakes[2].heads == 0);
	out_is(ex, "Payload Too Large");
	end(ex);
}

static void over_the_gather_limit_of_an_answer_is_500(void)
{
	char big[120];
	set(PASS, PASS, GATHER, PASS);
	struct exchange *ex = begin(0);
	loop_turn(loop, 0);
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = 0;
	answer(ex, big, false);
	must(exch_answer_ready(ex) && ex->resp.head.status == 500 && ex->resp.ended);
	out_is(ex, "Internal Server Error");
	end(ex);
}

static void a_watcher_may_stop_a_piece(void)
{
	set(WATCH_STOP, PASS, PASS, PASS);
	struct exchange *ex = begin(-1);
	give(ex, "ab", false);
	must(!*sent && fakes[0].bodies == 1 && fakes[2].heads == 1);
	give(ex, "cd", false);
	must(fakes[0].bodies == 1 && ex->req.in.n == 2);
	exch_wake(ex, &filters[0], LEG_REQUEST);
	loop_turn(loop, 0);
	must(!strcmp(sent, "ab") && fakes[0].bodies == 2);
	exch_wake(ex, &filters[0], LEG_REQUEST);
	loop_turn(loop, 0);
	must(!strcmp(sent, "abcd"));
	give(ex, "", true);
	must(fakes[0].saw_end && !sent_end);
	exch_wake(ex, &filters[0], LEG_REQUEST);
	loop_turn(loop, 0);
	must(sent_end);
	exch_client_gone(ex);
	loop_turn(loop, 0);
}

static void replies_pass_all_response_filters(void)
{
	set(ANSWER, PASS, PASS, PASS);
	struct exchange *ex = begin(0);
	loop_turn(loop, 0);
	must(exch_answer_ready(ex) && ex->resp.head.status == 403);
	must(fakes[0].heads == 2 && fakes[1].heads == 1 && fakes[2].heads == 0);
	out_is(ex, "no");
	end(ex);
}

static void a_broken_origin_is_a_reply_before_and_a_cut_after_the_head(void)
{
	set(PASS, PASS, GATHER, PASS);
	struct exchange *ex = begin(0);
	loop_turn(loop, 0);
	answer(ex, "part", false);
	must(!exch_answer_ready(ex));
	exch_answer_broken(ex, FAILED_TERMINATED);
	loop_turn(loop, 0);
	must(exch_answer_ready(ex) && ex->resp.head.status == 503 && !ex->cut);
	end(ex);

	set(PASS, PASS, PASS, PASS);
	ex = begin(0);
	loop_turn(loop, 0);
	answer(ex, "part", false);
	must(exch_answer_ready(ex));
	ex->head_sent = true;
	exch_answer_broken(ex, FAILED_TERMINATED);
	loop_turn(loop, 0);
	must(ex->cut && !ex->resp.ended);
	end(ex);
	must(over_cut);
}

static void a_refused_head_never_meets_a_filter(void)
{
	set(PASS, PASS, PASS, PASS);
	struct exchange *ex = exch_new(&env, &port, NULL, &peer, model, &hcm);
	overs = 0;
	exch_refuse(ex, 431, "http1.too_large");
	loop_turn(loop, 0);
	must(exch_answer_ready(ex) && ex->resp.head.status == 431 && fakes[0].heads == 0 &&
	     ex->drain_connection);
	end(ex);
	must(fakes[0].ends == 0);
}

int main(void)
{
	hash_seed();
	loop = loop_new(0);
	model = model_new();
	must(loop && model);
	env = (struct exch_env){.loop = loop, .workers = 1};
	for (unsigned i = 0; i < 3; i++)
		filters[i] = (struct filter_cfg){
			.type = i == 2 ? &terminal : &plain, .index = i, .hcm = &hcm};
	hcm = (struct hcm_cfg){.filters = filters,
			       .nfilters = 3,
			       .routes = &routes,
			       .stats = &stats,
			       .server_name = STR("postern"),
			       .limits = h1_default_limits,
			       .stream_idle_timeout_us = 1000000};
	bodies_flow();
	a_stopped_head_holds_the_body();
	gathering_waits_for_the_end_and_may_replace();
	over_the_gather_limit_is_413();
	over_the_gather_limit_of_an_answer_is_500();
	a_watcher_may_stop_a_piece();
	replies_pass_all_response_filters();
	a_broken_origin_is_a_reply_before_and_a_cut_after_the_head();
	a_refused_head_never_meets_a_filter();
	exch_env_fini(&env);
	model_unref(model);
	loop_free(loop);
	arena_trim();
	chain_trim();
	return 0;
}

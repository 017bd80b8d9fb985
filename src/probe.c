/* src/probe.c: oneline_probe. Asks with the calls, names and certificates that visitors' requests will use, in a thread of its own; nothing that
 * is asked changes anything: GET, and POST of nothing to a site that was said to be static, of a path that nobody has. */
#include "base/mem.h"
#include "config/config.h"
#include "oneline.h"
#include "upstream/upstream.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NOWHERE "/.well-known/postern-probe"
#define ANSWER_US 3000000ull
enum { TURN_MS = 50 };

static struct {
	pthread_t thread;
	bool runs;
	atomic_bool stop;
	const struct oneline *o;
	struct model *model;
	struct loop *loop;
	struct upstream *up;
	struct task open; /* the request is sent inside a turn, as every other */
	const struct call_request *rq;
	struct call *call;
} probe;

struct heard {
	unsigned status; /* 0: none */
	bool reached;    /* there was somebody, at least */
	char why[200];
};

/* The name that a visitor would ask for. */
static struct str host_of(const struct oneline *o, const char *url)
{
	struct str rest = str_of(strstr(url, "://") + 3), name;
	if (rest.n && rest.p[rest.n - 1] == '/')
		rest.n--;
	if (memchr(rest.p, '@', rest.n)) {
		str_cut(rest, '@', &name, &rest);
		return name;
	}
	return o->host ? str_of(o->host) : rest;
}

static void nothing(struct call *c)
{
}

static void open_call(struct task *t)
{
	probe.call = call_open(probe.up, probe.rq, nothing, NULL);
}

static void turn(void)
{
	loop_turn(probe.loop, TURN_MS);
}

static void note(struct heard *h, const struct call *c)
{
	const char *text = c->failure_text;
	enum failure_kind f = c->failure;
	h->reached = f != FAILED_CONNECT && f != FAILED_CONNECT_TIMEOUT && f != FAILED_NO_HEALTHY;
	if (c->has_head)
		h->status = c->head->status;
	else
		snprintf(h->why, sizeof h->why, "%s%s%s", failure_infos[f].details,
			 text ? ", " : "", text ? text : "");
}

static struct heard ask(const char *cluster, struct str host, bool tls, const char *method)
{
	struct heard out = {0};
	struct arena a;
	struct head h;
	bool post = strcmp(method, "POST") == 0;
	arena_init(&a, 1 << 20);
	bool ok = head_init(&h, &a, false, 8) && head_add_id(&h, FIELD_AUTHORITY, host) &&
		  head_add_id(&h, FIELD_PATH, STR(NOWHERE)) &&
		  head_add_id(&h, FIELD_METHOD, str_of(method)) &&
		  head_add_id(&h, FIELD_SCHEME, tls ? STR("https") : STR("http")) &&
		  head_add(&h, STR("user-agent"), STR("postern-probe"));
	struct call_request rq = {.model = probe.model,
				  .cluster = cluster_find(probe.model, str_of(cluster)),
				  .head = &h,
				  .arena = &a,
				  .ended = true,
				  .length = post ? 0 : -1,
				  .timeout_us = ANSWER_US,
				  .no_interim = true};
	probe.rq = &rq;
	probe.call = NULL;
	probe.open.run = open_call;
	if (ok && rq.cluster)
		later(probe.loop, PHASE_RUN, &probe.open);
	turn();
	struct call *c = probe.call;
	while (c && !c->has_head && !c->failed && !atomic_load(&probe.stop))
		turn();
	if (c) {
		note(&out, c);
		call_cancel(c);
	}
	turn();
	arena_fini(&a);
	return out;
}

/* False: it will not answer, which was told. */
static bool answers(const char *who, const char *url, const struct heard *h, const char *then)
{
	if (h->status)
		return true;
	if (!atomic_load(&probe.stop))
		fprintf(stderr, "postern: %s %s %s (%s): %s until it does\n", who, url,
			h->reached ? "does not answer as it should" : "cannot be reached", h->why,
			then);
	return false;
}

static void tell(const char *who, unsigned status, const char *what, const char *then)
{
	fprintf(stderr, "postern: %s answers %u to %s: %s\n", who, status, what, then);
}

/* How it answers what it lacks: 404 is as it should be, a redirect hints at a name it does not know, another says what "then" says. */
static void tell_missing(const char *who, unsigned status, struct str host, const char *see,
			 const char *then)
{
	char text[400];
	if (status == 404)
		return;
	if (status >= 300 && status < 400) {
		snprintf(text, sizeof text, "it may want another Host (%.*s was asked for%s)",
			 STR_ARG(host), see);
		then = text;
	}
	tell(who, status, "a path that does not exist", then);
}

static bool is_tls(const char *url)
{
	return strncmp(url, "https", 5) == 0;
}

static void tell_primary(const struct oneline *o)
{
	if (!strstr(o->site, "://"))
		return; /* a folder */
	bool tls = is_tls(o->site);
	struct str host = host_of(o, o->site);
	struct heard get = ask("primary", host, tls, "GET");
	if (!answers("primary", o->site, &get, "visitors get an error"))
		return;
	tell_missing("primary", get.status, host, "",
		     get.status == 403
			     ? "add 403 to trigger (preset: s3_website), or its misses stay 403"
			     : "only 404 asks the fallback");
	if (o->dynamic || !o->nfallbacks)
		return;
	struct heard post = ask("primary", host, tls, "POST");
	if (post.status)
		tell("primary", post.status, "POST",
		     "other methods than GET and HEAD go to the fallback");
}

static void tell_fallback(const struct oneline *o, unsigned i)
{
	char cluster[32];
	const char *url = o->fallbacks[i];
	struct str host = host_of(o, url);
	snprintf(cluster, sizeof cluster, i ? "fallback-%u" : "fallback", i + 1);
	struct heard get = ask(cluster, host, is_tls(url), "GET");
	if (answers("fallback", url, &get,
		    "visitors get the primary's 404 page for what the primary lacks"))
		tell_missing("fallback", get.status, host, "; see host_rewrite",
			     "the primary's 404 page will not be seen");
}

static void *run(void *arg)
{
	for (uint64_t began = loop_now_us(probe.loop); !upstream_warm(probe.up) &&
						       !atomic_load(&probe.stop) &&
						       loop_now_us(probe.loop) < began + ANSWER_US;)
		turn();
	tell_primary(probe.o);
	for (unsigned i = 0; i < probe.o->nfallbacks; i++)
		tell_fallback(probe.o, i);
	upstream_free(probe.up);
	turn();
	model_unref(probe.model);
	loop_free(probe.loop);
	arena_trim();
	chain_trim();
	return NULL;
}

void oneline_probe(const struct oneline *o, const struct config_source *source,
		   const struct filter_type *const *types, unsigned index)
{
	struct diags d;
	if (!o->given || o->no_probe)
		return;
	diags_init(&d);
	probe.o = o;
	probe.model = config_compile(source, types, &d);
	bool ok = probe.model && upstream_prepare(probe.model, &d);
	diags_fini(&d);
	probe.loop = ok ? loop_new(index) : NULL;
	probe.up = probe.loop ? upstream_new(probe.loop, probe.model) : NULL;
	if (probe.up && pthread_create(&probe.thread, NULL, run, NULL) == 0) {
		probe.runs = true;
		return;
	}
	fprintf(stderr, "postern: no means for the probe\n");
	if (probe.up)
		upstream_free(probe.up);
	if (probe.loop)
		loop_free(probe.loop);
	if (probe.model)
		model_unref(probe.model);
}

void oneline_probe_end(void)
{
	if (!probe.runs)
		return;
	atomic_store(&probe.stop, true);
	pthread_join(probe.thread, NULL);
	probe.runs = false;
}

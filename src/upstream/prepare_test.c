/* src/upstream/prepare_test.c: contexts shared by who says the same, names in certificates,
 * names of statistics. */
#include "upstream/prepare.c"
#include "upstream/upstream_test.h"

static struct model *model_with_tls(struct str sni, bool renegotiate, struct str san)
{
	struct model *m = model_with_options();
	struct cluster_cfg *c = cluster_new(m, "a::b", NULL, 0);
	struct tls_cfg *t = arena_zalloc(&m->arena, sizeof *t);
	t->sni = sni;
	t->allow_renegotiation = renegotiate;
	if (san.n) {
		t->sans = arena_zalloc(&m->arena, sizeof *t->sans);
		t->nsans = 1;
		t->sans->kind = SAN_DNS;
		t->sans->match = (struct string_match){.kind = STRING_EXACT,
						       .text = arena_str(&m->arena, san)};
	}
	c->tls = t;
	prepare(m);
	must(t->ctx);
	return m;
}

static struct tls_share *share_of(const struct model *m)
{
	return m->clusters[0]->tls->ctx;
}

static void what_says_the_same_has_the_same_context(void)
{
	struct model *a = model_with_tls(STR("x"), false, STR("s.test"));
	struct model *b =
		model_with_tls(STR("y"), false, STR("s.test")); /* SNI is the connection's */
	struct model *c = model_with_tls(STR("x"), false, STR("t.test"));
	must(share_of(a) == share_of(b) && share_of(a) != share_of(c));
	must(!tls_cfg_same(a->clusters[0]->tls, b->clusters[0]->tls));
	struct tls_share *s = share_of(a);
	model_unref(a);
	must(s->refs == 1 && str_eq(s->cfg.sans[0].match.text, STR("s.test"))); /* its own copy */
	tls_share_ref(s);
	model_unref(b);
	must(shares && s->refs == 1);
	model_unref(c);
	must(shares == s && !s->next);
	tls_share_unref(s);
	must(!shares);
}

static void names_in_certificates(void)
{
	static const struct {
		int kind;
		const char *want;
		enum tls_san_kind has;
		const char *value;
		bool ok;
	} rows[] = {
		{SAN_DNS, "www.test", TLS_SAN_DNS, "www.test", true},
		{SAN_DNS, "www.test", TLS_SAN_DNS, "WWW.Test", true},
		{SAN_DNS, "www.test", TLS_SAN_DNS, "*.test", true},
		{SAN_DNS, "a.www.test", TLS_SAN_DNS, "*.test", false},
		{SAN_DNS, "www.test", TLS_SAN_DNS, "w*.test", false},
		{SAN_DNS, ".test", TLS_SAN_DNS, "*.test", false},
		{SAN_DNS, "test", TLS_SAN_DNS, "*.test", false},
		{SAN_DNS, "www.test", TLS_SAN_URI, "www.test", false},
		{SAN_URI, "spiffe://a", TLS_SAN_URI, "spiffe://a", true},
		{SAN_URI, "spiffe://a", TLS_SAN_URI, "spiffe://b", false},
		{SAN_ANY, "10.0.0.1", TLS_SAN_IP, "10.0.0.1", true},
		{SAN_ANY, "www.test", TLS_SAN_DNS, "*.test", true},
		{SAN_EMAIL, "a@b", TLS_SAN_EMAIL, "a@b", true},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct san_match m = {
			.match = {.kind = STRING_EXACT, .text = str_of(rows[i].want)}};
		*(int *)&m.kind = rows[i].kind;
		struct tls_share s = {.cfg = {.sans = &m, .nsans = 1}};
		must(san_ok(&s, rows[i].has, str_of(rows[i].value)) == rows[i].ok);
	}
}

static bool is_registered(const char *name)
{
	for (stat_id id = 1; id <= stat_count(); id++)
		if (str_eq(stat_describe(id).name, str_of(name)))
			return true;
	return false;
}

static void statistics_have_envoys_names(void)
{
	struct model *m = model_with_options();
	struct cluster_cfg *c = cluster_new(m, "outbound|80||a:b", NULL, 0);
	prepare(m);
	must(is_registered("cluster.outbound|80||a_b.upstream_rq_total"));
	must(is_registered("cluster.outbound|80||a_b.upstream_cx_http1_total"));
	must(is_registered("cluster.outbound|80||a_b.membership_healthy"));
	for (const stat_id *id = &c->stats->rq_total; id < (const stat_id *)(c->stats + 1); id++)
		must(*id); /* none was forgotten */
	must(prepare_code_stat(c, 418) &&
	     is_registered("cluster.outbound|80||a_b.upstream_rq_418"));
	model_unref(m);
}

static void a_context_that_cannot_be_made_is_an_error(void)
{
	struct model *m = model_with_options();
	struct cluster_cfg *c = cluster_new(m, "bad", NULL, 0);
	struct diags d;
	c->tls = arena_zalloc(&m->arena, sizeof *c->tls);
	c->tls->has_ca = true;
	c->tls->ca.content = STR("no certificate");
	diags_init(&d);
	must(!upstream_prepare(m, &d) && d.errors == 1);
	diags_fini(&d);
	must(!shares);
	model_unref(m);
}

int main(void)
{
	start_tests();
	what_says_the_same_has_the_same_context();
	names_in_certificates();
	statistics_have_envoys_names();
	a_context_that_cannot_be_made_is_an_error();
	arena_trim();
	return 0;
}

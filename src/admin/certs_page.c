/* src/admin/certs_page.c: /certs, in the shape of envoy.admin.v3.Certificates. */
#include "admin/admin_int.h"
#include <limits.h>
#include <time.h>

/* What the certificates of one file may say, in memory. */
enum { FACTS_MOST = 8 * 1024 * 1024 };

static void json_seconds(struct page *p, const char *key, int64_t at)
{
	char b[40] = "";
	struct tm tm;
	time_t t = (time_t)at;
	if (gmtime_r(&t, &tm))
		strftime(b, sizeof b, "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_string(p, key, str_of(b));
}

static void names_json(struct page *p, const char *kind, const struct str *names, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		json_open(p, NULL, '{');
		json_string(p, kind, names[i]);
		json_close(p);
	}
}

static void facts_json(struct page *p, const struct source *from, const struct cert_facts *f,
		       int64_t now)
{
	json_open(p, NULL, '{');
	json_string(p, "path", from->path.p ? from->path : STR("<inline>"));
	json_string(p, "serial_number", f->serial);
	json_open(p, "subject_alt_names", '[');
	names_json(p, "dns", f->dns, f->ndns);
	names_json(p, "uri", f->uris, f->nuris);
	names_json(p, "ip_address", f->ips, f->nips);
	json_close(p);
	json_quoted(p, "days_until_expiration",
		    f->not_after > now ? (uint64_t)(f->not_after - now) / 86400 : 0);
	json_seconds(p, "valid_from", f->not_before);
	json_seconds(p, "expiration_time", f->not_after);
	json_close(p);
}

/* The first `most` certificates of a file. */
static void source_json(struct page *p, const struct source *from, unsigned most, int64_t now)
{
	struct arena a;
	struct cert_facts *facts = NULL;
	if (!admin_hooks.certs)
		return;
	arena_init(&a, FACTS_MOST);
	unsigned n = admin_hooks.certs(from->content, &a, &facts);
	p->failed |= a.over;
	for (unsigned i = 0; i < n && i < most; i++)
		facts_json(p, from, &facts[i], now);
	arena_fini(&a);
}

static void tls_json(struct page *p, const struct tls_cfg *t, int64_t now)
{
	if (!t)
		return;
	json_open(p, NULL, '{');
	json_open(p, "ca_cert", '[');
	if (t->has_ca)
		source_json(p, &t->ca, UINT_MAX, now);
	json_close(p);
	json_open(p, "cert_chain", '[');
	for (unsigned i = 0; i < t->ncerts; i++)
		source_json(p, &t->certs[i].chain, 1, now); /* without issuers, as Envoy */
	json_close(p);
	json_close(p);
}

void certs_page(struct page *p, const struct model *m, int64_t now)
{
	json_open(p, NULL, '{');
	json_open(p, "certificates", '[');
	for (unsigned i = 0; i < m->nlisteners; i++) {
		for (unsigned k = 0; k < m->listeners[i]->nchains; k++)
			tls_json(p, m->listeners[i]->chains[k].tls, now);
		if (m->listeners[i]->fallback)
			tls_json(p, m->listeners[i]->fallback->tls, now);
	}
	for (unsigned i = 0; i < m->nclusters; i++)
		tls_json(p, m->clusters[i]->tls, now);
	json_close(p);
	json_close(p);
}

/* src/admin/stats_page.c: /stats in its forms. */
#include "admin/admin_int.h"
#include "base/mem.h"
#include "model/regex.h"
#include <stdio.h>
#include <stdlib.h>

struct row {
	struct str name;
	stat_id id; /* 0: extra */
	enum stat_kind kind;
	uint64_t value;
	char *prom, *labels; /* Prometheus */
};
struct rows {
	struct row *at;
	size_t n;
};

static const double quantiles[] = {0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100};
enum { QUANTILES = sizeof quantiles / sizeof *quantiles };

/* The expression may match anywhere in the name. NULL and err when it is none. */
static struct regex *anywhere(struct str filter, char *err, size_t cap)
{
	char why[256];
	struct regex *alone = regex_new(filter, why, sizeof why);
	if (!alone) {
		snprintf(err, cap, "Invalid re2 regex: %s", why);
		return NULL;
	}
	regex_free(alone);
	size_t n = filter.n + 16;
	char *z = mem_alloc(MEM_OTHER, n);
	if (!z)
		return NULL;
	snprintf(z, n, "(?s).*(?:%.*s).*", STR_ARG(filter));
	struct regex *r = regex_new(str_of(z), why, sizeof why);
	mem_free(MEM_OTHER, z);
	if (!r)
		snprintf(err, cap, "Invalid re2 regex: %s", why);
	return r;
}

static int by_name(const void *x, const void *y)
{
	const struct row *a = x, *b = y;
	bool ha = a->kind == STAT_HISTOGRAM, hb = b->kind == STAT_HISTOGRAM;
	return ha != hb ? (int)ha - (int)hb : str_cmp(a->name, b->name);
}

static bool keep(struct rows *rows, const struct row *r, const struct regex *filter, bool used_only)
{
	if (filter && !regex_full_match(filter, r->name))
		return false;
	if (used_only && r->id && r->kind != STAT_HISTOGRAM && !r->value)
		return false;
	rows->at[rows->n++] = *r;
	return true;
}

static bool used_histogram(stat_id id)
{
	struct stat_summary s;
	stat_read_histogram(id, &s);
	return s.count != 0;
}

static void collect(struct rows *rows, uint32_t count, const struct regex *filter, bool used_only,
		    const struct stats_extra *extra, unsigned nextra)
{
	for (uint32_t id = 1; id <= count; id++) {
		struct stat_info info = stat_describe(id);
		struct row r = {.name = info.name, .id = id, .kind = info.kind};
		if (filter && !regex_full_match(filter, r.name))
			continue;
		r.value = r.kind == STAT_HISTOGRAM ? 0 : stat_read(id);
		if (used_only && r.kind == STAT_HISTOGRAM && !used_histogram(id))
			continue;
		keep(rows, &r, NULL, used_only);
	}
	for (unsigned i = 0; i < nextra; i++) {
		struct row r = {
			.name = str_of(extra[i].name), .kind = STAT_GAUGE, .value = extra[i].value};
		keep(rows, &r, filter, used_only);
	}
	if (rows->n)
		qsort(rows->at, rows->n, sizeof *rows->at, by_name);
}

/* Gauges are differences of what threads added and took: shown as the signed number they are. */
static void put_value(struct page *p, const struct row *r)
{
	if (r->kind == STAT_GAUGE && r->id)
		page_addf(p, "%lld", (long long)r->value);
	else
		page_addf(p, "%llu", (unsigned long long)r->value);
}

static void text(struct page *p, const struct rows *rows)
{
	for (size_t i = 0; i < rows->n; i++) {
		const struct row *r = &rows->at[i];
		page_add(p, r->name);
		page_add(p, STR(": "));
		if (r->kind != STAT_HISTOGRAM) {
			put_value(p, r);
			page_add(p, STR("\n"));
			continue;
		}
		struct stat_summary s;
		stat_read_histogram(r->id, &s);
		if (!s.count)
			page_add(p, STR("No recorded values"));
		for (int q = 0; s.count && q < QUANTILES;
		     q++) /* Envoy's pairs are (interval,cumulative); here there are no intervals */
			page_addf(p, "%sP%g(nan,%.6g)", q ? " " : "", quantiles[q], s.p[q]);
		page_add(p, STR("\n"));
	}
}

static void json_histograms(struct page *p, const struct rows *rows, size_t from)
{
	json_open(p, NULL, '{');
	json_open(p, "histograms", '{');
	json_open(p, "supported_quantiles", '[');
	for (int q = 0; q < QUANTILES; q++) {
		char b[16];
		snprintf(b, sizeof b, "%g", quantiles[q]);
		json_field(p, NULL, b);
	}
	json_close(p);
	json_open(p, "computed_quantiles", '[');
	for (size_t i = from; i < rows->n; i++) {
		struct stat_summary s;
		stat_read_histogram(rows->at[i].id, &s);
		json_open(p, NULL, '{');
		json_string(p, "name", rows->at[i].name);
		json_open(p, "values", '[');
		for (int q = 0; q < QUANTILES; q++) {
			char b[32];
			snprintf(b, sizeof b, "%.6g", s.p[q]);
			json_open(p, NULL, '{');
			json_field(p, "cumulative", s.count ? b : "null");
			json_field(p, "interval", "null");
			json_close(p);
		}
		json_close(p);
		json_close(p);
	}
	json_close(p);
	json_close(p);
	json_close(p);
}

static void json(struct page *p, const struct rows *rows)
{
	size_t i = 0;
	p->compact = true;
	json_open(p, NULL, '{');
	json_open(p, "stats", '[');
	for (; i < rows->n && rows->at[i].kind != STAT_HISTOGRAM; i++) {
		const struct row *r = &rows->at[i];
		char b[32];
		snprintf(b, sizeof b, r->kind == STAT_GAUGE && r->id ? "%lld" : "%llu",
			 (long long)r->value);
		json_open(p, NULL, '{');
		json_string(p, "name", r->name);
		json_field(p, "value", b);
		json_close(p);
	}
	if (i < rows->n)
		json_histograms(p, rows, i);
	json_close(p);
	json_close(p);
}

/* --- Prometheus --- */

static int by_prom(const void *x, const void *y)
{
	const struct row *a = x, *b = y;
	int c = strcmp(a->prom, b->prom);
	return c ? c : strcmp(a->labels, b->labels);
}

static void prom_histogram(struct page *p, const struct row *r)
{
	/* Envoy's default buckets */
	static const double bounds[] = {0.5,   1,      5,      10,      25,     50,    100,
					250,   500,    1000,   2500,    5000,   10000, 30000,
					60000, 300000, 600000, 1800000, 3600000};
	enum { BOUNDS = sizeof bounds / sizeof *bounds };
	uint64_t counts[BOUNDS], sum, all = stat_read_buckets(r->id, bounds, BOUNDS, counts, &sum);
	const char *comma = *r->labels ? "," : "";
	bool seconds = str_ends(str_of(r->prom), STR("_seconds")); /* kept in ms all the same */
	for (int i = 0; i <= BOUNDS; i++) {
		char le[24] = "+Inf";
		if (i < BOUNDS)
			snprintf(le, sizeof le, "%.10g", seconds ? bounds[i] / 1000 : bounds[i]);
		page_add(p, str_of(r->prom));
		page_add(p, STR("_bucket{"));
		page_add(p, str_of(r->labels));
		page_addf(p, "%sle=\"%s\"} %llu\n", comma, le,
			  (unsigned long long)(i < BOUNDS ? counts[i] : all));
	}
	for (int i = 0; i < 2; i++) {
		page_add(p, str_of(r->prom));
		page_add(p, i ? STR("_count{") : STR("_sum{"));
		page_add(p, str_of(r->labels));
		if (seconds && !i)
			page_addf(p, "} %.10g\n", (double)sum / 1000);
		else
			page_addf(p, "} %llu\n", (unsigned long long)(i ? all : sum));
	}
}

/* Whatever front made of the address. */
static struct str listener_stat_name(const struct listener_cfg *l)
{
	struct stat_info i = stat_describe(l->cx_total);
	const struct str prefix = STR("listener."), suffix = STR(".downstream_cx_total");
	if (l->cx_total && str_starts(i.name, prefix) && str_ends(i.name, suffix) &&
	    i.name.n > prefix.n + suffix.n)
		return (struct str){i.name.p + prefix.n, i.name.n - prefix.n - suffix.n};
	return l->addresses[0].text;
}

static int by_text(const void *x, const void *y)
{
	return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

/* The names of things of this model, as they stand in statistics. Without memory: fewer, and dots
 * in names are misread. */
static void learn(struct prom_known *k, const struct model *m, struct arena *a)
{
	unsigned chains = 1;
	for (unsigned i = 0; i < m->nlisteners; i++)
		chains += m->listeners[i]->nchains + 1;
	k->clusters = arena_alloc(a, (m->nclusters + 1) * sizeof *k->clusters);
	k->listeners = arena_alloc(a, (m->nlisteners + 1) * sizeof *k->listeners);
	k->https = arena_alloc(a, chains * sizeof *k->https);
	if (!k->clusters || !k->listeners || !k->https)
		return;
	for (unsigned i = 0; i < m->nclusters; i++)
		k->clusters[k->nclusters++] = m->clusters[i]->alt_stat_name.n
						      ? m->clusters[i]->alt_stat_name
						      : m->clusters[i]->name;
	for (unsigned i = 0; i < m->nlisteners; i++) {
		const struct listener_cfg *l = m->listeners[i];
		if (l->naddresses)
			k->listeners[k->nlisteners++] = listener_stat_name(l);
		for (unsigned c = 0; c < l->nchains; c++)
			k->https[k->nhttps++] = l->chains[c].hcm->stat_prefix;
		if (l->fallback)
			k->https[k->nhttps++] = l->fallback->hcm->stat_prefix;
	}
	qsort(k->clusters, k->nclusters, sizeof *k->clusters, by_text);
	qsort(k->listeners, k->nlisteners, sizeof *k->listeners, by_text);
	qsort(k->https, k->nhttps, sizeof *k->https, by_text);
}

static void prometheus(struct page *p, struct rows *rows, const struct model *m, struct arena *a)
{
	struct prom_known k = {0};
	learn(&k, m, a);
	for (size_t i = 0; i < rows->n; i++) {
		char name[PROM_NAME], labels[PROM_NAME];
		struct row *r = &rows->at[i];
		prom_name(r->name, &k, name, labels);
		r->prom = arena_strz(a, str_of(name));
		r->labels = arena_strz(a, str_of(labels));
		if (!r->prom || !r->labels) {
			p->failed = true;
			return;
		}
	}
	if (rows->n)
		qsort(rows->at, rows->n, sizeof *rows->at, by_prom);
	for (size_t i = 0; i < rows->n; i++) {
		static const char *const kinds[] = {[STAT_COUNTER] = "counter",
						    [STAT_GAUGE] = "gauge",
						    [STAT_HISTOGRAM] = "histogram"};
		const struct row *r = &rows->at[i];
		if (!i || strcmp(r[-1].prom, r->prom)) {
			page_add(p, STR("# TYPE "));
			page_add(p, str_of(r->prom));
			page_addf(p, " %s\n", kinds[r->kind]);
		}
		if (r->kind == STAT_HISTOGRAM) {
			prom_histogram(p, r);
			continue;
		}
		page_add(p, str_of(r->prom));
		page_add(p, STR("{"));
		page_add(p, str_of(r->labels));
		page_add(p, STR("} "));
		put_value(p, r);
		page_add(p, STR("\n"));
	}
}

bool stats_page(struct page *p, const struct model *m, enum stats_form form, struct str filter,
		bool used_only, const struct stats_extra *extra, unsigned nextra, char *err,
		size_t cap)
{
	uint32_t count = stat_count();
	struct regex *expr = NULL;
	struct rows rows = {0};
	struct arena a;
	*err = 0;
	if (filter.n && !(expr = anywhere(filter, err, cap)))
		return false;
	rows.at = mem_alloc(MEM_OTHER, (count + nextra + 1) * sizeof *rows.at);
	if (!rows.at) {
		regex_free(expr);
		return false;
	}
	collect(&rows, count, expr, used_only, extra, nextra);
	regex_free(expr);
	switch (form) {
	case STATS_TEXT: text(p, &rows); break;
	case STATS_JSON: json(p, &rows); break;
	case STATS_PROMETHEUS:
		arena_init(&a, SIZE_MAX);
		prometheus(p, &rows, m, &a);
		arena_fini(&a);
	}
	mem_free(MEM_OTHER, rows.at);
	return true;
}

/* src/admin/prom.c: statistics' names as Prometheus wants them. */
#include "admin/admin_int.h"
#include <stdio.h>
#include <stdlib.h>

static int by_name(const void *key, const void *row)
{
	return str_cmp(*(const struct str *)key, *(const struct str *)row);
}

/* How much of s, up to a dot, is the name of a thing: the longest known one, else up to the first
 * dot. */
static size_t thing(struct str s, const struct str *known, unsigned n)
{
	size_t first = 0, best = 0;
	for (size_t i = 0; i < s.n; i++) {
		struct str part = {s.p, i};
		if (s.p[i] != '.')
			continue;
		if (!first)
			first = i;
		if (n && bsearch(&part, known, n, sizeof *known, by_name))
			best = i;
	}
	return best ? best : first;
}

struct build {
	char *p;
	size_t n;
};

static void put(struct build *b, char c)
{
	if (b->n + 1 < PROM_NAME)
		b->p[b->n++] = c;
	b->p[b->n] = 0;
}

static void put_name(struct build *b, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  (c >= '0' && c <= '9') || c == '_';
		put(b, ok ? c : '_');
	}
}

static void put_label(struct build *b, const char *name, struct str value)
{
	if (b->n + 2 * value.n + strlen(name) + 8 >
	    PROM_NAME) /* a label in half would break the page */
		return;
	if (b->n)
		put(b, ',');
	for (const char *c = name; *c; c++)
		put(b, *c);
	put(b, '=');
	put(b, '"');
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];
		if (c == '"' || c == '\\' || c == '\n')
			put(b, '\\');
		put(b, c == '\n' ? 'n' : c);
	}
	put(b, '"');
}

/* "…_rq_200", "…_rq_2xx": the code is a label. */
static struct str response_code(struct str s, struct build *labels)
{
	if (s.n < 7 || memcmp(s.p + s.n - 7, "_rq_", 4))
		return s;
	const char *c = s.p + s.n - 3;
	if (c[0] < '1' || c[0] > '5')
		return s;
	if (c[1] == 'x' && c[2] == 'x') {
		put_label(labels, "envoy_response_code_class", (struct str){c, 1});
		return (struct str){s.p, s.n - 3};
	}
	if (c[1] >= '0' && c[1] <= '9' && c[2] >= '0' && c[2] <= '9') {
		put_label(labels, "envoy_response_code", (struct str){c, 3});
		return (struct str){s.p, s.n - 4};
	}
	return s;
}

/* "fallback.POLICY.WHAT": postern's own, as spec/fallback.md 21 names them. False: something
 * else. */
static bool own_name(struct str stat, struct build *n, struct build *l)
{
	static const struct {
		/* label: with value, or with what follows the suffix when it ends in '.' */
		const char *suffix, *name, *label, *value;
	} kinds[] = {
		{".primary_ms", "seconds", "origin", "primary"},
		{".fallback_ms", "seconds", "origin", "fallback"},
		{".losers.", "losers_total", "end", NULL},
		{".hints.", "hints_total", "result", NULL},
		{".shadow.", "shadow_total", "result", NULL},
		{".held_bytes", "held_bytes", NULL, NULL},
		{".spooled_bytes", "spooled_bytes", NULL, NULL},
		{".memory_entries", "memory_entries", NULL, NULL},
		{".inflight", "inflight", NULL, NULL},
		{".loops", "loops_total", NULL, NULL},
		{".responses.", "responses_total", "served", NULL},
	};
	struct str rest = str_from(stat, 9);
	if (!str_starts(stat, STR("fallback.")))
		return false;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct str suffix = str_of(kinds[i].suffix), policy = {rest.p, 0}, tail;
		bool open = suffix.p[suffix.n - 1] == '.';
		if (open) {
			ptrdiff_t at = str_find(rest, suffix);
			if (at < 0)
				continue;
			policy.n = (size_t)at;
		} else if (str_ends(rest, suffix)) {
			policy.n = rest.n - suffix.n;
		} else {
			continue;
		}
		put_name(n, STR("postern_fallback_"));
		put_name(n, str_of(kinds[i].name));
		put_label(l, "policy", policy);
		tail = str_from(rest, policy.n + suffix.n);
		struct str first = tail, code;
		bool has_code = open && str_cut(tail, '.', &first, &code);
		if (kinds[i].label)
			put_label(l, kinds[i].label, open ? first : str_of(kinds[i].value));
		if (has_code)
			put_label(l, "code", code);
		return true;
	}
	return false;
}

void prom_name(struct str stat, const struct prom_known *k, char name[PROM_NAME],
	       char labels[PROM_NAME])
{
	const struct {
		struct str prefix;
		const char *label;
		const struct str *known;
		unsigned n;
	} kinds[] = {
		{STR("cluster."), "envoy_cluster_name", k->clusters, k->nclusters},
		{STR("http."), "envoy_http_conn_manager_prefix", k->https, k->nhttps},
		{STR("listener."), "envoy_listener_address", k->listeners, k->nlisteners},
	};
	struct build n = {name, 0}, l = {labels, 0};
	struct str whole = stat, value = {NULL, 0};
	const char *label = NULL;
	name[0] = labels[0] = 0;
	if (own_name(stat, &n, &l))
		return;
	put_name(&n, STR("envoy_"));
	stat = response_code(stat, &l);
	bool class = stat.n + 3 == whole.n;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		if (!str_starts(stat, kinds[i].prefix))
			continue;
		struct str rest = str_from(stat, kinds[i].prefix.n);
		size_t len = thing(rest, kinds[i].known, kinds[i].n);
		if (len == 0)
			break;
		value = (struct str){rest.p, len};
		label = kinds[i].label;
		put_name(&n, kinds[i].prefix);
		stat = str_from(rest, len + 1);
		break;
	}
	put_name(&n, stat);
	if (class)
		put_name(&n, STR("xx"));
	if (label)
		put_label(&l, label, value);
}

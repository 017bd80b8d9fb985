/* src/upstream/cluster.c
 *
 * Live clusters: which hosts they have now, from the configuration or from DNS, and which of them serve
 * which model.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/must.h"
#include "net/dns.h"
#include "obs/log.h"
#include "upstream/upstream_int.h"
#include <string.h>

enum { SWEEP_US = 1000000, FIRST_RETRY_US = 1000000 };

/* Workers of this process, and everything rows() walks over: clusters, their hosts, hosts'
 * texts. Workers hold it while they change those. */
static pthread_mutex_t rows_lock = PTHREAD_MUTEX_INITIALIZER;
static struct upstream *workers;

/* ---- hosts */

void host_unref(struct host *h)
{
	if (!h || --h->refs)
		return;
	link_out(&h->left);
	mem_free(MEM_OTHER, h);
}

enum { TEXT_MIN = 64 }; /* so that an address can be replaced in place */

static struct host *host_new(struct live *l, const struct host_spec *s)
{
	size_t text = strlen(s->text) + 1, name = s->hostname ? strlen(s->hostname) + 1 : 0;
	size_t room = text < TEXT_MIN ? TEXT_MIN : text;
	struct host *h = mem_zalloc(MEM_OTHER, sizeof *h + room + name);
	if (!h)
		return NULL;
	h->live = l;
	h->refs = 1;
	h->id = ++l->u->host_ids;
	h->weight = s->weight;
	h->priority = s->priority;
	h->healthy = s->healthy;
	h->addr = s->addr;
	h->len = s->len;
	h->text = (char *)(h + 1);
	memcpy(h->text, s->text, text);
	if (name) {
		h->hostname = h->text + room;
		memcpy(h->hostname, s->hostname, name);
	}
	link_init(&h->left);
	link_init(&h->idle);
	link_init(&h->busy);
	link_init(&h->dialing);
	link_init(&h->pending);
	return h;
}

static void host_leave(struct host *h)
{
	h->gone = true;
	link_last(&h->live->left, &h->left);
	pool_close_idle(h);
	host_unref(h);
}

static void count_members(const struct live *l)
{
	if (loop_index(l->u->loop) != 0 || l->retired)
		return; /* a gauge is the sum of all workers; one of them speaks for all */
	unsigned healthy = 0;
	for (unsigned i = 0; i < l->balance.nhosts; i++)
		healthy += l->balance.hosts[i]->healthy;
	stat_set(l->cfg->stats->membership_total, l->balance.nhosts);
	stat_set(l->cfg->stats->membership_healthy, healthy);
}

/* The hosts that specs ask for: those that are there already, with their pools, and new ones. *fresh: how many are new, at the end of
 * the array. False: no memory. */
static bool gather_hosts(struct live *l, const struct host_spec *specs, unsigned n,
			 struct host **out, unsigned *nout)
{
	struct map by_text;
	bool ok = true;
	map_init(&by_text, MEM_OTHER);
	for (unsigned i = 0; ok && i < l->balance.nhosts; i++) {
		struct host *h = l->balance.hosts[i];
		h->mark = false;
		ok = map_put(&by_text, str_of(h->text), h);
	}
	unsigned kept = 0;
	for (unsigned i = 0; ok && i < n; i++) {
		const struct host_spec *s = &specs[i];
		struct host *h = map_get(&by_text, str_of(s->text));
		if (h && h->mark) { /* named twice: as likely as two */
			if (h->priority == s->priority)
				h->weight += s->weight;
			continue;
		}
		if (h) {
			h->weight = s->weight;
			h->priority = s->priority;
			h->healthy = s->healthy;
		} else if (!(h = host_new(l, s)) || !map_put(&by_text, str_of(h->text), h)) {
			host_unref(h);
			ok = false;
			break;
		}
		h->mark = true;
		out[kept++] = h;
	}
	map_fini(&by_text);
	*nout = kept;
	return ok;
}

static bool was_there(const struct live *l, const struct host *h)
{
	/* Ids rise: new hosts are younger than all that were there. */
	uint64_t newest = 0;
	for (unsigned i = 0; i < l->balance.nhosts; i++)
		if (l->balance.hosts[i]->id > newest)
			newest = l->balance.hosts[i]->id;
	return h->id <= newest;
}

/* False: no memory; the hosts are as they were. */
static bool set_hosts(struct live *l, const struct host_spec *specs, unsigned n)
{
	struct host **hosts = mem_alloc(MEM_OTHER, (n ? n : 1) * sizeof(struct host *));
	struct host **old = l->balance.hosts;
	unsigned nold = l->balance.nhosts, kept = 0;
	if (!hosts)
		return false;
	struct host **before = mem_alloc(MEM_OTHER, (nold ? nold : 1) * sizeof(struct host *));
	if (before && nold)
		memcpy(before, old, nold * sizeof(struct host *));
	pthread_mutex_lock(&rows_lock);
	bool ok = before && gather_hosts(l, specs, n, hosts, &kept) &&
		  balance_build(&l->balance, l->cfg, hosts, kept);
	pthread_mutex_unlock(&rows_lock);
	if (ok) {
		for (unsigned i = 0; i < nold; i++)
			if (!before[i]->mark)
				host_leave(before[i]);
		count_members(l);
	} else {
		for (unsigned i = 0; i < kept; i++)
			if (!was_there(l, hosts[i]))
				host_unref(hosts[i]);
	}
	mem_free(MEM_OTHER, hosts);
	mem_free(MEM_OTHER, before);
	return ok;
}

/* ---- DNS */

static void wake_waiting(struct live *l)
{
	while (!link_none(&l->waiting)) {
		struct ucall *c = OWNER_OF(l->waiting.next, struct ucall, link);
		link_out(&c->link);
		call_on_hosts(c);
	}
}

static void spec_of_endpoint(struct host_spec *s, const struct endpoint_cfg *e)
{
	*s = (struct host_spec){.weight = e->weight ? e->weight : 1,
				.priority = e->priority,
				.healthy = !e->unhealthy};
}

/* LOGICAL_DNS: one host whose address new connections go to; those that are there stay (Envoy). */
static bool move_logical(struct live *l, const struct host_spec *s)
{
	if (l->cfg->type != CLUSTER_LOGICAL_DNS || l->balance.nhosts != 1 ||
	    strlen(s->text) >= TEXT_MIN)
		return false;
	struct host *h = l->balance.hosts[0];
	pthread_mutex_lock(&rows_lock);
	h->addr = s->addr;
	h->len = s->len;
	memcpy(h->text, s->text, strlen(s->text) + 1);
	pthread_mutex_unlock(&rows_lock);
	return true;
}

/* All that is known now: resolved names and plain addresses, in the order of the endpoints. */
static bool hosts_from_names(struct live *l)
{
	const struct cluster_cfg *cfg = l->cfg;
	unsigned n = 0;
	for (unsigned i = 0; i < l->nnames; i++)
		n += l->names[i].endpoint->addr.len ? 1 : l->names[i].n;
	struct host_spec *specs = mem_alloc(MEM_OTHER, (n ? n : 1) * sizeof *specs);
	char(*hostnames)[256] =
		mem_alloc(MEM_OTHER, (l->nnames ? l->nnames : 1) * sizeof *hostnames);
	bool ok = specs && hostnames;
	n = 0;
	for (unsigned i = 0; ok && i < l->nnames; i++) {
		const struct name *nm = &l->names[i];
		const struct endpoint_cfg *e = nm->endpoint;
		struct str host = e->hostname.n ? e->hostname : e->addr.name;
		size_t len = host.n < 255 ? host.n : 255;
		memcpy(hostnames[i], host.p ? host.p : "", len);
		hostnames[i][len] = 0;
		for (unsigned k = 0; k < nm->n; k++) {
			if (cfg->type == CLUSTER_LOGICAL_DNS && n)
				break;
			specs[n] = nm->specs[k];
			specs[n].weight = e->weight ? e->weight : 1;
			specs[n].priority = e->priority;
			specs[n].healthy = !e->unhealthy;
			specs[n].hostname = hostnames[i];
			n++;
		}
	}
	if (ok && !(n == 1 && move_logical(l, &specs[0])))
		ok = set_hosts(l, specs, n);
	mem_free(MEM_OTHER, specs);
	mem_free(MEM_OTHER, hostnames);
	return ok;
}

static void ask(struct name *nm);

static void on_refresh(struct timer *t)
{
	ask(OWNER_OF(t, struct name, timer));
}

static void free_specs(struct name *nm)
{
	for (unsigned i = 0; i < nm->n; i++)
		mem_free(MEM_OTHER, (char *)(uintptr_t)nm->specs[i].text);
	mem_free(MEM_OTHER, nm->specs);
	nm->specs = NULL;
	nm->n = 0;
}

/* Takes over the addresses of an answer. False: no memory, the last answer stays. */
static bool keep_answer(struct name *nm, const struct dns_answer *a)
{
	struct name fresh = {.specs = mem_zalloc(MEM_OTHER, a->n * sizeof *fresh.specs)};
	if (!fresh.specs)
		return false;
	for (unsigned i = 0; i < a->n; i++) {
		struct host_spec *s = &fresh.specs[i];
		char text[64];
		uint16_t port = htons(nm->endpoint->addr.port);
		memcpy(&s->addr, &a->at[i].sa, a->at[i].len);
		s->len = a->at[i].len;
		if (s->addr.sa.sa_family == AF_INET6)
			s->addr.in6.sin6_port = port;
		else
			s->addr.in4.sin_port = port;
		s->text = mem_strndup(MEM_OTHER, text, sock_name_text(&s->addr.sa, text));
		fresh.n = i + 1;
		if (!s->text) {
			free_specs(&fresh);
			return false;
		}
	}
	free_specs(nm);
	nm->specs = fresh.specs;
	nm->n = fresh.n;
	return true;
}

static void on_answer(void *arg, const struct dns_answer *a)
{
	struct name *nm = arg;
	struct live *l = nm->live;
	const struct cluster_cfg *cfg = l->cfg;
	bool speaks = loop_index(l->u->loop) == 0;
	uint64_t again = cfg->dns_refresh_us ? cfg->dns_refresh_us : 5000000;
	nm->query = NULL;
	if (a->ok && a->n && keep_answer(nm, a)) {
		if (cfg->respect_dns_ttl && a->ttl_s)
			again = (uint64_t)a->ttl_s * 1000000;
		if (speaks)
			stat_add(cfg->stats->update_success, 1);
	} else {
		if (speaks)
			stat_add(cfg->stats->update_failure, 1);
		log_limited(LOG_UPSTREAM, LOG_WARNING, "dns",
			    "cluster %.*s: cannot resolve %.*s: %s%s", STR_ARG(cfg->name),
			    STR_ARG(nm->endpoint->addr.name), a->why ? a->why : "failed",
			    nm->n ? " (the last answer stays)" : "");
	}
	timer_arm(l->u->loop, &nm->timer, again);
	if (!nm->answered) {
		nm->answered = true;
		l->unanswered--;
	}
	if (!hosts_from_names(l))
		log_limited(LOG_UPSTREAM, LOG_ERROR, "dns-memory",
			    "cluster %.*s: no memory for its hosts", STR_ARG(cfg->name));
	if (!live_waits(l))
		wake_waiting(l);
}

static enum dns_want want_of(enum dns_family f)
{
	switch (f) {
	case DNS_V4_ONLY: return DNS_WANT_V4;
	case DNS_V6_ONLY: return DNS_WANT_V6;
	case DNS_V4_PREFERRED: return DNS_WANT_V4_FIRST;
	case DNS_ALL: return DNS_WANT_ALL;
	case DNS_AUTO:
	default: return DNS_WANT_AUTO;
	}
}

/* "127.0.0.1:53,[::1]:53" of the cluster's own resolvers; NULL: no memory. */
static struct dns *own_resolver(struct live *l)
{
	char text[1024];
	size_t n = 0;
	for (unsigned i = 0; i < l->cfg->nresolvers; i++) {
		struct str s = l->cfg->resolvers[i].text;
		if (n + s.n + 2 > sizeof text)
			break;
		if (n)
			text[n++] = ',';
		memcpy(text + n, s.p, s.n);
		n += s.n;
	}
	text[n] = 0;
	return dns_new(l->u->loop, text);
}

static struct dns *resolver(struct live *l)
{
	if (l->cfg->nresolvers) {
		if (!l->dns)
			l->dns = own_resolver(l);
		return l->dns;
	}
	if (!l->u->dns)
		l->u->dns = dns_new(l->u->loop, NULL);
	return l->u->dns;
}

static void ask(struct name *nm)
{
	struct live *l = nm->live;
	char host[256];
	struct str name = nm->endpoint->addr.name;
	size_t n = name.n < sizeof host ? name.n : sizeof host - 1;
	memcpy(host, name.p, n);
	host[n] = 0;
	if (loop_index(l->u->loop) == 0)
		stat_add(l->cfg->stats->update_attempt, 1);
	struct dns *d = resolver(l);
	nm->query =
		d ? dns_ask(d, host, want_of(l->cfg->family), LIMIT_DNS_US, on_answer, nm) : NULL;
	if (!nm->query)
		timer_arm(l->u->loop, &nm->timer, FIRST_RETRY_US);
}

/* An endpoint with a plain address in a DNS cluster is its own answer. */
static bool plain_answer(struct name *nm)
{
	const struct address *a = &nm->endpoint->addr;
	nm->specs = mem_zalloc(MEM_OTHER, sizeof *nm->specs);
	char *text = mem_strndup(MEM_OTHER, a->text.p, a->text.n);
	if (!nm->specs || !text) {
		mem_free(MEM_OTHER, text);
		return false;
	}
	memcpy(&nm->specs->addr, &a->any,
	       a->len < sizeof nm->specs->addr ? a->len : sizeof nm->specs->addr);
	nm->specs->len = a->len;
	nm->specs->text = text;
	nm->n = 1;
	nm->answered = true;
	nm->live->unanswered--;
	return true;
}

static bool start_dns(struct live *l)
{
	const struct cluster_cfg *cfg = l->cfg;
	unsigned n = cfg->nendpoints;
	if (!n)
		return true;
	l->names = mem_zalloc(MEM_OTHER, n * sizeof *l->names);
	if (!l->names)
		return false;
	l->nnames = l->unanswered = n;
	for (unsigned i = 0; i < n; i++) {
		struct name *nm = &l->names[i];
		nm->live = l;
		nm->endpoint = &cfg->endpoints[i];
		nm->timer.fire = on_refresh;
		if (nm->endpoint->addr.len && !plain_answer(nm))
			return false;
	}
	if (l->unanswered < n && !hosts_from_names(l))
		return false;
	for (unsigned i = 0; i < n; i++)
		if (!l->names[i].answered)
			ask(&l->names[i]);
	return true;
}

static void stop_dns(struct live *l)
{
	for (unsigned i = 0; i < l->nnames; i++) {
		struct name *nm = &l->names[i];
		if (nm->query)
			dns_cancel(nm->query);
		timer_cancel(l->u->loop, &nm->timer);
		free_specs(nm);
	}
	mem_free(MEM_OTHER, l->names);
	l->names = NULL;
	l->nnames = l->unanswered = 0;
	dns_free(l->dns);
	l->dns = NULL;
}

/* ---- static clusters */

static bool hosts_from_config(struct live *l)
{
	const struct cluster_cfg *cfg = l->cfg;
	unsigned n = 0;
	struct arena a;
	arena_init(&a, SIZE_MAX);
	struct host_spec *specs = arena_alloc(&a, (cfg->nendpoints + 1) * sizeof *specs);
	bool ok = specs != NULL;
	for (unsigned i = 0; ok && i < cfg->nendpoints; i++) {
		const struct endpoint_cfg *e = &cfg->endpoints[i];
		if (!e->addr.len || e->addr.len > sizeof specs->addr)
			continue; /* a name in a static cluster: config refuses it */
		spec_of_endpoint(&specs[n], e);
		memcpy(&specs[n].addr, &e->addr.any, e->addr.len);
		specs[n].len = e->addr.len;
		specs[n].text = arena_strz(&a, e->addr.text);
		specs[n].hostname = e->hostname.n ? arena_strz(&a, e->hostname) : NULL;
		ok = specs[n].text && (!e->hostname.n || specs[n].hostname);
		n++;
	}
	ok = ok && set_hosts(l, specs, n);
	arena_fini(&a);
	return ok;
}

/* ---- what is the same */

static bool address_same(const struct address *a, const struct address *b)
{
	return a->len == b->len && a->port == b->port && str_eq(a->name, b->name) &&
	       str_eq(a->text, b->text);
}

static bool addresses_same(const struct address *a, unsigned na, const struct address *b,
			   unsigned nb)
{
	for (unsigned i = 0; i < na && na == nb; i++)
		if (!address_same(&a[i], &b[i]))
			return false;
	return na == nb;
}

static bool endpoints_same(const struct cluster_cfg *a, const struct cluster_cfg *b)
{
	if (a->nendpoints != b->nendpoints)
		return false;
	for (unsigned i = 0; i < a->nendpoints; i++) {
		const struct endpoint_cfg *x = &a->endpoints[i], *y = &b->endpoints[i];
		if (!address_same(&x->addr, &y->addr) || !str_eq(x->hostname, y->hostname) ||
		    x->weight != y->weight || x->priority != y->priority ||
		    x->unhealthy != y->unhealthy)
			return false;
	}
	return true;
}

static bool breakers_same(const struct breaker *a, const struct breaker *b)
{
	return a->max_connections == b->max_connections && a->max_pending == b->max_pending &&
	       a->max_requests == b->max_requests && a->max_retries == b->max_retries &&
	       a->retry_budget_percent == b->retry_budget_percent && a->retry_min == b->retry_min;
}

static bool limits_same(const struct h1_limits *a, const struct h1_limits *b)
{
	return a->head == b->head && a->fields == b->fields && a->name == b->name &&
	       a->chunk_line == b->chunk_line && a->chunk_ext == b->chunk_ext &&
	       a->trailer == b->trailer && a->trailer_fields == b->trailer_fields;
}

/* All but the endpoints: a connection, a pool or a count made under the one serves the other. */
static bool cluster_same(const struct cluster_cfg *a, const struct cluster_cfg *b)
{
	if (a == b)
		return true;
	return str_eq(a->name, b->name) && str_eq(a->alt_stat_name, b->alt_stat_name) &&
	       a->type == b->type && a->lb == b->lb &&
	       a->connect_timeout_us == b->connect_timeout_us &&
	       a->buffer_limit == b->buffer_limit &&
	       breakers_same(&a->breakers[0], &b->breakers[0]) &&
	       breakers_same(&a->breakers[1], &b->breakers[1]) && !a->tls == !b->tls &&
	       (!a->tls || tls_cfg_same(a->tls, b->tls)) && a->family == b->family &&
	       a->dns_refresh_us == b->dns_refresh_us && a->respect_dns_ttl == b->respect_dns_ttl &&
	       addresses_same(a->resolvers, a->nresolvers, b->resolvers, b->nresolvers) &&
	       a->h2 == b->h2 && a->h2_only == b->h2_only &&
	       a->enable_trailers == b->enable_trailers && a->proper_case == b->proper_case &&
	       a->accept_http_10 == b->accept_http_10 && a->idle_timeout_us == b->idle_timeout_us &&
	       a->max_connection_duration_us == b->max_connection_duration_us &&
	       a->max_stream_duration_us == b->max_stream_duration_us &&
	       a->max_requests_per_connection == b->max_requests_per_connection &&
	       limits_same(&a->limits, &b->limits) && a->choice_count == b->choice_count &&
	       a->ring_min == b->ring_min && a->ring_max == b->ring_max &&
	       a->ring_hostname == b->ring_hostname && a->healthy_panic == b->healthy_panic &&
	       a->overprovisioning == b->overprovisioning && a->tcp_keepalive == b->tcp_keepalive &&
	       a->keepalive_probes == b->keepalive_probes &&
	       a->keepalive_time == b->keepalive_time &&
	       a->keepalive_interval == b->keepalive_interval && !a->bind == !b->bind &&
	       (!a->bind || address_same(a->bind, b->bind)) &&
	       (a->type == CLUSTER_STATIC || endpoints_same(a, b));
}

/* ---- live clusters */

static void live_free(struct live *l)
{
	must(link_none(&l->waiting));
	stop_dns(l);
	struct balance gone = l->balance;
	pthread_mutex_lock(&rows_lock);
	link_out(&l->link);
	l->balance = (struct balance){0};
	pthread_mutex_unlock(&rows_lock);
	for (unsigned i = 0; i < gone.nhosts; i++)
		host_leave(gone.hosts[i]);
	balance_fini(&gone);
	/* calls are over: what is left is being dialled for nobody */
	while (!link_none(&l->left)) {
		struct host *h = OWNER_OF(l->left.next, struct host, left);
		h->refs++;
		pool_close_all(h);
		must(h->refs == 1);
		host_unref(h);
	}
	breaker_close(l->use);
	mem_free(MEM_OBS, l->codes);
	if (l->tls)
		tls_share_unref(l->tls);
	mem_free(MEM_OTHER, l);
}

static struct live *live_new(struct upstream *u, const struct cluster_cfg *cfg)
{
	struct live *l = mem_zalloc(MEM_OTHER, sizeof *l);
	if (!l)
		return NULL;
	l->u = u;
	l->cfg = cfg;
	link_init(&l->waiting);
	link_init(&l->left);
	link_init(&l->link);
	if (cfg->tls) {
		l->tls = cfg->tls->ctx;
		must(l->tls); /* upstream_prepare */
		tls_share_ref(l->tls);
	}
	l->use = breaker_open(cfg->name);
	bool ok = l->use && (cfg->type == CLUSTER_STATIC ? hosts_from_config(l) : start_dns(l));
	if (!ok) {
		live_free(l);
		return NULL;
	}
	pthread_mutex_lock(&rows_lock);
	link_first(&u->lives, &l->link);
	pthread_mutex_unlock(&rows_lock);
	return l;
}

/* cfg means the same and lives longer. */
static void live_adopt(struct live *l, const struct cluster_cfg *cfg)
{
	bool moved = cfg->type == CLUSTER_STATIC && !endpoints_same(l->cfg, cfg);
	pthread_mutex_lock(&rows_lock);
	l->cfg = cfg;
	pthread_mutex_unlock(&rows_lock);
	for (unsigned i = 0; i < l->nnames; i++)
		l->names[i].endpoint = &cfg->endpoints[i];
	if (moved && !hosts_from_config(l))
		log_line(LOG_UPSTREAM, LOG_ERROR,
			 "cluster %.*s: no memory for its new endpoints, the old ones stay",
			 STR_ARG(cfg->name));
}

static void live_retire(struct live *l)
{
	pthread_mutex_lock(&rows_lock);
	l->retired = true;
	pthread_mutex_unlock(&rows_lock);
	for (unsigned i = 0; i < l->balance.nhosts; i++)
		pool_close_idle(l->balance.hosts[i]);
}

/* ---- sets */

static struct set *set_new(const struct model *m)
{
	struct set *s = mem_zalloc(MEM_OTHER, sizeof *s);
	if (!s)
		return NULL;
	s->live = mem_zalloc(MEM_OTHER, (m->nclusters ? m->nclusters : 1) * sizeof(struct live *));
	if (!s->live) {
		mem_free(MEM_OTHER, s);
		return NULL;
	}
	s->model = model_ref(m);
	return s;
}

/* The cluster of another set that has l, if any. */
static const struct cluster_cfg *other_cfg(const struct upstream *u, const struct live *l)
{
	for (const struct set *s = u->sets; s; s = s->next) {
		const struct cluster_cfg *cfg = cluster_find(s->model, l->cfg->name);
		if (cfg && s->live[cfg->index] == l)
			return cfg;
	}
	return NULL;
}

/* s is in u->sets no more. */
static void set_free(struct upstream *u, struct set *s)
{
	must(s->users == 0);
	for (unsigned i = 0; i < s->model->nclusters; i++) {
		struct live *l = s->live[i];
		if (!l)
			continue;
		if (--l->refs == 0) {
			live_free(l);
		} else if (l->cfg == s->model->clusters[i]) {
			const struct cluster_cfg *cfg = other_cfg(u, l);
			must(cfg);
			live_adopt(l, cfg);
		}
	}
	mem_free(MEM_OTHER, s->live);
	model_unref(s->model);
	mem_free(MEM_OTHER, s);
}

static void on_sweep(struct timer *t)
{
	struct upstream *u = OWNER_OF(t, struct upstream, sweep);
	for (struct set **at = &u->sets->next, *s; (s = *at);) {
		if (s->users || s->used) {
			s->used = false;
			at = &s->next;
			continue;
		}
		*at = s->next;
		set_free(u, s);
	}
	if (u->sets->next)
		timer_arm(u->loop, &u->sweep, SWEEP_US);
}

struct set *set_for(struct upstream *u, const struct model *m)
{
	struct set *s = u->sets;
	if (__builtin_expect(s->model == m, 1))
		return s;
	while (s && s->model != m)
		s = s->next;
	if (!s) { /* an exchange of a model that was swept away, or of one that is to come */
		s = set_new(m);
		if (!s)
			return NULL;
		s->next = u->sets->next;
		u->sets->next = s;
	}
	s->used = true;
	if (!timer_armed(&u->sweep))
		timer_arm(u->loop, &u->sweep, SWEEP_US);
	return s;
}

struct live *live_for(struct upstream *u, struct set *s, const struct cluster_cfg *cfg)
{
	struct live *l = s->live[cfg->index];
	if (__builtin_expect(l != NULL, 1))
		return l;
	const struct cluster_cfg *now = cluster_find(u->sets->model, cfg->name);
	l = now && now != cfg && cluster_same(now, cfg) ? u->sets->live[now->index] : NULL;
	if (!l) {
		l = live_new(u, cfg);
		if (!l)
			return NULL;
		l->retired = s != u->sets;
	}
	l->refs++;
	s->live[cfg->index] = l;
	return l;
}

/* ---- the worker */

static void on_flush(struct task *t)
{
	OWNER_OF(t, struct upstream, flush)->turn++;
}

/* Fills a set for the current model: what is the same goes on. What has no memory is tried again
 * when it is needed. */
static void fill(struct upstream *u, struct set *s, const struct set *before)
{
	for (unsigned i = 0; i < s->model->nclusters; i++) {
		const struct cluster_cfg *cfg = s->model->clusters[i];
		const struct cluster_cfg *was =
			before ? cluster_find(before->model, cfg->name) : NULL;
		struct live *l = was ? before->live[was->index] : NULL;
		if (l && cluster_same(was, cfg)) {
			live_adopt(l, cfg);
		} else {
			l = live_new(u, cfg);
		}
		if (l) {
			l->refs++;
			s->live[i] = l;
		}
	}
}

struct upstream *upstream_new(struct loop *l, const struct model *m)
{
	struct upstream *u = mem_zalloc(MEM_OTHER, sizeof *u);
	if (!u)
		return NULL;
	u->loop = l;
	u->sweep.fire = on_sweep;
	u->flush.run = on_flush;
	link_init(&u->lives);
	link_init(&u->drains);
	u->sets = set_new(m);
	if (!u->sets) {
		mem_free(MEM_OTHER, u);
		return NULL;
	}
	pthread_mutex_lock(&rows_lock);
	u->next = workers;
	workers = u;
	pthread_mutex_unlock(&rows_lock);
	fill(u, u->sets, NULL);
	return u;
}

void upstream_swap(struct upstream *u, const struct model *m)
{
	struct set *old = u->sets;
	if (old->model == m)
		return;
	struct set *s = set_new(m);
	if (!s) {
		log_line(LOG_UPSTREAM, LOG_ERROR, "no memory for new clusters, the old ones stay");
		return;
	}
	for (struct set **at = &u->sets; *at; at = &(*at)->next) {
		if ((*at)->model != m)
			continue;
		/* An exchange of the new model was faster than the swap: what it made is retired
		 * with its set. */
		struct set *early = *at;
		*at = early->next;
		early->next = NULL;
		s->next = early;
		break;
	}
	struct set *early = s->next;
	s->next = old;
	u->sets = s;
	fill(u, s, old);
	if (early) {
		early->next = u->sets->next;
		u->sets->next = early;
	}
	for (unsigned i = 0; i < old->model->nclusters; i++) {
		struct live *l = old->live[i];
		const struct cluster_cfg *now =
			l ? cluster_find(m, old->model->clusters[i]->name) : NULL;
		if (l && (!now || s->live[now->index] != l))
			live_retire(l);
	}
	old->used = true;
	timer_arm(u->loop, &u->sweep, SWEEP_US);
}

static void close_idle(struct upstream *u)
{
	for (struct link *at = u->lives.next; at != &u->lives; at = at->next) {
		struct live *l = OWNER_OF(at, struct live, link);
		for (unsigned i = 0; i < l->balance.nhosts; i++)
			pool_close_idle(l->balance.hosts[i]);
	}
}

void upstream_drain(struct upstream *u)
{
	u->draining = true;
	close_idle(u);
}

void upstream_pressure(struct upstream *u, unsigned percent)
{
	u->pressure = (uint8_t)percent;
	if (percent >= PRESSURE_LEAN)
		close_idle(u);
}

static void finish(struct upstream *u)
{
	while (u->spare_calls) {
		struct ucall *c = u->spare_calls;
		u->spare_calls = (struct ucall *)(void *)c->link.next;
		timer_cancel(u->loop, &c->timer);
		mem_free(MEM_EXCHANGE, c);
	}
	while (u->spare_origins) {
		struct origin *o = u->spare_origins;
		u->spare_origins = (struct origin *)(void *)o->link.next;
		mem_free(MEM_CONN, o);
	}
	mem_free(MEM_OTHER, u);
}

void upstream_buried(struct upstream *u)
{
	must(u->ngraves > 0);
	if (--u->ngraves == 0 && u->dead)
		finish(u);
}

void upstream_free(struct upstream *u)
{
	if (!u)
		return;
	while (!link_none(&u->drains))
		call_cancel(&OWNER_OF(u->drains.next, struct ucall, link)->pub);
	must(u->ncalls == 0);
	u->draining = true;
	pthread_mutex_lock(&rows_lock);
	struct upstream **at = &workers;
	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	pthread_mutex_unlock(&rows_lock);
	while (u->sets) {
		struct set *s = u->sets;
		u->sets = s->next;
		set_free(u, s);
	}
	must(link_none(&u->lives));
	timer_cancel(u->loop, &u->sweep);
	task_drop(u->loop, &u->flush);
	dns_free(u->dns);
	u->dns = NULL;
	u->dead = true;
	if (u->ngraves == 0)
		finish(u);
}

bool upstream_warm(const struct upstream *u)
{
	for (unsigned i = 0; i < u->sets->model->nclusters; i++)
		if (u->sets->live[i] && u->sets->live[i]->unanswered)
			return false;
	return true;
}

/* ---- rows */

struct rows {
	struct arena arena;
	struct map by_text;
	struct row_item {
		struct row_item *next;
		struct endpoint_row row;
	} * first, **end;
};

static uint64_t seen(const uint64_t *n)
{
	return __atomic_load_n(n, __ATOMIC_RELAXED);
}

static void add_host(struct rows *r, const struct cluster_cfg *cfg, const struct host *h)
{
	struct row_item *it = map_get(&r->by_text, str_of(h->text));
	if (!it) {
		it = arena_zalloc(&r->arena, sizeof *it);
		if (!it)
			return;
		it->row.cluster = cfg;
		strncpy(it->row.address, h->text, sizeof it->row.address - 1);
		if (h->hostname)
			strncpy(it->row.hostname, h->hostname, sizeof it->row.hostname - 1);
		it->row.weight = h->weight;
		it->row.priority = h->priority;
		it->row.healthy = h->healthy;
		struct str key = arena_str(&r->arena, str_of(h->text));
		if (!key.p || !map_put(&r->by_text, key, it))
			return;
		*r->end = it;
		r->end = &it->next;
	}
	struct endpoint_row *row = &it->row;
	row->cx_active += seen(&h->counts.cx_active);
	row->cx_total += seen(&h->counts.cx_total);
	row->cx_connect_fail += seen(&h->counts.cx_connect_fail);
	row->rq_active += seen(&h->counts.rq_active);
	row->rq_total += seen(&h->counts.rq_total);
	row->rq_success += seen(&h->counts.rq_success);
	row->rq_error += seen(&h->counts.rq_error);
	row->rq_timeout += seen(&h->counts.rq_timeout);
}

/* The lock is held. */
static void add_cluster(struct rows *r, const struct cluster_cfg *cfg)
{
	map_init(&r->by_text, MEM_OTHER);
	for (const struct upstream *u = workers; u; u = u->next)
		for (const struct link *at = u->lives.next; at != &u->lives; at = at->next) {
			const struct live *l = OWNER_OF(at, struct live, link);
			if (!str_eq(l->cfg->name, cfg->name) || l->retired)
				continue;
			for (unsigned i = 0; i < l->balance.nhosts; i++)
				add_host(r, cfg, l->balance.hosts[i]);
		}
	map_fini(&r->by_text);
}

void upstream_rows(const struct model *m, void (*row)(void *arg, const struct endpoint_row *r),
		   void *arg)
{
	struct rows r = {0};
	r.end = &r.first;
	arena_init(&r.arena, SIZE_MAX);
	pthread_mutex_lock(&rows_lock);
	for (unsigned i = 0; i < m->nclusters; i++)
		add_cluster(&r, m->clusters[i]);
	pthread_mutex_unlock(&rows_lock);
	for (const struct row_item *it = r.first; it; it = it->next)
		row(arg, &it->row);
	arena_fini(&r.arena);
}

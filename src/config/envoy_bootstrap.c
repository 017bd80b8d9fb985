/* src/config/envoy_bootstrap.c: the bootstrap itself, the admin listener, and what the parts
 * share. */
#include "config/envoy_int.h"
#include "config/options_int.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <stddef.h>

void envoy_no_memory(struct reader *r, const struct doc *at)
{
	diag_add(r->diags, DIAG_ERROR, at, "out of memory");
}

void *envoy_array(struct reader *r, size_t n, size_t size)
{
	void *p = n ? arena_zalloc(r->arena, n * size) : NULL;
	if (n && !p)
		envoy_no_memory(r, NULL);
	return p;
}

const struct doc *envoy_list(const struct doc *d, const char *field)
{
	const struct doc *v = read_field(d, field);
	return v && v->kind == DOC_LIST ? v : NULL;
}

struct str envoy_lower(struct reader *r, const struct doc *d, const char *field)
{
	struct str s = read_str(r, d, field);
	for (size_t i = 0; i < s.n; i++)
		((char *)s.p)[i] =
			(char)tolower((unsigned char)s.p[i]); /* our own copy in the arena */
	return s;
}

bool envoy_ip(struct str text, uint16_t port, struct address *out)
{
	char z[64];
	if (text.n >= sizeof z || memchr(text.p, 0, text.n))
		return false;
	memcpy(z, text.p, text.n);
	z[text.n] = 0;
	*out = (struct address){.port = port};
	if (inet_pton(AF_INET, z, &out->in4.sin_addr) == 1) {
		out->in4.sin_family = AF_INET;
		out->in4.sin_port = htons(port);
		out->len = sizeof out->in4;
		return true;
	}
	if (inet_pton(AF_INET6, z, &out->in6.sin6_addr) != 1)
		return false;
	out->in6.sin6_family = AF_INET6;
	out->in6.sin6_port = htons(port);
	out->len = sizeof out->in6;
	return true;
}

bool envoy_on_free(struct reader *r, void (*fn)(void *), void *arg)
{
	if (model_on_free(r->model, fn, arg))
		return true;
	fn(arg);
	envoy_no_memory(r, NULL);
	return false;
}

const struct filter_type *envoy_filter_type(const struct reader *r, struct str url, bool route)
{
	for (const struct filter_type *const *t = r->types; *t; t++) {
		const char *const *u = route ? (*t)->route_urls : (*t)->type_urls;
		for (; u && *u; u++)
			if (str_eq(url, str_of(*u)))
				return *t;
	}
	return NULL;
}

static void read_node(struct reader *r, const struct doc *root, const struct config_source *src)
{
	const struct doc *node = read_field(root, "node");
	r->model->node_id = src->node_id ? str_of(src->node_id) : read_str(r, node, "id");
	r->model->node_cluster =
		src->node_cluster ? str_of(src->node_cluster) : read_str(r, node, "cluster");
	r->model->node_id = arena_str(r->arena, r->model->node_id);
	r->model->node_cluster = arena_str(r->arena, r->model->node_cluster);
	if (!r->model->node_id.p || !r->model->node_cluster.p)
		envoy_no_memory(r, node);
}

/* --admin: ADDRESS:PORT, [ADDRESS]:PORT, :PORT (loopback) or unix:PATH. */
static bool parse_admin(struct reader *r, struct str text, struct address *out)
{
	uint64_t port;
	if (str_starts(text, STR("unix:"))) {
		struct str path = str_from(text, 5);
		*out = (struct address){0};
		if (path.n == 0 || path.n >= sizeof out->un.sun_path)
			return false;
		out->un.sun_family = AF_UNIX;
		memcpy(out->un.sun_path, path.p, path.n);
		out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
		out->text = arena_str(r->arena, text);
		return out->text.p != NULL;
	}
	const char *colon = memrchr(text.p, ':', text.n);
	if (!colon || !str_u64(str_from(text, (size_t)(colon - text.p) + 1), &port) || port > 65535)
		return false;
	struct str host = {text.p, (size_t)(colon - text.p)};
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (struct str){host.p + 1, host.n - 2};
	else if (host.n == 0 || str_eq(host, STR("localhost")))
		host = STR("127.0.0.1");
	if (!envoy_ip(host, (uint16_t)port, out))
		return false;
	out->text = arena_printf(r->arena, out->sa.sa_family == AF_INET6 ? "[%.*s]:%u" : "%.*s:%u",
				 STR_ARG(host), (unsigned)port);
	return out->text.p != NULL;
}

static void read_admin(struct reader *r, const struct doc *root, const struct config_source *src)
{
	const struct doc *admin = read_field(root, "admin");
	struct address *a = arena_zalloc(r->arena, sizeof *a);
	if (!a) {
		envoy_no_memory(r, admin);
		return;
	}
	if (admin && read_field(admin, "address")) {
		if (read_address(r, admin, "address", false, a))
			r->model->admin = a;
	} else if (src->admin) {
		if (parse_admin(r, str_of(src->admin), a))
			r->model->admin = a;
		else
			diag_at(r->diags, DIAG_ERROR, (struct doc_place){"--admin", 0, 0},
				"\"%s\" is neither ADDRESS:PORT nor unix:PATH", src->admin);
	}
}

bool envoy_compile(struct reader *r, const struct doc *root, const struct config_source *src)
{
	const struct doc *resources = read_field(root, "static_resources");
	unsigned before = r->diags->errors;
	options_read(r, root, src->sets, src->nsets, &r->model->options);
	read_node(r, root, src);
	read_admin(r, root, src);
	envoy_clusters(r, envoy_list(resources, "clusters"));
	envoy_listeners(r, envoy_list(resources, "listeners"));
	return r->diags->errors == before;
}

/* ---- the admin listener ---- */

/* One route for everything; the admin filter answers all of it itself. */
static const struct route_config *admin_routes(struct reader *r)
{
	struct route_config *rc = envoy_array(r, 1, sizeof *rc);
	struct vhost *v = envoy_array(r, 1, sizeof *v);
	struct route *route = envoy_array(r, 1, sizeof *route);
	struct route **routes = envoy_array(r, 1, sizeof(struct route *));
	struct vhost **vhosts = envoy_array(r, 1, sizeof(struct vhost *));
	if (!rc || !v || !route || !routes || !vhosts)
		return NULL;
	*route = (struct route){
		.name = STR("admin"), .case_sensitive = true, .action = ACTION_NONE, .vhost = v};
	routes[0] = route;
	*v = (struct vhost){.name = STR("admin"), .routes = routes, .nroutes = 1, .config = rc};
	vhosts[0] = v;
	*rc = (struct route_config){.name = STR("admin"), .vhosts = vhosts, .nvhosts = 1, .any = v};
	return rc;
}

/* access_log, or the one of access_log_path, the old way to say it. */
static void admin_logs(struct reader *r, const struct doc *admin, struct hcm_cfg *h)
{
	struct str path = read_str(r, admin, "access_log_path");
	h->logs = envoy_access_logs(r, envoy_list(admin, "access_log"), &h->nlogs);
	if (h->nlogs || path.n == 0 || str_eq(path, STR("/dev/null")))
		return;
	h->logs = envoy_array(r, 1, sizeof *h->logs);
	if (!h->logs)
		return;
	h->logs->path = path;
	h->logs->format = format_compile(r->arena, r->diags, admin, str_of(format_default_line));
	h->nlogs = h->logs->format != NULL;
}

static struct hcm_cfg *admin_hcm(struct reader *r, const struct filter_type *type)
{
	struct doc *empty = doc_new(r->arena, DOC_MAP, (struct doc_place){"admin", 0, 0});
	struct hcm_cfg *h = envoy_hcm_new(r);
	struct filter_cfg *f = envoy_array(r, 1, sizeof *f);
	const struct doc *admin = read_field(r->model->root, "admin");
	if (!empty || !h || !f)
		return NULL;
	h->is_admin = true;
	h->stat_prefix = STR("admin");
	h->stream_idle_timeout_us = 0; /* a dashboard's stream may be silent */
	h->generate_request_id = false;
	h->routes = admin_routes(r);
	h->filters = f;
	h->nfilters = 1;
	*f = (struct filter_cfg){.type = type, .name = str_of(type->name), .hcm = h};
	struct compile c = {r->arena, r->diags, r->model, h, f->name, &envoy_hooks};
	f->config = type->compile ? type->compile(&c, empty) : NULL;
	if (f->config && type->free_config)
		envoy_on_free(r, type->free_config, f->config);
	admin_logs(r, admin, h);
	return h->routes ? h : NULL;
}

bool model_add_admin_listener(struct model *m, const struct filter_type *const *types,
			      struct diags *diags)
{
	struct reader r = {.arena = &m->arena, .diags = diags, .model = m, .types = types};
	unsigned before = diags->errors;
	const struct filter_type *const *t = types;
	if (!m->admin)
		return true;
	while (*t && !str_eq(str_of((*t)->name), STR("postern.admin")))
		t++;
	if (!*t) {
		diag_at(diags, DIAG_ERROR, (struct doc_place){0}, "this build has no admin filter");
		return false;
	}
	struct listener_cfg *l = envoy_array(&r, 1, sizeof *l);
	struct listener_cfg **all =
		envoy_array(&r, m->nlisteners + 1, sizeof(struct listener_cfg *));
	struct chain_cfg *chain = envoy_array(&r, 1, sizeof *chain);
	struct hcm_cfg *hcm = admin_hcm(&r, *t);
	if (!l || !all || !chain || !hcm || m->arena.over) {
		if (diags->errors == before)
			envoy_no_memory(&r, NULL);
		return false;
	}
	if (diags->errors != before)
		return false;
	*chain = (struct chain_cfg){
		.name = STR("admin"), .hcm = hcm, .handshake_us = LIMIT_HANDSHAKE_US};
	*l = (struct listener_cfg){.name = STR("admin"),
				   .addresses = m->admin,
				   .naddresses = 1,
				   .backlog = 128,
				   .reuse_port = false,
				   .bind_to_port = true,
				   .inspect_timeout_us = LIMIT_HEADERS_US,
				   .chains = chain,
				   .nchains = 1,
				   .is_admin = true};
	if (m->nlisteners)
		memcpy(all, m->listeners, m->nlisteners * sizeof(struct listener_cfg *));
	all[m->nlisteners] = l;
	m->listeners = all;
	m->nlisteners++;
	return true;
}

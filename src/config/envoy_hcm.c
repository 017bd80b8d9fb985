/* src/config/envoy_hcm.c: the HTTP connection manager and its chain of HTTP filters. */
#include "config/envoy_int.h"

#define US 1000000ull

enum {
	WINDOW_MIN = 65535,
	BODY_MAX = 1024 * 1024, /* of a local reply */
	HOPS_MAX = 1000
};

bool envoy_proper_case(const struct doc *http1)
{
	return read_field(read_field(http1, "header_key_format"), "proper_case_words") != NULL;
}

void envoy_common_http(struct reader *r, const struct doc *d, struct envoy_common_http *io)
{
	static const char *const actions[] = {"ALLOW", "REJECT_REQUEST", "DROP_HEADER", NULL};
	if (!d)
		return;
	io->idle_us = read_duration(r, d, "idle_timeout", io->idle_us);
	io->max_connection_us =
		read_duration(r, d, "max_connection_duration", io->max_connection_us);
	io->max_stream_us = read_duration(r, d, "max_stream_duration", io->max_stream_us);
	io->max_requests = (uint32_t)read_uint(r, d, "max_requests_per_connection",
					       io->max_requests, 0, UINT32_MAX);
	io->fields =
		(uint32_t)read_uint(r, d, "max_headers_count", io->fields, 1, LIMIT_FIELDS_HARD);
	io->head_kib = (uint32_t)read_uint(r, d, "max_response_headers_kb", io->head_kib, 1,
					   LIMIT_HEAD_KIB_HARD);
	io->underscores =
		read_enum(r, d, "headers_with_underscores_action", actions, io->underscores);
}

struct hcm_cfg *envoy_hcm_new(struct reader *r)
{
	struct hcm_cfg *h = envoy_array(r, 1, sizeof *h);
	if (!h)
		return NULL;
	h->server_name = STR("envoy");
	h->generate_request_id = true;
	h->allow_absolute_url = true;
	h->strict_path = r->model->options.strict_path != 0;
	h->limits = h1_default_limits;
	if (r->model->options.max_target_bytes)
		h->limits.target = (uint32_t)r->model->options.max_target_bytes;
	h->h2 = (struct h2_cfg){.max_streams = 100,
				.stream_window = 65536,
				.connection_window = 1024 * 1024,
				.header_table = 4096,
				.max_empty_frames = 1,
				.max_priority = 100,
				.max_window_updates = 10,
				.max_control_frames = 1000,
				.max_frames = 10000};
	h->idle_timeout_us = LIMIT_IDLE_US;
	h->stream_idle_timeout_us = LIMIT_STREAM_IDLE_US;
	h->request_headers_timeout_us = LIMIT_HEADERS_US;
	h->drain_timeout_us = 5 * US;
	h->delayed_close_timeout_us = LIMIT_DELAYED_CLOSE_US;
	return h;
}

/* ---- filters ---- */

static void unknown_filter(struct reader *r, const struct doc *at, struct str type)
{
	const char *names[64];
	unsigned n = 0;
	for (const struct filter_type *const *t = r->types; *t; t++)
		for (const char *const *u = (*t)->type_urls; u && *u && n < 63; u++)
			names[n++] = *u;
	names[n] = NULL;
	diag_add(r->diags, DIAG_ERROR, at, "%.*s is no HTTP filter that there is", STR_ARG(type));
	const char *near = diag_nearest(type, names);
	if (near)
		diag_hint(r->diags, "%s", near);
}

/* The message of a filter's configuration; its type in *type, NULL: none (reported where it was
 * not reported before). */
static const struct doc *filter_body(struct reader *r, const struct doc *d,
				     const struct filter_type **type)
{
	const struct doc *any = read_field(d, "typed_config"), *body;
	struct str url = {0};
	*type = NULL;
	if (any) {
		body = read_any(r, any, &url);
		if (!url.p)
			return NULL;
	} else {
		/* Old articles write a name alone. Envoy 1.40 wants typed_config. */
		struct str name = read_str(r, d, "name");
		url = schema_canonical_type(name);
		for (const struct filter_type *const *t = r->types; !url.p && *t; t++)
			if ((*t)->type_urls && str_eq(name, str_of((*t)->name)))
				url = str_of((*t)->type_urls[0]);
		if (!url.p) {
			diag_add(r->diags, DIAG_ERROR, d, "typed_config is missing");
			return NULL;
		}
		diag_add(r->diags, DIAG_NOTICE, d,
			 "Envoy wants typed_config with \"@type\": type.googleapis.com/%.*s here",
			 STR_ARG(url));
		body = doc_new(r->arena, DOC_MAP, d->at);
		if (!body)
			envoy_no_memory(r, d);
	}
	*type = envoy_filter_type(r, url, false);
	bool known = schema_find(url) != NULL; /* else the schema check has reported it */
	if (!*type && known && !read_bool(r, d, "is_optional", false))
		unknown_filter(r, any ? any : d, url);
	return *type ? body : NULL;
}

static void read_filter(struct reader *r, const struct doc *d, struct hcm_cfg *h, bool *off)
{
	const struct filter_type *type;
	const struct doc *body = filter_body(r, d, &type);
	struct filter_cfg *f = &h->filters[h->nfilters];
	if (!body)
		return;
	*f = (struct filter_cfg){.type = type,
				 .name = read_str_needed(r, d, "name"),
				 .index = h->nfilters,
				 .hcm = h,
				 .at = d->at};
	off[f->index] = read_bool(r, d, "disabled", false);
	struct compile c = {r->arena, r->diags, r->model, h, f->name, &envoy_hooks};
	f->config = type->compile ? type->compile(&c, body) : NULL;
	if (f->config && type->free_config && !envoy_on_free(r, type->free_config, f->config))
		f->config = NULL;
	h->nfilters++;
}

/* False: no filters, or no memory. *off as envoy_route_config takes it. */
static bool read_filters(struct reader *r, const struct doc *d, struct hcm_cfg *h, const bool **off)
{
	const struct doc *list = envoy_list(d, "http_filters");
	unsigned before = r->diags->errors;
	bool any_off = false;
	if (!list || list->n == 0) {
		diag_add(r->diags, DIAG_ERROR, d,
			 "http_filters is missing: the last of them answers, mostly the router");
		return false;
	}
	if (list->n > LIMIT_FILTERS) {
		diag_add(r->diags, DIAG_ERROR, list, "at most %d filters in a chain",
			 LIMIT_FILTERS);
		return false;
	}
	bool *o = envoy_array(r, list->n, sizeof *o);
	h->filters = envoy_array(r, list->n, sizeof *h->filters);
	if (!o || !h->filters)
		return false;
	doc_each (f, list)
		read_filter(r, f, h, o);
	for (unsigned i = 0; i < h->nfilters; i++) {
		const struct filter_cfg *f = &h->filters[i];
		bool last = i + 1 == h->nfilters;
		/* Our own may have the router behind them all the same: what they answer it does
		 * not see. */
		bool own = str_starts(str_of(f->type->name), STR("postern."));
		any_off |= o[i];
		if (f->type->terminal && ((!last && !own) || (last && o[i])))
			diag_at(r->diags, DIAG_ERROR, f->at,
				"%.*s answers every request: it must be the last filter%s",
				STR_ARG(f->name), o[i] ? " and cannot be disabled" : "");
		else if (last && !f->type->terminal && r->diags->errors == before)
			diag_at(r->diags, DIAG_ERROR, f->at,
				"%.*s cannot be the last filter: one that answers must follow, "
				"mostly the router",
				STR_ARG(f->name));
	}
	*off = any_off ? o : NULL;
	return true;
}

/* ---- protocols ---- */

static void read_http2(struct reader *r, const struct doc *d, struct h2_cfg *h)
{
	if (!d)
		return;
	h->header_table = (uint32_t)read_uint(r, d, "hpack_table_size", h->header_table, 0, 65536);
	h->max_streams =
		(uint32_t)read_uint(r, d, "max_concurrent_streams", h->max_streams, 1, INT32_MAX);
	h->stream_window = (uint32_t)read_uint(r, d, "initial_stream_window_size", h->stream_window,
					       WINDOW_MIN, INT32_MAX);
	h->connection_window = (uint32_t)read_uint(r, d, "initial_connection_window_size",
						   h->connection_window, WINDOW_MIN, INT32_MAX);
	h->allow_connect = read_bool(r, d, "allow_connect", false);
	h->max_frames = (uint32_t)read_uint(r, d, "max_outbound_frames", h->max_frames, 1, 100000);
	h->max_control_frames = (uint32_t)read_uint(r, d, "max_outbound_control_frames",
						    h->max_control_frames, 1, 10000);
	h->max_empty_frames =
		(uint32_t)read_uint(r, d, "max_consecutive_inbound_frames_with_empty_payload",
				    h->max_empty_frames, 0, 1000);
	h->max_priority = (uint32_t)read_uint(r, d, "max_inbound_priority_frames_per_stream",
					      h->max_priority, 0, UINT32_MAX);
	h->max_window_updates =
		(uint32_t)read_uint(r, d, "max_inbound_window_update_frames_per_data_frame_sent",
				    h->max_window_updates, 1, UINT32_MAX);
	const struct doc *keep = read_field(d, "connection_keepalive");
	if (keep) {
		h->keepalive_interval_us = read_duration(r, keep, "interval", 0);
		h->keepalive_timeout_us = read_duration(r, keep, "timeout", 0);
		if (h->keepalive_timeout_us == 0)
			diag_add(r->diags, DIAG_ERROR, keep, "timeout is missing");
	}
}

static void read_protocols(struct reader *r, const struct doc *d, struct hcm_cfg *h)
{
	static const char *const codecs[] = {"AUTO", "HTTP1", "HTTP2", "HTTP3", NULL};
	const struct doc *http1 = read_field(d, "http_protocol_options");
	struct envoy_common_http common = {.idle_us = h->idle_timeout_us,
					   .fields = h->limits.fields};
	int codec = read_enum(r, d, "codec_type", codecs, 0);
	if (codec == 3)
		diag_add(r->diags, DIAG_ERROR, read_field(d, "codec_type"), "HTTP/3 is not served");
	else
		h->codec = (enum codec)codec;
	envoy_common_http(r, read_field(d, "common_http_protocol_options"), &common);
	h->idle_timeout_us = common.idle_us;
	h->max_connection_duration_us = common.max_connection_us;
	h->max_stream_duration_us = common.max_stream_us;
	h->max_requests_per_connection = common.max_requests;
	h->underscores = (enum underscores)common.underscores;
	h->limits.fields = common.fields;
	h->limits.head = (uint32_t)read_uint(r, d, "max_request_headers_kb", LIMIT_HEAD_KIB, 1,
					     LIMIT_HEAD_KIB_HARD) *
			 1024;
	if (http1) {
		h->allow_absolute_url = read_bool(r, http1, "allow_absolute_url", true);
		h->accept_http_10 = read_bool(r, http1, "accept_http_10", false);
		h->default_host_http10 = read_str(r, http1, "default_host_for_http_10");
		h->enable_trailers = read_bool(r, http1, "enable_trailers", false);
		h->proper_case = envoy_proper_case(http1);
	}
	read_http2(r, read_field(d, "http2_protocol_options"), &h->h2);
}

static void read_upgrades(struct reader *r, const struct doc *d, struct hcm_cfg *h)
{
	const struct doc *list = envoy_list(d, "upgrade_configs");
	h->upgrades = envoy_array(r, list ? list->n : 0, sizeof *h->upgrades);
	if (!h->upgrades)
		return;
	doc_each (u, list) {
		struct str type = envoy_lower(r, u, "upgrade_type");
		if (str_starts(type, STR("connect")))
			diag_add(r->diags, DIAG_ERROR, u, "CONNECT is refused");
		else if (type.n == 0)
			diag_add(r->diags, DIAG_ERROR, u, "upgrade_type is missing");
		else if (read_bool(r, u, "enabled", true)) /* else a route has to allow it */
			h->upgrades[h->nupgrades++] = type;
	}
}

/* ---- local replies ---- */

/* The operations of a list that stands under another name than read_header_ops knows. */
static void read_ops_as_response(struct reader *r, const struct doc *list, struct header_ops *out)
{
	struct doc *m = doc_new(r->arena, DOC_MAP, list->at), *copy = doc_copy(r->arena, list);
	if (!m || !copy) {
		envoy_no_memory(r, list);
		return;
	}
	doc_add(m, STR("response_headers_to_add"), copy);
	read_header_ops(r, m, out);
}

static void read_mapper(struct reader *r, const struct doc *d, struct local_reply *out)
{
	const struct doc *filter = read_field(d, "filter"), *v;
	struct access_log_cfg ask = {0};
	struct source body;
	if (!filter) {
		diag_add(r->diags, DIAG_ERROR, d, "filter is missing");
		return;
	}
	envoy_log_filter(r, filter, &ask);
	if (ask.duration_min_us || ask.not_health_check || ask.response_flags.p || ask.header ||
	    ask.runtime_of)
		diag_add(r->diags, DIAG_ERROR, filter, "only status_code_filter is supported here");
	out->status_from = ask.status_min;
	out->status_to = ask.status_max ? ask.status_max : UINT16_MAX;
	out->new_status = (uint16_t)read_uint(r, d, "status_code", 0, 200, 599);
	if (read_source(r, d, "body", BODY_MAX, &body))
		out->body = body.content;
	if ((v = read_field(d, "body_format_override")))
		out->format = envoy_format(r, v, &out->content_type);
	if ((v = envoy_list(d, "headers_to_add")))
		read_ops_as_response(r, v, &out->headers);
}

static void read_local_replies(struct reader *r, const struct doc *d, struct hcm_cfg *h)
{
	const struct doc *list = envoy_list(d, "mappers"), *v = read_field(d, "body_format");
	h->local_replies = envoy_array(r, list ? list->n : 0, sizeof *h->local_replies);
	if (h->local_replies)
		doc_each (m, list)
			read_mapper(r, m, &h->local_replies[h->nlocal_replies++]);
	if (v)
		h->local_body = envoy_format(r, v, &h->local_content_type);
}

/* ---- the rest ---- */

static void read_identity(struct reader *r, const struct doc *d, struct hcm_cfg *h)
{
	static const char *const modes[] = {"OVERWRITE", "APPEND_IF_ABSENT", "PASS_THROUGH", NULL};
	static const char *const xfcc[] = {"SANITIZE",     "FORWARD_ONLY",        "APPEND_FORWARD",
					   "SANITIZE_SET", "ALWAYS_FORWARD_ONLY", NULL};
	const struct doc *details = read_field(d, "set_current_client_cert_details");
	const struct doc *scheme = read_field(d, "scheme_header_transformation");
	struct str name = read_str(r, d, "server_name");
	h->use_remote_address = read_bool(r, d, "use_remote_address", false);
	h->skip_xff_append = read_bool(r, d, "skip_xff_append", false);
	h->generate_request_id = read_bool(r, d, "generate_request_id", true);
	h->preserve_request_id = read_bool(r, d, "preserve_external_request_id", false);
	h->always_request_id_in_response =
		read_bool(r, d, "always_set_request_id_in_response", false);
	h->xff_trusted_hops = (unsigned)read_uint(r, d, "xff_num_trusted_hops", 0, 0, HOPS_MAX);
	h->via = read_str(r, d, "via");
	if (name.n)
		h->server_name = name;
	if (!field_value_ok(h->server_name) || (h->via.n && !field_value_ok(h->via)))
		diag_add(r->diags, DIAG_ERROR, d,
			 "server_name and via are no header values (control bytes)");
	h->server_mode = (unsigned)read_enum(r, d, "server_header_transformation", modes, 0);
	h->xfcc = (unsigned)read_enum(r, d, "forward_client_cert_details", xfcc, 0);
	h->xfcc_details.subject = read_bool(r, details, "subject", false);
	h->xfcc_details.cert = read_bool(r, details, "cert", false);
	h->xfcc_details.chain = read_bool(r, details, "chain", false);
	h->xfcc_details.dns = read_bool(r, details, "dns", false);
	h->xfcc_details.uri = read_bool(r, details, "uri", false);
	h->http_scheme = read_str(r, scheme, "scheme_to_overwrite");
	if (h->http_scheme.n && !str_eq(h->http_scheme, STR("http")) &&
	    !str_eq(h->http_scheme, STR("https")))
		diag_add(r->diags, DIAG_ERROR, read_field(scheme, "scheme_to_overwrite"),
			 "must be http or https");
}

static void read_paths(struct reader *r, const struct doc *d, struct hcm_cfg *h)
{
	static const char *const slashes[] = {
		"IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED",       "REJECT_REQUEST",
		"UNESCAPE_AND_REDIRECT",           "UNESCAPE_AND_FORWARD", NULL};
	static const unsigned char actions[] = {SLASHES_KEEP, SLASHES_KEEP, SLASHES_REJECT,
						SLASHES_UNESCAPE_REDIRECT,
						SLASHES_UNESCAPE_FORWARD};
	h->normalize_path = read_bool(r, d, "normalize_path", false);
	h->merge_slashes = read_bool(r, d, "merge_slashes", false);
	h->escaped_slashes = (enum escaped_slashes)
		actions[read_enum(r, d, "path_with_escaped_slashes_action", slashes, 0)];
	h->strip_matching_port = read_bool(r, d, "strip_matching_host_port", false);
	h->strip_any_port = read_bool(r, d, "strip_any_host_port", false);
	h->strip_trailing_dot = read_bool(r, d, "strip_trailing_host_dot", false);
	h->proxy_100_continue = read_bool(r, d, "proxy_100_continue", false);
	if (h->strip_matching_port && h->strip_any_port)
		diag_add(r->diags, DIAG_ERROR, read_field(d, "strip_any_host_port"),
			 "excludes strip_matching_host_port");
}

static void read_times(struct reader *r, const struct doc *d, struct hcm_cfg *h)
{
	h->stream_idle_timeout_us =
		read_duration(r, d, "stream_idle_timeout", h->stream_idle_timeout_us);
	h->request_timeout_us = read_duration(r, d, "request_timeout", 0);
	h->request_headers_timeout_us =
		read_duration(r, d, "request_headers_timeout", h->request_headers_timeout_us);
	h->drain_timeout_us = read_duration(r, d, "drain_timeout", h->drain_timeout_us);
	h->delayed_close_timeout_us =
		read_duration(r, d, "delayed_close_timeout", h->delayed_close_timeout_us);
}

struct hcm_cfg *envoy_hcm(struct reader *r, const struct doc *d)
{
	struct hcm_cfg *h = envoy_hcm_new(r);
	const struct doc *routes = read_field(d, "route_config");
	const bool *off = NULL;
	if (!h)
		return NULL;
	h->at = d->at;
	h->stat_prefix = read_str_needed(r, d, "stat_prefix");
	read_protocols(r, d, h);
	read_identity(r, d, h);
	read_paths(r, d, h);
	read_times(r, d, h);
	read_upgrades(r, d, h);
	read_local_replies(r, read_field(d, "local_reply_config"), h);
	h->logs = envoy_access_logs(r, envoy_list(d, "access_log"), &h->nlogs);
	if (!read_filters(r, d, h, &off))
		h->nfilters = 0;
	if (routes)
		h->routes = envoy_route_config(r, routes, h, off);
	else
		diag_add(r->diags, DIAG_ERROR, d, "route_config is missing");
	return h;
}

/* src/model/model.h
 *
 * The compiled configuration: immutable once sealed, counted by atomic references, shared by all workers. Built by
 * config in one arena. Times are microseconds; 0 means "off" where Envoy's field says so.
 */
#pragma once
#include "base/arena.h"
#include "base/doc.h"
#include "base/map.h"
#include "base/stat_id.h"
#include "http/h1.h"
#include "model/filter.h"
#include "model/format.h"
#include "model/match.h"
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

/* An address of ours or of an origin. */
struct address {
	union {
		struct sockaddr sa;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage any;
	};
	socklen_t len;   /* 0: a name to be resolved */
	struct str name; /* host name as configured (DNS types) */
	uint16_t port;
	struct str text; /* "127.0.0.1:80", "unix:/path" or "name:80" */
};

/* A DataSource: where bytes come from. Content is read at compile time. */
struct source {
	struct str path; /* file name, .p NULL when inline */
	struct str content;
};

struct tls_cert {
	struct source chain, key;
	struct doc_place at;
};
/* What DownstreamTlsContext and UpstreamTlsContext say. */
struct tls_cfg {
	bool server;
	struct tls_cert *certs;
	unsigned ncerts;
	struct str *alpn;
	unsigned nalpn;
	int min_version, max_version; /* 0x0303 TLS 1.2, 0x0304 TLS 1.3; 0 default */
	struct str ciphers, curves;   /* OpenSSL lists; .p NULL default */
	/* validation */
	bool has_ca, system_ca;
	struct source ca, crl;
	bool require_client_cert, trust_chain_unverified; /* ACCEPT_UNTRUSTED */
	struct san_match {
		enum { SAN_ANY, SAN_DNS, SAN_URI, SAN_EMAIL, SAN_IP } kind;
		struct string_match match;
	} * sans;
	unsigned nsans;
	/* verify_certificate_spki (base64), verify_certificate_hash (hex, no colons, lower case) */
	struct str *spki, *hashes;
	unsigned nspki, nhashes;
	/* server */
	bool no_tickets, no_session_cache;
	uint64_t session_timeout_us;
	bool full_scan_certs;
	/* client */
	struct str sni;
	bool auto_sni, auto_san; /* upstream_http_protocol_options */
	bool allow_renegotiation;
	unsigned max_session_keys;
	struct doc_place at;
	/* Made by net before the model is published (tls_attach), freed with the model. */
	void *ctx;
	void (*ctx_free)(void *);
};

struct header_op { /* HeaderValueOption and the removals, in order of application */
	enum {
		HEADER_APPEND,
		HEADER_ADD_IF_ABSENT,
		HEADER_OVERWRITE,
		HEADER_OVERWRITE_IF_EXISTS,
		HEADER_REMOVE
	} action;
	struct str name;
	struct format *value; /* NULL for HEADER_REMOVE */
	struct str plain;     /* set when value is fixed text */
	bool keep_empty;
};
struct header_ops {
	struct header_op *request, *response;
	unsigned nrequest, nresponse;
};

struct backoff {
	uint64_t base_us, max_us;
};
enum retry_on {
	RETRY_5XX = 1,
	RETRY_GATEWAY_ERROR = 2,
	RETRY_RESET = 4,
	RETRY_CONNECT_FAILURE = 8,
	RETRY_RETRIABLE_4XX = 16,
	RETRY_REFUSED_STREAM = 32,
	RETRY_STATUS_CODES = 64,
	RETRY_HEADERS = 128,
	RETRY_RESET_BEFORE_REQUEST = 256,
	RETRY_ENVOY_RATELIMITED = 512
};
struct retry_policy {
	unsigned on; /* enum retry_on */
	unsigned num_retries;
	uint64_t per_try_timeout_us, per_try_idle_us;
	uint16_t *codes;
	unsigned ncodes;
	struct field_match *headers, *request_headers;
	unsigned nheaders, nrequest_headers;
	struct backoff backoff;
	bool previous_hosts;          /* retry_host_predicate previous_hosts */
	unsigned host_attempts;       /* host_selection_retry_max_attempts */
	unsigned previous_priorities; /* retry_priority: update_frequency, 0 none */
};

struct cluster_cfg;
struct weighted_cluster {
	struct str name;
	const struct cluster_cfg *cluster;
	unsigned weight;
	struct header_ops headers;
	void **per_filter; /* by filter index of the chain, NULL: none; see route.per_filter */
	const struct doc *metadata;
	struct str host_rewrite;
};
enum hash_kind { HASH_HEADER, HASH_COOKIE, HASH_SOURCE_IP, HASH_QUERY };
struct hash_policy {
	enum hash_kind kind;
	struct str name;
	enum field_id id;
	bool terminal;
	uint64_t cookie_ttl_us; /* HASH_COOKIE with ttl: a cookie is made */
	bool make_cookie;
	struct str cookie_path;
	const struct regex *regex;
	struct str regex_rewrite;
};
enum path_kind { PATH_PREFIX, PATH_EXACT, PATH_REGEX, PATH_SEPARATED_PREFIX, PATH_CONNECT };
enum action_kind {
	ACTION_CLUSTER,
	ACTION_WEIGHTED,
	ACTION_CLUSTER_HEADER,
	ACTION_REDIRECT,
	ACTION_DIRECT,
	ACTION_NONE
};

struct redirect_cfg {
	bool https, strip_query;
	struct str scheme, host, path, prefix_rewrite;
	uint32_t port; /* 0: none */
	const struct regex *regex;
	struct str regex_rewrite;
	uint16_t status;
};

struct route {
	struct str name;
	unsigned index; /* within the virtual host */
	/* match */
	enum path_kind path_kind;
	bool case_sensitive;
	struct str path;
	const struct regex *regex;
	struct field_match *headers;
	struct query_match *query;
	struct cookie_match *cookies;
	unsigned nheaders, nquery, ncookies;
	uint32_t fraction, fraction_of; /* runtime_fraction; fraction_of 0: always */
	bool grpc_only, tls_known, tls_presented, tls_validated, tls_presented_set,
		tls_validated_set;
	/* action */
	enum action_kind action;
	const struct cluster_cfg
		*cluster; /* NULL for ACTION_CLUSTER: unknown, answered by cluster_not_found */
	struct str cluster_name;    /* ACTION_CLUSTER_HEADER: the header's name */
	uint16_t cluster_not_found; /* 503 or 404 */
	struct weighted_cluster *weighted;
	unsigned nweighted, total_weight;
	struct redirect_cfg *redirect;
	uint16_t direct_status;
	struct str direct_body; /* .p NULL: none */
	/* request changes */
	struct str prefix_rewrite;
	const struct regex *rewrite_regex;
	struct str rewrite_with;
	struct str host_rewrite;
	bool auto_host_rewrite, append_x_forwarded_host;
	enum field_id host_rewrite_header_id;
	struct str host_rewrite_header;
	const struct regex *host_rewrite_regex;
	struct str host_rewrite_with;
	struct header_ops headers_ops;
	/* behaviour */
	uint64_t timeout_us;      /* LIMIT_ROUTE_US default; 0 off */
	uint64_t idle_timeout_us; /* overrides stream_idle_timeout when has_idle */
	bool has_idle;
	uint64_t max_duration_us; /* max_stream_duration; 0 off */
	bool has_max_duration;
	const struct retry_policy *retry; /* own or the virtual host's */
	struct hash_policy *hash;
	unsigned nhash;
	unsigned priority;    /* circuit breaker: 0 DEFAULT, 1 HIGH */
	struct str *upgrades; /* route-level upgrade_configs: enabled types */
	unsigned nupgrades;
	struct str *upgrades_off;
	unsigned nupgrades_off;
	bool include_attempt_count, include_attempt_count_response;
	const struct doc *metadata; /* filter_metadata map */
	struct doc_place at;
	/* By filter index of the chain: the type's compiled per-route config, most specific already chosen among route, virtual host
	 * and route configuration (weighted clusters have their own above it). NULL array: none at all. FILTER_DISABLED: off here. */
	void **per_filter;
	const struct vhost *vhost;
};
extern char
	filter_disabled_; /* its address: a filter switched off for a route (FilterConfig.disabled) */
#define FILTER_DISABLED ((void *)&filter_disabled_)

struct virtual_cluster {
	struct str name;
	struct field_match *headers;
	unsigned nheaders;
};
struct vhost {
	struct str name;
	struct route **routes;
	unsigned nroutes;
	enum { TLS_NONE, TLS_EXTERNAL_ONLY, TLS_ALL } require_tls;
	struct header_ops headers_ops;
	struct virtual_cluster *vclusters;
	unsigned nvclusters;
	const struct doc *metadata;
	const struct route_config *config;
	struct doc_place at;
};
struct route_config {
	struct str name;
	struct vhost **vhosts;
	unsigned nvhosts;
	struct map exact; /* lower-case domain, port included when configured -> vhost */
	struct wildcard {
		struct str text; /* ".example.com" (suffix) or "www." (prefix) */
		struct vhost *vhost;
	} * suffixes, *prefixes; /* longest first */
	unsigned nsuffixes, nprefixes;
	struct vhost *any; /* "*" */
	bool ignore_port, most_specific_header_mutations_wins;
	struct header_ops headers_ops;
	const struct doc *metadata;
};

struct access_log_cfg {
	struct str path; /* file, "/dev/stdout", "/dev/stderr" */
	struct format *format;
	bool json;
	bool own_newline; /* JSON: a newline is added */
	/* filter: all must hold */
	uint16_t status_min, status_max; /* status_code_filter; 0 none */
	uint64_t duration_min_us;
	bool not_health_check, errors_only;
	struct str response_flags; /* comma list; .p NULL none; "*" any */
	struct field_match *header;
	uint32_t runtime_fraction, runtime_of;
	void *sink; /* obs sink, opened before publishing */
	void (*sink_free)(void *);
};

enum codec { CODEC_AUTO, CODEC_H1, CODEC_H2 };
enum escaped_slashes {
	SLASHES_KEEP,
	SLASHES_REJECT,
	SLASHES_UNESCAPE_REDIRECT,
	SLASHES_UNESCAPE_FORWARD
};
enum underscores { UNDERSCORES_ALLOW, UNDERSCORES_REJECT, UNDERSCORES_DROP };

struct h2_cfg {
	uint32_t max_streams, stream_window, connection_window, header_table;
	uint32_t max_empty_frames, max_priority, max_window_updates, max_control_frames, max_frames;
	uint64_t keepalive_interval_us, keepalive_timeout_us;
	bool allow_connect;
};

struct hcm_cfg {
	struct str stat_prefix;
	enum codec codec;
	struct filter_cfg *filters;
	unsigned nfilters;
	const struct route_config *routes; /* never NULL */
	struct access_log_cfg *logs;
	unsigned nlogs;
	/* identity and forwarding */
	bool use_remote_address, skip_xff_append, generate_request_id, preserve_request_id,
		always_request_id_in_response;
	unsigned xff_trusted_hops;
	struct str via, server_name;
	enum { SERVER_OVERWRITE, SERVER_APPEND_IF_ABSENT, SERVER_PASS_THROUGH } server_mode;
	enum {
		XFCC_SANITIZE,
		XFCC_FORWARD_ONLY,
		XFCC_APPEND_FORWARD,
		XFCC_SANITIZE_SET,
		XFCC_ALWAYS_FORWARD
	} xfcc;
	struct {
		bool subject, cert, chain, dns, uri;
	} xfcc_details;
	/* paths and fields */
	bool normalize_path, merge_slashes, strip_matching_port, strip_any_port, strip_trailing_dot;
	enum escaped_slashes escaped_slashes;
	enum underscores underscores;
	bool strict_path;
	/* protocol */
	bool accept_http_10, enable_trailers, proxy_100_continue, allow_absolute_url,
		allow_chunked_length, proper_case;
	struct str default_host_http10;
	struct str *upgrades; /* lower case: "websocket" */
	unsigned nupgrades;
	struct h1_limits limits;
	struct h2_cfg h2;
	struct str http_scheme; /* scheme_header_transformation overwrite; .p NULL */
	/* time */
	uint64_t idle_timeout_us, max_connection_duration_us, stream_idle_timeout_us,
		request_timeout_us, request_headers_timeout_us, drain_timeout_us,
		delayed_close_timeout_us, max_stream_duration_us;
	unsigned max_requests_per_connection; /* 0 none */
	struct local_reply {
		/* local_reply_config mappers with status filters; new_status 0: unchanged */
		uint16_t status_from, status_to, new_status;
		struct str body;
		struct format *format;
		struct str content_type; /* of format; .p NULL: by its kind */
		struct header_ops headers;
	} * local_replies;
	unsigned nlocal_replies;
	struct format *local_body;
	struct str local_content_type;
	bool is_admin; /* the admin listener's own manager */
	struct hcm_stats *stats;
	struct doc_place at;
};
/* "http.<stat_prefix>."; registered by front before the model is published */
struct hcm_stats {
	stat_id rq_total, rq_active, rq_1xx, rq_2xx, rq_3xx, rq_4xx, rq_5xx, rq_completed, rq_time,
		rq_http1, rq_http2, rq_rx_reset, rq_timeout, rq_idle_timeout, rq_header_timeout,
		rq_rejected, rq_overload_close, cx_total, cx_active, cx_http1, cx_http2, cx_ssl,
		cx_destroy, cx_protocol_error, cx_idle_timeout, cx_rx_bytes, cx_tx_bytes,
		cx_drain_close, cx_length_ms, no_route, no_cluster, rq_direct_response, rq_redirect,
		cx_upgrades, cx_upgrades_active;
};

struct chain_cfg { /* envoy.config.listener.v3.FilterChain */
	struct str name;
	struct str *server_names; /* lower case, may start "*." */
	unsigned nserver_names;
	struct str *alpns;
	unsigned nalpns;
	enum { TRANSPORT_ANY, TRANSPORT_RAW, TRANSPORT_TLS } transport;
	uint16_t dest_port;
	struct cidr {
		uint8_t bytes[16];
		uint8_t family; /* AF_INET, AF_INET6 */
		uint8_t bits;
	} * dest, *source, *direct_source;
	unsigned ndest, nsource, ndirect_source;
	enum { SOURCE_ANY, SOURCE_SAME_IP_OR_LOOPBACK, SOURCE_EXTERNAL } source_type;
	uint16_t *source_ports;
	unsigned nsource_ports;
	struct tls_cfg *tls; /* NULL: plain */
	const struct hcm_cfg *hcm;
	uint64_t handshake_us;
	struct doc_place at;
};
struct listener_cfg {
	struct str name;
	struct address *addresses;
	unsigned naddresses;
	int backlog;
	uint32_t buffer_limit; /* per_connection_buffer_limit_bytes; 0: not configured */
	bool tls_inspector, proxy_protocol, reuse_port, transparent, freebind, bind_to_port;
	uint64_t inspect_timeout_us;
	bool inspect_continue; /* continue_on_listener_filters_timeout */
	int defer_accept;
	struct chain_cfg *chains;
	unsigned nchains;
	struct chain_cfg *fallback; /* default_filter_chain, or NULL */
	bool is_admin;
	uint32_t mode; /* of a unix socket; 0 default */
	struct doc_place at;
	void *picker; /* front: chooses the chain in the TLS handshake; through on_free */
	stat_id cx_total, cx_active, cx_overflow, no_chain, ssl_error, ssl_handshake;
};

enum cluster_type { CLUSTER_STATIC, CLUSTER_STRICT_DNS, CLUSTER_LOGICAL_DNS };
enum lb_policy { LB_ROUND_ROBIN, LB_LEAST_REQUEST, LB_RANDOM, LB_RING_HASH };
enum dns_family { DNS_AUTO, DNS_V4_ONLY, DNS_V6_ONLY, DNS_V4_PREFERRED, DNS_ALL };
struct endpoint_cfg {
	struct address addr;
	struct str hostname;
	unsigned weight;
	unsigned priority;
	bool unhealthy; /* health_status UNHEALTHY, DRAINING, TIMEOUT */
	const struct doc *metadata;
};
struct breaker {
	uint32_t max_connections, max_pending, max_requests, max_retries;
	bool track_remaining;
	double retry_budget_percent; /* 0: none */
	uint32_t retry_min;
};
struct cluster_cfg {
	struct str name, alt_stat_name;
	unsigned index; /* in model.clusters */
	enum cluster_type type;
	enum lb_policy lb;
	struct endpoint_cfg *endpoints;
	unsigned nendpoints, npriorities;
	uint64_t connect_timeout_us;
	uint32_t buffer_limit;      /* 0: not configured */
	struct breaker breakers[2]; /* DEFAULT, HIGH */
	struct tls_cfg *tls;        /* NULL: plain */
	/* DNS */
	enum dns_family family;
	uint64_t dns_refresh_us;
	bool respect_dns_ttl;
	struct address *resolvers;
	unsigned nresolvers;
	/* protocol */
	bool h2, h2_only, enable_trailers, proper_case, accept_http_10;
	uint64_t idle_timeout_us, max_connection_duration_us, max_stream_duration_us;
	uint32_t max_requests_per_connection;
	struct h1_limits limits;
	/* balancing */
	unsigned choice_count; /* least request */
	uint64_t ring_min, ring_max;
	bool ring_hostname;
	double healthy_panic;      /* percent; 50 default */
	unsigned overprovisioning; /* percent; 140 default */
	bool tcp_keepalive;
	unsigned keepalive_probes, keepalive_time, keepalive_interval;
	struct address *bind; /* upstream_bind_config */
	const struct doc *metadata;
	struct doc_place at;
	struct cluster_stats *stats;
};
/* "cluster.<name>."; registered by upstream before the model is published */
struct cluster_stats {
	stat_id rq_total, rq_active, rq_pending_total, rq_pending_active, rq_pending_overflow,
		rq_timeout, rq_per_try_timeout, rq_rx_reset, rq_tx_reset, rq_retry,
		rq_retry_success, rq_retry_overflow, rq_retry_limit_exceeded, rq_cancelled,
		rq_maintenance, rq_completed, rq_1xx, rq_2xx, rq_3xx, rq_4xx, rq_5xx, rq_time,
		cx_total, cx_active, cx_http1, cx_http2, cx_connect_fail, cx_connect_timeout,
		cx_overflow, cx_destroy, cx_idle_timeout, cx_protocol_error, cx_rx_bytes,
		cx_tx_bytes, cx_connect_ms, cx_none_healthy, membership_total, membership_healthy,
		update_success, update_failure, update_attempt, ssl_handshake, ssl_error,
		cx_pool_overflow;
};

/* postern.NAME runtime keys (design.md 3, robustness.md 2): one row each; unknown keys are
 * errors. */
#define OPTIONS(X)                                                            \
	X(max_target_bytes, "max_target_bytes", 16384, 64, 8388608)           \
	X(max_interim, "max_interim", 32, 0, 1024)                            \
	X(max_call_body_bytes, "max_call_body_bytes", 16777216, 0, 268435456) \
	X(max_calls, "max_calls", 4096, 1, 65536)                             \
	X(script_time_ms, "script_time_ms", 100, 1, 10000)                    \
	X(lua_worker_mib, "lua_worker_mib", 64, 1, 4096)                      \
	X(lua_stream_mib, "lua_stream_mib", 8, 1, 4096)                       \
	X(h2_control_rate, "h2_control_rate", 50, 1, 1000000)                 \
	X(hard_stop, "hard_stop", 30, 0, 86400)                               \
	X(heap_limit, "heap_limit", 0, 0, (1ull << 50))                       \
	X(strict_path, "strict_path", 0, 0, 1)                                \
	X(retry_non_idempotent, "retry_non_idempotent", 1, 0, 1)
struct options {
#define X(field, key, def, min, max) uint64_t field;
	OPTIONS(X)
#undef X
	/* text ones */
	enum { ON_ERROR_CONTINUE, ON_ERROR_FAIL } lua_on_error;
	unsigned lua_error_status;
	enum { LIBS_STANDARD, LIBS_STRICT, LIBS_FULL } lua_libraries;
	bool lua_respond_in_response;
};

struct model {
	atomic_uint refs;
	uint64_t generation; /* 1, 2, … per process */
	struct arena arena;
	struct listener_cfg **listeners;
	unsigned nlisteners;
	struct cluster_cfg **clusters;
	unsigned nclusters;
	struct map clusters_by_name;
	struct options options;
	struct address *admin; /* NULL: none */
	struct str node_id, node_cluster;
	const struct doc *root; /* the Envoy-shaped tree, for config_dump */
	struct on_free {
		struct on_free *next;
		void (*fn)(void *);
		void *arg;
	} * on_free; /* run in reverse order of adding when the last reference goes */
	/* files whose change asks for a reload: config, certificates, scripts, bodies */
	struct str *watched;
	unsigned nwatched;
	uint64_t loaded_at_ms;
	bool lint; /* while it is made: scripts are read for likely mistakes */
};

struct model *model_new(void);
static inline struct model *model_ref(const struct model *m)
{
	struct model *w = (struct model *)m;
	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return w;
}
void model_unref(const struct model *m);
/* fn(arg) when the model is freed. False: no memory (fn was not taken over). */
bool model_on_free(struct model *m, void (*fn)(void *), void *arg);
/* Adds to watched (once). */
bool model_watch(struct model *m, struct str path);
/* Checks what must hold; nothing changes afterwards but what is attached before publishing (ctx,
 * sinks, stats). */
bool model_seal(struct model *m);
const struct cluster_cfg *cluster_find(const struct model *m, struct str name);

/* ALPN, SNI, addresses as the listener saw them -> the chain that serves the connection, or
 * NULL. */
struct chain_ask {
	struct str sni; /* lower case */
	struct str *alpns;
	unsigned nalpns;
	bool tls;
	const struct address *local, *remote;
};
/* True: some connection would fit both equally well. */
bool chains_overlap(const struct chain_cfg *a, const struct chain_cfg *b);
const struct chain_cfg *model_chain_for(const struct listener_cfg *l, const struct chain_ask *ask);

/* Host -> virtual host (port handling as Envoy); then the first route that matches. */
const struct vhost *vhost_match(const struct route_config *rc, struct str authority);
struct route_ask {
	const struct head *head;
	struct str path;  /* without query and fragment */
	struct str query; /* without '?' */
	bool tls, cert_presented, cert_validated;
	uint64_t random;
};
const struct route *route_match(const struct vhost *v, const struct route_ask *ask);
/* The weighted cluster chosen by random, or NULL. */
const struct weighted_cluster *route_weighted(const struct route *r, uint64_t random);

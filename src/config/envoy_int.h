/* src/config/envoy_int.h
 *
 * The parts of the Envoy door: each compiles one kind of message into the model. All of them report what is wrong and go
 * on, so that one run shows every mistake; what they return after a mistake is good enough to go on with.
 */
#pragma once
#include "config/config.h"
#include "config/read.h"
#include "config/schema.h"
#include "model/limits.h"
#include "model/regex.h"

/* Zeroed array in the model's arena. NULL: n is 0, or no memory, which is reported. */
void *envoy_array(struct reader *r, size_t n, size_t size);
void envoy_no_memory(struct reader *r, const struct doc *at);
/* The list of that field; NULL when absent or not a list. */
const struct doc *envoy_list(const struct doc *d, const char *field);
/* As read_str, lower-cased. */
struct str envoy_lower(struct reader *r, const struct doc *d, const char *field);
/* An IP address and port into out. False: it is none; nothing is reported. */
bool envoy_ip(struct str text, uint16_t port, struct address *out);
/* The model frees arg with fn; when it cannot, arg is freed at once and the error reported. */
bool envoy_on_free(struct reader *r, void (*fn)(void *), void *arg);
/* The filter type that has this URL among its own (route: its per-route) ones. NULL: none. */
const struct filter_type *envoy_filter_type(const struct reader *r, struct str url, bool route);

/* envoy_hooks.c: what filters' compile functions may ask for. */
extern const struct schema_hooks envoy_hooks;

/* envoy_bootstrap.c: false: mistakes were reported. */
bool envoy_compile(struct reader *r, const struct doc *bootstrap, const struct config_source *src);
/* envoy_cluster.c: static_resources.clusters into model->clusters, which listeners then find. */
void envoy_clusters(struct reader *r, const struct doc *list);
/* envoy_listener.c */
void envoy_listeners(struct reader *r, const struct doc *list);
/* envoy_tls.c: of a transport_socket. NULL: plain, or a mistake. */
struct tls_cfg *envoy_tls(struct reader *r, const struct doc *transport_socket, bool server);
/* envoy_hcm.c: one with the defaults of every field but routes and filters. NULL: no memory,
 * reported. */
struct hcm_cfg *envoy_hcm_new(struct reader *r);
/* body is a HttpConnectionManager message. NULL: no memory. */
struct hcm_cfg *envoy_hcm(struct reader *r, const struct doc *body);
/* config.core.v3.HttpProtocolOptions of either side. */
struct envoy_common_http {
	uint64_t idle_us, max_connection_us, max_stream_us;
	uint32_t max_requests, fields, head_kib; /* head_kib 0: not set */
	int underscores;
};
void envoy_common_http(struct reader *r, const struct doc *d, struct envoy_common_http *io);
/* Http1ProtocolOptions: header_key_format says so. */
bool envoy_proper_case(const struct doc *http1);

/* envoy_route.c. off[i]: filter i of hcm is off unless a route has something for it; NULL: none
 * is. NULL: no memory. */
const struct route_config *envoy_route_config(struct reader *r, const struct doc *d,
					      const struct hcm_cfg *hcm, const bool *off);
/* envoy_retry.c */
const struct retry_policy *envoy_retry(struct reader *r, const struct doc *d);
/* RegexMatchAndSubstitute. False: absent or wrong. */
bool envoy_substitute(struct reader *r, const struct doc *d, const char *field,
		      const struct regex **regex, struct str *with);
/* A list of HeaderMatcher. */
struct field_match *envoy_field_matches(struct reader *r, const struct doc *d, const char *field,
					unsigned *n);

/* envoy_log.c */
struct access_log_cfg *envoy_access_logs(struct reader *r, const struct doc *list, unsigned *n);
/* SubstitutionFormatString. NULL: a mistake. */
struct format *envoy_format(struct reader *r, const struct doc *d, struct str *content_type);
/* The conditions of an AccessLogFilter into log. */
void envoy_log_filter(struct reader *r, const struct doc *d, struct access_log_cfg *log);

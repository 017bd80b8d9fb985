/* src/exchange/format.c: Envoy's substitution format on an exchange. */
#include "exchange/format.h"
#include "base/sockname.h"
#include "exchange/exch_int.h"
#include "exchange/format_int.h"
#include <stdio.h>
#include <time.h>

/* What an operator gave. */
enum got {
	GOT_NOTHING,
	GOT_TEXT, /* from outside: to be escaped */
	GOT_SAFE, /* our own: printable, no quotes */
	GOT_NUMBER,
	GOT_TREE
};
struct result {
	enum got got;
	struct str text;
	uint64_t number;
	const struct value *tree;
	char scratch[SOCKNAME_TEXT];
};

static inline void give_text(struct result *r, struct str s)
{
	r->got = s.n ? GOT_TEXT : GOT_NOTHING;
	r->text = s;
}
static inline void give_safe(struct result *r, struct str s)
{
	r->got = s.n ? GOT_SAFE : GOT_NOTHING;
	r->text = s;
}
static inline void give_number(struct result *r, uint64_t n)
{
	r->got = GOT_NUMBER;
	r->number = n;
}

/* --- time --- */

static _Thread_local struct {
	uint64_t second;
	char text[24]; /* "2026-11-24T06:49:46." */
} second_seen;

static void put_digits(char *p, unsigned n, uint64_t v)
{
	while (n--) {
		p[n] = (char)('0' + v % 10);
		v /= 10;
	}
}

/* The default form; 24 bytes. */
static inline char *put_time(char *p, uint64_t us)
{
	uint64_t s = us / 1000000;
	unsigned ms = (unsigned)(us % 1000000) / 1000;
	if (__builtin_expect(s != second_seen.second, 0)) {
		time_t t = (time_t)s;
		struct tm tm;
		gmtime_r(&t, &tm);
		strftime(second_seen.text, sizeof second_seen.text, "%Y-%m-%dT%H:%M:%S.", &tm);
		second_seen.second = s;
	}
	memcpy(p, second_seen.text, 20);
	p[20] = (char)('0' + ms / 100);
	p[21] = (char)('0' + ms / 10 % 10);
	p[22] = (char)('0' + ms % 10);
	p[23] = 'Z';
	return p + 24;
}

/* Envoy's own specifiers: %s seconds (a digit before the s changes nothing), %f and %1f..%9f the
 * fraction; and of absl's, %E3S, %E*S, %E3f and %E*f. The rest is strftime's. Writes the text of
 * one specifier (from behind '%') and returns how much of fmt it took, 0: strftime's. */
static size_t own_specifier(struct str fmt, uint64_t us, char *out, size_t *n)
{
	static const struct {
		const char *what,
			*text; /* of UTC; absl's that strftime has not, or has otherwise */
	} zones[] = {{"Z", "UTC"}, {"Ez", "+00:00"}, {"E*z", "+00:00:00"}};
	for (size_t k = 0; k < sizeof zones / sizeof *zones; k++) {
		struct str what = str_of(zones[k].what);
		if (str_starts(fmt, what)) {
			*n = strlen(zones[k].text);
			memcpy(out, zones[k].text, *n);
			return what.n;
		}
	}
	size_t i = 0;
	bool ext = fmt.n && fmt.p[0] == 'E';
	unsigned digits = 0;
	bool has = false;
	uint64_t nanos = us % 1000000 * 1000, shown = nanos;
	char fraction[10];
	i += ext;
	if (i < fmt.n && fmt.p[i] >= '1' && fmt.p[i] <= '9') {
		digits = (unsigned)(fmt.p[i++] - '0');
		has = true;
	} else if (ext && i < fmt.n && fmt.p[i] == '*') {
		i++;
		has = true;
		for (digits = 9; digits > 0 && shown % 10 == 0; digits--)
			shown /= 10;
	}
	if (i >= fmt.n)
		return 0;
	char c = fmt.p[i++];
	put_digits(fraction, 9, nanos);
	if (c == 'f' && (has || !ext)) {
		*n = has ? digits : 9;
		if (*n == 0)
			*n = 1; /* %E*f of a whole second is 0 */
		memcpy(out, fraction, *n);
		return i;
	}
	if ((c == 's' && !ext) || (c == 'S' && ext && has)) {
		int k = c == 's' ? snprintf(out, 32, "%llu", (unsigned long long)(us / 1000000))
				 : snprintf(out, 32, "%02u", (unsigned)(us / 1000000 % 60));
		*n = (size_t)k;
		if (c == 'S' && digits) {
			out[(*n)++] = '.';
			memcpy(out + *n, fraction, digits);
			*n += digits;
		}
		return i;
	}
	return 0;
}

static void custom_time(struct out *o, struct str fmt, uint64_t us)
{
	time_t t = (time_t)(us / 1000000);
	struct tm tm;
	gmtime_r(&t, &tm);
	while (fmt.n) {
		const char *at = memchr(fmt.p, '%', fmt.n);
		size_t before = at ? (size_t)(at - fmt.p) : fmt.n, n = 0;
		char one[8] = "%", text[128];
		out_text(o, (struct str){fmt.p, before});
		fmt = str_from(fmt, before);
		if (fmt.n < 2)
			break;
		fmt = str_from(fmt, 1);
		size_t used = own_specifier(fmt, us, text, &n);
		if (!used && str_starts(fmt, STR("E4Y"))) {
			used = 3;
			n = (size_t)snprintf(text, sizeof text, "%04d", tm.tm_year + 1900);
		} else if (!used) {
			used = fmt.n > 1 && (fmt.p[0] == 'E' || fmt.p[0] == 'O') ? 2 : 1;
			memcpy(one + 1, fmt.p, used);
			one[1 + used] = 0;
			/* The format is the configuration's: its conversions are strftime's own to
			 * check. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			n = strftime(text, sizeof text, one, &tm);
#pragma GCC diagnostic pop
		}
		out_text(o, (struct str){text, n});
		fmt = str_from(fmt, used);
	}
}

/* --- addresses --- */

static bool split_port(struct str a, struct str *host, struct str *port)
{
	size_t n = a.n;
	if (n == 0 || a.p[0] == '/' || a.p[0] == '@')
		return false;
	while (n && a.p[n - 1] != ':')
		n--;
	if (n == 0)
		return false;
	*port = str_from(a, n);
	*host = (struct str){a.p, n - 1};
	if (host->n >= 2 && host->p[0] == '[' && host->p[host->n - 1] == ']')
		*host = (struct str){host->p + 1, host->n - 2};
	return true;
}

static void give_host(struct result *r, struct str address)
{
	struct str host, port;
	give_text(r, split_port(address, &host, &port) ? host : address);
}

static void give_port(struct result *r, struct str address)
{
	struct str host, port;
	uint64_t n;
	if (split_port(address, &host, &port) && str_u64(port, &n))
		give_number(r, n);
}

/* The same origins come again and again. */
static _Thread_local struct name_seen {
	struct sockaddr_in in;
	uint8_t n;
	char text[24];
} names_seen[16];

static inline struct name_seen *name_slot(const struct exch_addr *a)
{
	return &names_seen[(a->in4.sin_addr.s_addr >> 24 ^ a->in4.sin_port ^ a->in4.sin_port >> 8) %
			   16];
}

static inline const struct name_seen *known_address(const struct exch_addr *a)
{
	const struct name_seen *s = name_slot(a);
	bool same = a->sa.sa_family == AF_INET && s->n &&
		    s->in.sin_addr.s_addr == a->in4.sin_addr.s_addr &&
		    s->in.sin_port == a->in4.sin_port;
	return same ? s : NULL;
}

static void give_address(struct exchange *ex, struct result *r, const struct exch_addr *a)
{
	size_t n;
	if (a->sa.sa_family == AF_INET) {
		struct name_seen *s = name_slot(a);
		if (!known_address(a)) {
			char text[SOCKNAME_TEXT];
			n = sockname_text(&a->sa, sizeof a->in4, text);
			must(n <= sizeof s->text);
			memcpy(s->text, text, n);
			s->n = (uint8_t)n;
			s->in = a->in4;
		}
		give_safe(r, (struct str){s->text, s->n});
		return;
	}
	if (a->sa.sa_family == AF_INET6) {
		n = sockname_text(&a->sa, sizeof a->in6, r->scratch);
		give_safe(r, (struct str){r->scratch, n});
		return;
	}
	/* A socket file: the exchange keeps only the family, the cluster knows the path. */
	const struct cluster_cfg *c = ex->upstream_cluster;
	for (unsigned i = 0;
	     a->sa.sa_family == AF_UNIX && a == &ex->upstream_peer && c && i < c->nendpoints; i++) {
		const struct address *e = &c->endpoints[i].addr;
		if (e->sa.sa_family == AF_UNIX) {
			n = sockname_text(&e->sa, e->len, r->scratch);
			give_text(r, (struct str){r->scratch, n});
			return;
		}
	}
}

/* --- the exchange's facts --- */

static inline struct str field_of(const struct head *h, enum field_id id, struct str name)
{
	const struct field *f = __builtin_expect(id != FIELD_OTHER, 1) ? head_get(h, id)
				: name.n                               ? head_find(h, name)
								       : NULL;
	return f ? field_value(f) : (struct str){NULL, 0};
}

static void give_field(struct result *r, const struct head *h, const struct format_part *part)
{
	struct str v = {NULL, 0};
	if (h->f) {
		v = field_of(h, part->id, part->name);
		if (!v.p && part->alt.n)
			v = field_of(h, part->alt_id, part->alt);
	}
	if (!v.p)
		return;
	if (part->no_query) {
		const char *q = v.n ? memchr(v.p, '?', v.n) : NULL;
		v.n = q ? (size_t)(q - v.p) : v.n;
	}
	r->got = GOT_TEXT; /* even when empty */
	r->text = v;
}

static void give_spaceless(struct exchange *ex, struct result *r, struct str s)
{
	if (!s.n)
		return;
	if (memchr(s.p, ' ', s.n)) {
		s = arena_str(&ex->arena, s);
		if (!s.p)
			return;
		for (size_t i = 0; i < s.n; i++)
			if (s.p[i] == ' ')
				((char *)s.p)[i] = '_'; /* our own copy */
	}
	give_text(r, s);
}

static const struct {
	const char *flag, *name;
} flag_names[] = {
	{"LH", "FailedLocalHealthCheck"},
	{"UH", "NoHealthyUpstream"},
	{"UT", "UpstreamRequestTimeout"},
	{"LR", "LocalReset"},
	{"UR", "UpstreamRemoteReset"},
	{"UF", "UpstreamConnectionFailure"},
	{"UC", "UpstreamConnectionTermination"},
	{"UO", "UpstreamOverflow"},
	{"NR", "NoRouteFound"},
	{"DI", "DelayInjected"},
	{"FI", "FaultInjected"},
	{"RL", "RateLimited"},
	{"UAEX", "UnauthorizedExternalService"},
	{"RLSE", "RateLimitServiceError"},
	{"DC", "DownstreamConnectionTermination"},
	{"URX", "UpstreamRetryLimitExceeded"},
	{"SI", "StreamIdleTimeout"},
	{"IH", "InvalidEnvoyRequestHeaders"},
	{"DPE", "DownstreamProtocolError"},
	{"UMSDR", "UpstreamMaxStreamDurationReached"},
	{"RFCF", "ResponseFromCacheFilter"},
	{"NFCF", "NoFilterConfigFound"},
	{"DT", "DurationTimeout"},
	{"UPE", "UpstreamProtocolError"},
	{"NC", "NoClusterFound"},
	{"OM", "OverloadManagerTerminated"},
	{"DF", "DnsResolutionFailed"},
	{"DO", "DropOverload"},
	{"DR", "DownstreamRemoteReset"},
	{"UDO", "UnconditionalDropOverload"},
};

static void long_flags(struct exchange *ex, struct result *r)
{
	struct str rest = str_of(ex->flags), one, text = {NULL, 0};
	while (rest.n) {
		str_cut(rest, ',', &one, &rest);
		struct str name = one;
		for (size_t i = 0; i < sizeof flag_names / sizeof *flag_names; i++)
			if (str_eq(one, str_of(flag_names[i].flag)))
				name = str_of(flag_names[i].name);
		text = text.n ? arena_printf(&ex->arena, "%.*s,%.*s", STR_ARG(text), STR_ARG(name))
			      : name;
	}
	give_safe(r, text.n ? text : STR("-"));
}

static void give_grpc(struct exchange *ex, struct result *r, struct str how)
{
	static const char *const camel[] = {"OK",
					    "Canceled",
					    "Unknown",
					    "InvalidArgument",
					    "DeadlineExceeded",
					    "NotFound",
					    "AlreadyExists",
					    "PermissionDenied",
					    "ResourceExhausted",
					    "FailedPrecondition",
					    "Aborted",
					    "OutOfRange",
					    "Unimplemented",
					    "Internal",
					    "Unavailable",
					    "DataLoss",
					    "Unauthenticated"};
	static const char *const snake[] = {"OK",
					    "CANCELLED",
					    "UNKNOWN",
					    "INVALID_ARGUMENT",
					    "DEADLINE_EXCEEDED",
					    "NOT_FOUND",
					    "ALREADY_EXISTS",
					    "PERMISSION_DENIED",
					    "RESOURCE_EXHAUSTED",
					    "FAILED_PRECONDITION",
					    "ABORTED",
					    "OUT_OF_RANGE",
					    "UNIMPLEMENTED",
					    "INTERNAL",
					    "UNAVAILABLE",
					    "DATA_LOSS",
					    "UNAUTHENTICATED"};
	struct str type = ex->req.head.f ? head_value(&ex->req.head, FIELD_CONTENT_TYPE)
					 : (struct str){NULL, 0},
		   v = {NULL, 0};
	uint64_t n;
	if (!str_starts(type, STR("application/grpc")) ||
	    (type.n > 16 && type.p[16] != '+' && type.p[16] != ';'))
		return;
	if (ex->resp.trailers)
		v = head_value(ex->resp.trailers, FIELD_GRPC_STATUS);
	if (!v.p && ex->resp.head.f)
		v = head_value(&ex->resp.head, FIELD_GRPC_STATUS);
	if (!v.p)
		return;
	if (!str_u64(v, &n))
		give_safe(r, STR("Unknown"));
	else if (str_eq(how, STR("NUMBER")) || n >= sizeof camel / sizeof *camel)
		give_number(r, n);
	else
		give_safe(r, str_of(str_eq(how, STR("SNAKE_STRING")) ? snake[n] : camel[n]));
}

static void give_virtual_cluster(struct exchange *ex, struct result *r)
{
	const struct vhost *v = ex->route ? ex->vhost : NULL;
	for (unsigned i = 0; v && i < v->nvclusters; i++) {
		const struct virtual_cluster *c = &v->vclusters[i];
		unsigned k = 0;
		while (k < c->nheaders && field_matches(&c->headers[k], &ex->req.head))
			k++;
		if (k == c->nheaders) {
			give_text(r, c->name);
			return;
		}
	}
}

static void give_tree(struct result *r, const struct value *v)
{
	if (!v)
		return;
	if (v->kind == VALUE_STRING) {
		r->got = GOT_TEXT;
		r->text = v->string;
		return;
	}
	r->got = GOT_TREE;
	r->tree = v;
}

/* path: "key:key:…" below v. */
static void give_path(struct result *r, const struct value *v, struct str path)
{
	struct str key;
	while (v && path.n) {
		str_cut(path, ':', &key, &path);
		v = value_get(v, key);
	}
	give_tree(r, v && v->kind != VALUE_NULL ? v : NULL); /* null is nothing, as in Envoy */
}

static void dynamic_metadata(struct exchange *ex, struct result *r, struct str args)
{
	struct str ns, path;
	str_cut(args, ':', &ns, &path);
	give_path(r, metadata_get(&ex->metadata, ns), path);
}

static void static_metadata(struct exchange *ex, struct result *r,
			    const struct doc *filter_metadata, struct str args)
{
	struct str ns, path;
	str_cut(args, ':', &ns, &path);
	if (!filter_metadata || filter_metadata->kind != DOC_MAP)
		return;
	doc_each (d, filter_metadata)
		if (str_eq(d->key, ns))
			give_path(r, value_from_doc(&ex->arena, d), path);
}

/* %METADATA(TYPE:namespace:key:…)% */
static void give_metadata(struct exchange *ex, struct result *r, struct str args)
{
	struct str type, rest;
	str_cut(args, ':', &type, &rest);
	if (str_eq(type, STR("DYNAMIC")))
		dynamic_metadata(ex, r, rest);
	else if (str_eq(type, STR("ROUTE")) && ex->route)
		static_metadata(ex, r, ex->route->metadata, rest);
	else if (str_eq(type, STR("VIRTUAL_HOST")) && ex->vhost)
		static_metadata(ex, r, ex->vhost->metadata, rest);
	else if (str_eq(type, STR("CLUSTER"))) {
		const struct cluster_cfg *c =
			ex->upstream_cluster ? ex->upstream_cluster : ex->cluster;
		if (c)
			static_metadata(ex, r, c->metadata, rest);
	} else if (str_eq(type, STR("UPSTREAM_HOST")) && ex->upstream_cluster) {
		const struct cluster_cfg *c = ex->upstream_cluster;
		for (unsigned i = 0; i < c->nendpoints; i++) {
			const struct address *a = &c->endpoints[i].addr;
			bool same = a->len && a->sa.sa_family == ex->upstream_peer.sa.sa_family;
			if (same && a->sa.sa_family == AF_INET)
				same = a->in4.sin_port == ex->upstream_peer.in4.sin_port &&
				       a->in4.sin_addr.s_addr ==
					       ex->upstream_peer.in4.sin_addr.s_addr;
			else if (same && a->sa.sa_family == AF_INET6)
				same = a->in6.sin6_port == ex->upstream_peer.in6.sin6_port &&
				       memcmp(&a->in6.sin6_addr, &ex->upstream_peer.in6.sin6_addr,
					      16) == 0;
			if (same) {
				static_metadata(ex, r, c->endpoints[i].metadata, rest);
				return;
			}
		}
	}
}

/* %FILTER_STATE(key:PLAIN|TYPED)%; ours hold strings, whose typed form is a JSON string. */
static void filter_state(struct exchange *ex, struct result *r, struct str args)
{
	struct str key, how;
	str_cut(args, ':', &key, &how);
	for (const struct state_entry *s = ex->filter_state; s; s = s->next) {
		if (!str_eq(s->name, key))
			continue;
		if (str_eq(how, STR("PLAIN"))) {
			r->got = GOT_TEXT;
			r->text = s->value;
		} else if (how.n == 0 || str_eq(how, STR("TYPED"))) {
			struct value *v = value_new(&ex->arena, VALUE_STRING);
			if (v) {
				v->string = s->value;
				r->got = GOT_TREE;
				r->tree = v;
			}
		}
		return;
	}
}

static void give_peer(struct exchange *ex, struct result *r, enum peer_text what)
{
	if (ex->port && ex->port->text && ex->peer->tls)
		give_text(r, ex->port->text(ex, what, &ex->arena));
}

static uint64_t now_us(const struct exchange *ex)
{
	return loop_now_us(ex->env->loop);
}

static struct str remote_of(const struct exchange *ex)
{
	return ex->remote.n ? ex->remote : ex->peer->remote;
}

static bool origin_answered(const struct exchange *ex)
{
	return ex->upstream_cluster && ex->resp_head_us && !ex->local_reply;
}

/* As Envoy counts: names and values, without what separates them on the wire. */
static uint64_t fields_bytes(const struct head *h)
{
	uint64_t n = 0;
	for (unsigned i = 0; h->f && i < h->n; i++)
		n += h->f[i].name_n + h->f[i].value_n;
	return n;
}

/* The operators that log lines seldom have.
 * long: one case per operator. */
static void rare(struct exchange *ex, const struct format_part *part, struct result *r)
{
	switch (part->op) {
	case FMT_REQUEST_DURATION:
		if (ex->req_done_us)
			give_number(r, (ex->req_done_us - ex->began_us) / 1000);
		break;
	case FMT_RESPONSE_DURATION:
		if (origin_answered(ex))
			give_number(r, (ex->resp_head_us - ex->began_us) / 1000);
		break;
	case FMT_RESPONSE_TX_DURATION:
		if (origin_answered(ex) && ex->resp_done_us)
			give_number(r, (ex->resp_done_us - ex->resp_head_us) / 1000);
		break;
	case FMT_RESPONSE_FLAGS_LONG: long_flags(ex, r); break;
	case FMT_TRAILER:
		if (ex->resp.trailers)
			give_field(r, ex->resp.trailers, part);
		break;
	case FMT_UPSTREAM_LOCAL_ADDRESS: give_address(ex, r, &ex->upstream_local); break;
	case FMT_UPSTREAM_TRANSPORT_FAILURE_REASON:
		give_spaceless(ex, r, ex->upstream_failure);
		break;
	case FMT_UPSTREAM_REQUEST_ATTEMPT_COUNT: give_number(r, ex->attempts); break;
	case FMT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS: give_text(r, ex->peer->remote); break;
	case FMT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT:
		give_host(r, ex->peer->remote);
		break;
	case FMT_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: give_host(r, ex->peer->local); break;
	case FMT_DOWNSTREAM_LOCAL_PORT: give_port(r, ex->peer->local); break;
	case FMT_DOWNSTREAM_REMOTE_PORT: give_port(r, remote_of(ex)); break;
	case FMT_REQUESTED_SERVER_NAME: give_text(r, ex->peer->sni); break;
	case FMT_VIRTUAL_CLUSTER_NAME: give_virtual_cluster(ex, r); break;
	case FMT_DYNAMIC_METADATA: dynamic_metadata(ex, r, part->text); break;
	case FMT_METADATA: give_metadata(ex, r, part->text); break;
	case FMT_FILTER_STATE: filter_state(ex, r, part->text); break;
	case FMT_CONNECTION_ID: give_number(r, ex->peer->connection_id); break;
	case FMT_FALLBACK_SERVED:
		if (ex->fallback.served)
			give_text(r, str_of(ex->fallback.served));
		break;
	case FMT_FALLBACK_PRIMARY_STATUS:
	case FMT_FALLBACK_PRIMARY_MS:
		if (ex->fallback.primary_status)
			give_number(r, part->op == FMT_FALLBACK_PRIMARY_MS
					       ? ex->fallback.primary_ms
					       : ex->fallback.primary_status);
		break;
	case FMT_FALLBACK_STATUS:
	case FMT_FALLBACK_MS:
		if (ex->fallback.status)
			give_number(r, part->op == FMT_FALLBACK_MS ? ex->fallback.ms
								   : ex->fallback.status);
		break;
	case FMT_FALLBACK_HELD_BYTES:
		if (ex->fallback.served)
			give_number(r, ex->fallback.held);
		break;
	case FMT_STREAM_ID: give_text(r, str_of(ex->request_id)); break;
	case FMT_DOWNSTREAM_TLS_VERSION: give_peer(ex, r, PEER_TLS_VERSION); break;
	case FMT_DOWNSTREAM_TLS_CIPHER: give_peer(ex, r, PEER_CIPHER); break;
	case FMT_DOWNSTREAM_PEER_SUBJECT: give_peer(ex, r, PEER_SUBJECT); break;
	case FMT_REQUEST_HEADERS_BYTES: give_number(r, fields_bytes(&ex->req.head)); break;
	case FMT_RESPONSE_HEADERS_BYTES: give_number(r, fields_bytes(&ex->resp.head)); break;
	case FMT_HOSTNAME:
	case FMT_ENVIRONMENT: give_text(r, part->text); break;
	case FMT_GRPC_STATUS: give_grpc(ex, r, part->text); break;
	case FMT_LOCAL_REPLY_BODY:
		r->got = ex->reply_text.p ? GOT_TEXT : GOT_NOTHING;
		r->text = ex->reply_text;
		break;
	default: break; /* FMT_CONNECTION_TERMINATION_DETAILS: ours never has any */
	}
}

static inline void evaluate(struct exchange *ex, const struct format_part *part, struct result *r)
{
	r->got = GOT_NOTHING;
	switch (part->op) {
	case FMT_START_TIME:
		put_time(r->scratch, ex->wall_us);
		give_safe(r, (struct str){r->scratch, 24});
		break;
	case FMT_PROTOCOL:
		give_safe(r, ex->http2    ? STR("HTTP/2")
			     : ex->http10 ? STR("HTTP/1.0")
					  : STR("HTTP/1.1"));
		break;
	case FMT_RESPONSE_CODE: give_number(r, ex->resp.head.f ? ex->resp.head.status : 0); break;
	case FMT_RESPONSE_CODE_DETAILS:
		if (str_eq(part->text, STR("ALLOW_WHITESPACES")))
			give_text(r, str_of(ex->details));
		else
			give_spaceless(ex, r, str_of(ex->details));
		break;
	case FMT_RESPONSE_FLAGS: give_safe(r, *ex->flags ? str_of(ex->flags) : STR("-")); break;
	case FMT_BYTES_RECEIVED: give_number(r, ex->bytes_received); break;
	case FMT_BYTES_SENT: give_number(r, ex->bytes_sent); break;
	case FMT_DURATION: give_number(r, (now_us(ex) - ex->began_us) / 1000); break;
	case FMT_REQ: give_field(r, &ex->req.head, part); break;
	case FMT_RESP: give_field(r, &ex->resp.head, part); break;
	case FMT_UPSTREAM_HOST:
	case FMT_UPSTREAM_REMOTE_ADDRESS: give_address(ex, r, &ex->upstream_peer); break;
	case FMT_UPSTREAM_CLUSTER:
		if (ex->upstream_cluster)
			give_text(r, ex->upstream_cluster->alt_stat_name.n
					     ? ex->upstream_cluster->alt_stat_name
					     : ex->upstream_cluster->name);
		break;
	case FMT_DOWNSTREAM_REMOTE_ADDRESS: give_text(r, remote_of(ex)); break;
	case FMT_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: give_host(r, remote_of(ex)); break;
	case FMT_DOWNSTREAM_LOCAL_ADDRESS: give_text(r, ex->peer->local); break;
	case FMT_ROUTE_NAME:
		if (ex->route)
			give_text(r, ex->route->name);
		break;
	default: rare(ex, part, r);
	}
}

/* --- writing --- */

static void write_result(struct out *o, const struct format_part *part, const struct result *r)
{
	bool whole = part->whole;
	struct str s = r->text;
	switch (r->got) {
	case GOT_NUMBER: out_number(o, r->number); return;
	case GOT_TEXT:
	case GOT_SAFE:
		if (part->max && s.n > part->max)
			s.n = part->max;
		if (s.n > o->longest)
			s.n = o->longest;
		if (whole)
			out_byte(o, '"');
		if (r->got == GOT_SAFE)
			out_bytes(o, s.p, s.n);
		else
			out_text(o, s);
		if (whole)
			out_byte(o, '"');
		return;
	case GOT_NOTHING:
		if (!whole) {
			if (o->dash)
				out_byte(o, '-');
			return;
		}
		if (o->mark_null)
			out_byte(o, OUT_NULL);
		else
			out_bytes(o, "null", 4);
		return;
	case GOT_TREE: break;
	}
	if (whole || o->escape != ESCAPE_JSON) {
		char *from = o->p;
		out_value(o, r->tree, o->escape == ESCAPE_LINE);
		if (!whole && part->max && (size_t)(o->p - from) > part->max)
			o->p = from + part->max;
		return;
	}
	/* JSON inside a JSON string: once more escaped */
	char inner[4096];
	struct out t;
	out_init(&t, inner, sizeof inner, ESCAPE_NONE);
	out_value(&t, r->tree, false);
	size_t n = (size_t)(t.p - inner);
	out_text(o, (struct str){inner, part->max && n > part->max ? part->max : n});
}

static void one_part(struct out *o, struct exchange *ex, const struct format_part *part)
{
	struct result r;
	if (part->op == FMT_TEXT) {
		out_bytes(o, part->text.p, part->text.n);
		return;
	}
	if (part->op == FMT_START_TIME && part->text.n) {
		if (part->whole)
			out_byte(o, '"');
		custom_time(o, part->text, ex->wall_us);
		if (part->whole)
			out_byte(o, '"');
		return;
	}
	evaluate(ex, part, &r);
	write_result(o, part, &r);
}

/* At most 20 digits. */
static inline char *digits_at(char *p, uint64_t n)
{
	char b[20];
	unsigned at = sizeof b, v = (unsigned)n;
	if (n < 10) {
		*p = (char)('0' + v);
		return p + 1;
	}
	if (n < 100) {
		p[0] = (char)('0' + v / 10);
		p[1] = (char)('0' + v % 10);
		return p + 2;
	}
	if (n < 1000) {
		p[0] = (char)('0' + v / 100);
		p[1] = (char)('0' + v / 10 % 10);
		p[2] = (char)('0' + v % 10);
		return p + 3;
	}
	if (n < 10000) {
		unsigned high = v / 100, low = v % 100;
		p[0] = (char)('0' + high / 10);
		p[1] = (char)('0' + high % 10);
		p[2] = (char)('0' + low / 10);
		p[3] = (char)('0' + low % 10);
		return p + 4;
	}
	do
		b[--at] = (char)('0' + n % 10);
	while (n /= 10);
	memcpy(p, b + at, sizeof b - at);
	return p + (sizeof b - at);
}

/* Where the first field of each id is; only those the head has are set. */
struct places {
	uint16_t at[256];
};

static void find_places(struct places *w, const struct head *h)
{
	const struct field *f = h->f;
	for (unsigned i = h->n; i-- > 0;)
		w->at[f[i].id] = (uint16_t)i;
}

/* The field a quick operator names; NULL: none. */
static inline const struct field *quick_field(const struct head *h, const struct format_part *part,
					      const struct places *w)
{
	enum field_id id = part->id;
	if (!head_has(h, id)) {
		id = part->alt_id;
		if (!id || !head_has(h, id))
			return NULL;
	}
	return &h->f[w->at[id]];
}

/* long: text lines, the usual operators in place: the access log is written for every request and
 * has 900 instructions for its line (request-path 6). What is not simple here goes the way JSON
 * goes. */
static void line_parts(struct out *o, struct exchange *ex, const struct format *f)
{
	enum { NEAR = 40 }; /* more than a short text and any number, time or address of ours */
	char *p = o->p, *const end = o->end, *const near = end - p < NEAR ? p : end - NEAR;
	struct places places; /* of the request's head */
	bool placed = false;
	for (const struct format_part *part = f->parts, *stop = part + f->n; part < stop; part++) {
		uint64_t number;
		const struct field *field;
		if (__builtin_expect(p >= near, 0))
			goto other;
		if (part->op == FMT_TEXT) {
			if (__builtin_expect(part->text.n > FORMAT_TEXT_SLACK, 0))
				goto other;
			memcpy(p, part->text.p, FORMAT_TEXT_SLACK);
			p += part->text.n;
			if (++part == stop)
				break;
		}
		switch (part->op) {
		case FMT_REQ:
			if (!part->quick)
				goto other;
			if (!placed) {
				find_places(&places, &ex->req.head);
				placed = true;
			}
			field = quick_field(&ex->req.head, part, &places);
			break;
		case FMT_RESP:
			if (!part->quick)
				goto other;
			field = head_get(&ex->resp.head, part->id);
			if (!field && part->alt.n)
				goto other;
			break;
		case FMT_RESPONSE_CODE:
			number = ex->resp.head.f ? ex->resp.head.status : 0;
			goto decimal;
		case FMT_BYTES_RECEIVED: number = ex->bytes_received; goto decimal;
		case FMT_BYTES_SENT: number = ex->bytes_sent; goto decimal;
		case FMT_DURATION: number = (now_us(ex) - ex->began_us) / 1000; goto decimal;
		case FMT_PROTOCOL:
			memcpy(p,
			       ex->http2    ? "HTTP/2\0\0"
			       : ex->http10 ? "HTTP/1.0"
					    : "HTTP/1.1",
			       8);
			p += ex->http2 ? 6 : 8;
			continue;
		case FMT_RESPONSE_FLAGS:
			if (*ex->flags)
				goto other;
			*p++ = '-';
			continue;
		case FMT_START_TIME:
			if (part->text.n)
				goto other;
			p = put_time(p, ex->wall_us);
			continue;
		case FMT_UPSTREAM_HOST: {
			const struct name_seen *a = known_address(&ex->upstream_peer);
			if (!a)
				goto other;
			memcpy(p, a->text, sizeof a->text);
			p += a->n;
			continue;
		}
		default: goto other;
		}
		if (!field) {
			if (!o->dash)
				goto other;
			*p++ = '-';
			continue;
		}
		if ((size_t)(end - p) < field->value_n ||
		    !out_copy_clean(p, field->value_p, field->value_n))
			goto other;
		p += field->value_n;
		continue;
	decimal:
		p = digits_at(p, number);
		continue;
	other:
		o->p = p;
		one_part(o, ex, part);
		p = o->p;
	}
	o->p = p;
}

void out_format(struct out *o, struct exchange *ex, const struct format *f)
{
	if (o->escape == ESCAPE_LINE && o->longest == SIZE_MAX) {
		line_parts(o, ex, f);
		return;
	}
	for (const struct format_part *part = f->parts, *end = part + f->n; part < end; part++)
		one_part(o, ex, part);
}

struct str format_text(struct exchange *ex, const struct format *f, struct arena *a, bool log)
{
	char first[2048], *p = first;
	size_t room = sizeof first;
	bool json = f->kind == FORMAT_JSON;
	struct out o;
	for (int tries = 0; tries < 2; tries++) {
		out_init(&o, p, room, json ? ESCAPE_JSON : ESCAPE_NONE);
		o.dash = log && !f->omit_empty;
		o.mark_null = json && f->omit_empty;
		out_format(&o, ex, f);
		if (!o.lost)
			break;
		room = (size_t)(o.p - p) + o.lost;
		p = arena_alloc(a, room);
		if (!p)
			return (struct str){NULL, 0};
	}
	size_t n = (size_t)(o.p - p);
	if (o.mark_null)
		n = out_drop_nulls(p, n);
	return p == first ? arena_str(a, (struct str){p, n}) : (struct str){p, n};
}

/* --- header operations --- */

static bool single_slot(const struct head *h, enum field_id id)
{
	return id && name_infos[id].flags & (h->is_response ? NAME_SINGLE_RESP : NAME_SINGLE_REQ);
}

static bool op_counts(const struct head *h, const struct header_op *op)
{
	switch (op->action) {
	case HEADER_ADD_IF_ABSENT: return !head_find(h, op->name);
	case HEADER_OVERWRITE_IF_EXISTS: return head_find(h, op->name) != NULL;
	case HEADER_REMOVE: return false;
	default: return true;
	}
}

static bool overwrites(const struct header_op *op)
{
	return op->action == HEADER_OVERWRITE || op->action == HEADER_OVERWRITE_IF_EXISTS;
}

/* Envoy's order: removals first; then all values are made; then fields are overwritten, at last
 * added. */
void header_ops_apply(struct exchange *ex, struct head *h, const struct header_op *ops, unsigned n)
{
	bool join = false;
	struct str *values = n ? arena_alloc(&ex->arena, n * sizeof *values) : NULL;
	if (!values)
		return;
	for (unsigned i = 0; i < n; i++)
		if (ops[i].action == HEADER_REMOVE)
			head_remove(h, ops[i].name);
	for (unsigned i = 0; i < n; i++) {
		const struct header_op *op = &ops[i];
		values[i] = (struct str){NULL, 0};
		if (!op_counts(h, op))
			continue;
		struct str v = op->plain.p ? op->plain
			       : op->value ? format_text(ex, op->value, &ex->arena, false)
					   : (struct str){"", 0};
		if (v.p && (v.n || op->keep_empty) &&
		    field_value_ok(v)) /* metadata may hold anything */
			values[i] = v;
	}
	for (unsigned i = 0; i < n; i++)
		if (values[i].p && overwrites(&ops[i]))
			head_replace(h, ops[i].name, values[i]);
	for (unsigned i = 0; i < n; i++) {
		if (!values[i].p || overwrites(&ops[i]))
			continue;
		join |= single_slot(h, name_id(ops[i].name.p, ops[i].name.n));
		head_add(h, ops[i].name, values[i]);
	}
	if (join)
		head_join_single(h);
}

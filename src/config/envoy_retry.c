/* src/config/envoy_retry.c: retry policies, and matchers that routes and retries share. */
#include "config/envoy_int.h"

#define PRIORITIES "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
#define HOSTS "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"

enum { BACKOFF_US = 25000, RETRIES_MAX = 1000, ATTEMPTS_MAX = 1000 };

bool envoy_substitute(struct reader *r, const struct doc *d, const char *field,
		      const struct regex **regex, struct str *with)
{
	const struct doc *v = read_field(d, field), *pattern = read_field(v, "pattern");
	char err[200];
	if (!v)
		return false;
	if (!pattern) {
		diag_add(r->diags, DIAG_ERROR, v, "pattern is missing");
		return false;
	}
	*regex = read_regex(r, pattern);
	*with = read_str(r, v, "substitution");
	if (!with->p)
		*with = STR("");
	if (*regex && !regex_check_rewrite(*regex, *with, err, sizeof err)) {
		diag_add(r->diags, DIAG_ERROR, v, "substitution: %s", err);
		return false;
	}
	return *regex != NULL;
}

struct field_match *envoy_field_matches(struct reader *r, const struct doc *d, const char *field,
					unsigned *n)
{
	const struct doc *list = envoy_list(d, field);
	struct field_match *out = envoy_array(r, list ? list->n : 0, sizeof *out);
	*n = 0;
	if (out)
		doc_each (h, list)
			*n += read_field_match(r, h, &out[*n]);
	return out;
}

static void read_retry_on(struct reader *r, const struct doc *d, struct retry_policy *p)
{
	static const struct {
		const char *word;
		unsigned bit; /* 0: of gRPC or HTTP/3, which we do not look at */
	} words[] = {
		{"5xx", RETRY_5XX},
		{"gateway-error", RETRY_GATEWAY_ERROR},
		{"reset", RETRY_RESET},
		{"connect-failure", RETRY_CONNECT_FAILURE},
		{"retriable-4xx", RETRY_RETRIABLE_4XX},
		{"refused-stream", RETRY_REFUSED_STREAM},
		{"retriable-status-codes", RETRY_STATUS_CODES},
		{"retriable-headers", RETRY_HEADERS},
		{"reset-before-request", RETRY_RESET_BEFORE_REQUEST},
		{"envoy-ratelimited", RETRY_ENVOY_RATELIMITED},
		{"http3-post-connect-failure", 0},
		{"cancelled", 0},
		{"deadline-exceeded", 0},
		{"internal", 0},
		{"resource-exhausted", 0},
		{"unavailable", 0},
	};
	enum { WORDS = sizeof words / sizeof *words };
	const struct doc *at = read_field(d, "retry_on");
	struct str rest = read_str(r, d, "retry_on"), word;
	const char *names[WORDS + 1] = {NULL};
	for (int i = 0; i < WORDS; i++)
		names[i] = words[i].word;
	while (rest.n) {
		int i = 0;
		str_cut(rest, ',', &word, &rest);
		word = str_trim(word);
		while (i < WORDS && !str_eq(word, str_of(names[i])))
			i++;
		if (i < WORDS && words[i].bit) {
			p->on |= words[i].bit;
		} else if (i < WORDS) {
			diag_add(r->diags, DIAG_WARNING, at,
				 "\"%s\" has no effect: gRPC statuses are not looked at", names[i]);
		} else if (word.n) { /* Envoy ignores these in silence */
			diag_add(r->diags, DIAG_WARNING, at,
				 "\"%.*s\" is no condition and has no effect", STR_ARG(word));
			const char *near = diag_nearest(word, names);
			if (near)
				diag_hint(r->diags, "%s", near);
		}
	}
}

static void read_codes(struct reader *r, const struct doc *d, struct retry_policy *p)
{
	const struct doc *list = envoy_list(d, "retriable_status_codes");
	p->codes = envoy_array(r, list ? list->n : 0, sizeof *p->codes);
	if (p->codes)
		doc_each (c, list)
			p->codes[p->ncodes++] = (uint16_t)read_uint(r, c, NULL, 503, 100, 599);
}

static void read_backoff(struct reader *r, const struct doc *d, struct retry_policy *p)
{
	const struct doc *b = read_field(d, "retry_back_off");
	p->backoff.base_us = read_duration(r, b, "base_interval", BACKOFF_US);
	if (b && !read_field(b, "base_interval"))
		diag_add(r->diags, DIAG_ERROR, b, "base_interval is missing");
	if (p->backoff.base_us < 1000) /* as Envoy rounds up */
		p->backoff.base_us = 1000;
	p->backoff.max_us = read_duration(r, b, "max_interval", 10 * p->backoff.base_us);
	if (p->backoff.max_us < p->backoff.base_us) {
		diag_add(r->diags, DIAG_ERROR, read_field(b, "max_interval"),
			 "must not be less than base_interval");
		p->backoff.max_us = p->backoff.base_us;
	}
}

static void read_hosts(struct reader *r, const struct doc *d, struct retry_policy *p)
{
	struct str type;
	const struct doc *any, *priority = read_field(d, "retry_priority");
	doc_each (h, envoy_list(d, "retry_host_predicate")) {
		if ((any = read_field(h, "typed_config")))
			read_any(r, any, &type);
		else
			type = schema_canonical_type(read_str(r, h, "name"));
		if (type.p && str_eq(type, STR(HOSTS)))
			p->previous_hosts = true;
		else if (!any || (type.p && schema_find(type)))
			diag_add(r->diags, DIAG_ERROR, h, "only previous_hosts is supported");
	}
	p->host_attempts =
		(unsigned)read_uint(r, d, "host_selection_retry_max_attempts", 1, 0, ATTEMPTS_MAX);
	if (!priority)
		return;
	if (!(any = read_field(priority, "typed_config"))) {
		diag_add(r->diags, DIAG_ERROR, priority, "typed_config is missing");
		return;
	}
	const struct doc *body = read_any(r, any, &type);
	if (type.p && str_eq(type, STR(PRIORITIES)))
		p->previous_priorities =
			(unsigned)read_uint(r, body, "update_frequency", 2, 1, INT32_MAX);
	else if (type.p && schema_find(type))
		diag_add(r->diags, DIAG_ERROR, any, "only previous_priorities is supported");
}

const struct retry_policy *envoy_retry(struct reader *r, const struct doc *d)
{
	struct retry_policy *p = d ? envoy_array(r, 1, sizeof *p) : NULL;
	if (!p)
		return NULL;
	read_retry_on(r, d, p);
	p->num_retries = (unsigned)read_uint(r, d, "num_retries", 1, 0, RETRIES_MAX);
	p->per_try_timeout_us = read_duration(r, d, "per_try_timeout", 0);
	p->per_try_idle_us = read_duration(r, d, "per_try_idle_timeout", 0);
	read_codes(r, d, p);
	p->headers = envoy_field_matches(r, d, "retriable_headers", &p->nheaders);
	p->request_headers =
		envoy_field_matches(r, d, "retriable_request_headers", &p->nrequest_headers);
	read_backoff(r, d, p);
	read_hosts(r, d, p);
	return p;
}

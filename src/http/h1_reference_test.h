/* src/http/h1_reference_test.h
 *
 * For the tests and fuzzers of the HTTP/1 parser: the same verdicts from a second parser that takes one byte at
 * a time, keeps strings and knows no speed; a driver that feeds the real one in pieces, in memory that moves and
 * ends where it says; and a comparison of the two outcomes, field by field.
 */
#pragma once
#include "base/chain.h"
#include "base/must.h"
#include "http/h1.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* What came out, of either parser. Strings are malloc'd; fields is the pseudo fields, then the
 * others. */
struct text {
	char *p;
	size_t n;
};
struct outcome {
	enum h1_verdict verdict;
	unsigned status;
	const char *detail;
	size_t used;
	/* H1_DONE only, from here on */
	unsigned n, pseudo, code, minor;
	struct text *name, *value;
	struct text reason;
	bool has_reason, chunked, has_length, keep_alive, close, upgrade, te_trailers, expect,
		underscore;
	unsigned scheme;
	uint64_t length;
};

static inline void text_add(struct text *t, char c)
{
	if ((t->n & (t->n + 1)) == 0 || !t->p) {
		t->p = realloc(t->p, (t->n + 1) * 2 + 8);
		must(t->p);
	}
	t->p[t->n++] = c;
}
static inline struct text text_copy(const char *p, size_t n)
{
	struct text t = {malloc(n + 1), n};
	must(t.p);
	if (n)
		memcpy(t.p, p, n);
	t.p[n] = 0;
	return t;
}
static inline struct text text_of(const char *z)
{
	return text_copy(z, strlen(z));
}
static inline bool text_is(const struct text *t, const char *z)
{
	return t->n == strlen(z) && strncasecmp(t->p, z, t->n) == 0;
}
static inline void outcome_add(struct outcome *o, struct text name, struct text value)
{
	o->name = realloc(o->name, (o->n + 1) * sizeof *o->name);
	o->value = realloc(o->value, (o->n + 1) * sizeof *o->value);
	must(o->name && o->value);
	o->name[o->n] = name;
	o->value[o->n++] = value;
}
static inline void outcome_remove(struct outcome *o, unsigned i)
{
	free(o->name[i].p);
	free(o->value[i].p);
	o->n--;
	memmove(o->name + i, o->name + i + 1, (o->n - i) * sizeof *o->name);
	memmove(o->value + i, o->value + i + 1, (o->n - i) * sizeof *o->value);
}
static inline void outcome_free(struct outcome *o)
{
	while (o->n)
		outcome_remove(o, o->n - 1);
	free(o->name);
	free(o->value);
	free(o->reason.p);
	*o = (struct outcome){0};
}

/* ---- the reference */

enum ref_at {
	AT_BEGIN,
	AT_BEGIN_LF,
	AT_METHOD,
	AT_TARGET,
	AT_VERSION,
	AT_STATUS,
	AT_REASON,
	AT_REASON_LF,
	AT_LINE,
	AT_END_LF,
	AT_NAME,
	AT_VALUE,
	AT_VALUE_LF,
	AT_FOLD,
	AT_FOLD_LF
};
struct ref {
	const struct h1_limits *lim;
	bool response, pending, host_seen, te_seen, absolute, first;
	enum ref_at at;
	struct text method, target, version, name, value, fold, authority, path;
	unsigned fields;
	struct outcome o;
};

static inline bool ref_token(char c)
{
	return c && (isalnum((unsigned char)c) || strchr("!#$%&'*+-.^_`|~", c)) &&
	       (unsigned char)c < 128;
}
static inline bool ref_value(char c)
{
	unsigned char u = (unsigned char)c;
	return u == 9 || (u >= 32 && u != 127);
}
static inline bool ref_blank(char c)
{
	return c == 32 || c == 9;
}
static inline int ref_bad(struct ref *r, unsigned status, const char *detail)
{
	r->o.verdict = H1_BAD;
	r->o.status = r->response ? 502 : status;
	r->o.detail = detail;
	return -1;
}

static inline bool ref_authority(const char *p, size_t n)
{
	char buf[70000], *host = buf, *port = NULL;
	if (n == 0 || n >= sizeof buf || memchr(p, 0, n))
		return false;
	memcpy(buf, p, n);
	buf[n] = 0;
	if (*host == '[') {
		unsigned char a[16];
		char *close = strchr(host, ']');
		if (!close)
			return false;
		*close = 0;
		if (inet_pton(AF_INET6, host + 1, a) != 1)
			return false;
		if (close[1] == ':')
			port = close + 2;
		else if (close[1])
			return false;
	} else {
		port = strchr(host, ':');
		if (port)
			*port++ = 0;
		if (!*host)
			return false;
		for (char *c = host; *c; c++) {
			if (*c == '%') {
				if (!isxdigit((unsigned char)c[1]) ||
				    !isxdigit((unsigned char)c[2]))
					return false;
				c += 2;
			} else if ((unsigned char)*c >= 128 ||
				   (!isalnum((unsigned char)*c) && !strchr("-._~!$&'()*+;=", *c))) {
				return false;
			}
		}
	}
	if (!port)
		return true;
	return *port && strlen(port) <= 16 && strspn(port, "0123456789") == strlen(port) &&
	       strtoull(port, NULL, 10) <= 65535;
}

static inline int ref_target(struct ref *r)
{
	const char *t = r->target.p;
	size_t n = r->target.n;
	bool options = r->method.n == 7 && !memcmp(r->method.p, "OPTIONS", 7);
	if (r->method.n == 7 && !memcmp(r->method.p, "CONNECT", 7)) {
		size_t k = n;
		while (k && isdigit((unsigned char)t[k - 1]))
			k--;
		if (!k || k == n || t[k - 1] != ':' || !ref_authority(t, n))
			return ref_bad(r, 400, "http1.target");
		r->authority = text_copy(t, n);
		r->path = text_of("");
		r->absolute = true;
		return 0;
	}
	if (*t == '/' || (options && n == 1 && *t == '*')) {
		r->path = text_copy(t, n);
		return 0;
	}
	size_t skip = n > 7 && !strncasecmp(t, "http://", 7)    ? 7
		      : n > 8 && !strncasecmp(t, "https://", 8) ? 8
								: 0;
	if (!skip)
		return ref_bad(r, 400, "http1.target");
	size_t k = skip;
	while (k < n && t[k] != '/' && t[k] != '?')
		k++;
	if (!ref_authority(t + skip, k - skip))
		return ref_bad(r, 400, "http1.host");
	r->authority = text_copy(t + skip, k - skip);
	r->absolute = true;
	r->o.scheme = skip == 7 ? H1_SCHEME_HTTP : H1_SCHEME_HTTPS;
	if (k == n) {
		r->path = text_of(options ? "*" : "/");
		return 0;
	}
	if (t[k] == '?')
		text_add(&r->path, '/');
	for (; k < n; k++)
		text_add(&r->path, t[k]);
	return 0;
}

static inline int ref_version(struct ref *r, char c)
{
	const char *form = "HTTP/D.D\r\n";
	size_t i = r->version.n;
	if (form[i] == 'D' ? (c >= '0' && c <= '9') : c == form[i]) {
		text_add(&r->version, c);
		if (i < 9)
			return 0;
		if (r->version.p[5] != '1')
			return ref_bad(r, 505, "http1.version");
		r->o.minor = (unsigned)(r->version.p[7] - '0');
		r->at = AT_LINE;
		return 0;
	}
	if (c == '\n' || i == 9)
		return ref_bad(r, 400, "http1.line_end");
	if (i < 4)
		return ref_bad(r, 400,
			       c == tolower(form[i]) ? "http1.version" : "http1.start_line");
	if (i < 8 || (c >= '0' && c <= '9'))
		return ref_bad(r, 400, "http1.version");
	return ref_bad(r, 400, "http1.start_line");
}

static inline int ref_status(struct ref *r, char c)
{
	size_t i = r->version.n;
	bool digit = c >= '0' && c <= '9';
	if (i < 7 ? c != "HTTP/1."[i] : i == 7 && c != '0' && c != '1')
		return ref_bad(r, 0, "http1.version");
	if ((i == 8 && c != ' ') || (i == 9 && (c < '1' || c > '5')) || (i > 9 && i < 12 && !digit))
		return ref_bad(r, 0, "http1.start_line");
	text_add(&r->version, c);
	if (i < 12)
		return 0;
	r->o.minor = (unsigned)(r->version.p[7] - '0');
	r->o.code =
		(unsigned)atoi((char[4]){r->version.p[9], r->version.p[10], r->version.p[11], 0});
	if (c == '\n')
		return ref_bad(r, 0, "http1.line_end");
	if (c != '\r' && c != ' ')
		return ref_bad(r, 0, "http1.start_line");
	r->o.has_reason = c == ' ';
	r->at = c == ' ' ? AT_REASON : AT_REASON_LF;
	return 0;
}

static inline struct text ref_trim(const char *p, size_t n)
{
	while (n && ref_blank(p[n - 1]))
		n--;
	while (n && ref_blank(*p))
		p++, n--;
	return text_copy(p, n);
}

/* Next element of a comma list, or false; blanks are trimmed. */
static inline bool ref_item(const struct text *list, size_t *at, struct text *item)
{
	if (*at > list->n || list->n == 0)
		return false;
	size_t end = *at;
	while (end < list->n && list->p[end] != ',')
		end++;
	*item = ref_trim(list->p + *at, end - *at);
	*at = end + 1;
	return true;
}

static inline unsigned ref_coding(const struct text *v)
{
	struct text item;
	size_t at = 0;
	unsigned known = 0, chunked = 0, other = 0;
	bool last = false;
	while (ref_item(v, &at, &item)) {
		last = text_is(&item, "chunked");
		chunked += last;
		if (text_is(&item, "gzip") || text_is(&item, "x-gzip") ||
		    text_is(&item, "deflate") || text_is(&item, "compress") ||
		    text_is(&item, "x-compress"))
			known++;
		else
			other += !last && item.n;
		if (!item.n)
			last = chunked != 0; /* an empty element is none */
		free(item.p);
	}
	return known && chunked == 1 && last && !other ? 501 : 400;
}

/* 0: add the field, 1: drop it, -1: bad. */
static inline int ref_length(struct ref *r, const struct text *v)
{
	size_t zeros = 0;
	while (zeros < v->n && v->p[zeros] == '0')
		zeros++;
	bool ok = v->n && v->n - zeros <= 19, again = r->o.has_length;
	for (size_t i = 0; i < v->n; i++)
		ok &= v->p[i] >= '0' && v->p[i] <= '9';
	uint64_t n = ok ? strtoull(v->p, NULL, 10) : 0;
	if (!ok || n > INT64_MAX || (again && (!r->response || n != r->o.length)))
		return ref_bad(r, 400, "http1.content_length");
	if (r->te_seen && !r->response)
		return ref_bad(r, 400, "http1.cl_and_te");
	r->o.has_length = true;
	r->o.length = n;
	return again;
}

/* A line is complete: r->name, r->value. */
static inline int ref_field(struct ref *r)
{
	struct text name = text_copy(r->name.p, r->name.n), v = ref_trim(r->value.p, r->value.n);
	int ret = 0;
	r->fields++;
	r->pending = false;
	if (memchr(name.p, '_', name.n))
		r->o.underscore = true;
	if (!r->response && text_is(&name, "host")) {
		if (r->host_seen || !ref_authority(v.p, v.n)) {
			ret = ref_bad(r, 400, "http1.host");
		} else {
			r->host_seen = true;
			if (!r->absolute)
				r->authority = text_copy(v.p, v.n);
		}
		goto drop;
	}
	if (text_is(&name, "content-length")) {
		ret = ref_length(r, &v);
		if (ret) {
			ret = ret < 0 ? ret : 0;
			goto drop;
		}
	} else if (text_is(&name, "transfer-encoding")) {
		if (r->te_seen || r->o.minor == 0) {
			ret = ref_bad(r, 400, "http1.transfer_encoding");
			goto drop;
		}
		if (!text_is(&v, "chunked")) {
			ret = ref_bad(r, ref_coding(&v), "http1.transfer_encoding");
			goto drop;
		}
		if (r->o.has_length && !r->response) {
			ret = ref_bad(r, 400, "http1.cl_and_te");
			goto drop;
		}
		r->te_seen = r->o.chunked = true;
		if (!r->response)
			goto drop;
	} else if (text_is(&name, "te")) {
		struct text item;
		size_t at = 0;
		while (ref_item(&v, &at, &item)) {
			r->o.te_trailers |= text_is(&item, "trailers");
			free(item.p);
		}
	} else if (text_is(&name, "expect") && !r->response) {
		if (r->o.minor == 0)
			goto drop;
		if (!text_is(&v, "100-continue")) {
			ret = ref_bad(r, 417, "expect");
			goto drop;
		}
		r->o.expect = true;
	}
	outcome_add(&r->o, name, v);
	r->name.n = r->value.n = 0;
	return 0;
drop:
	free(name.p);
	free(v.p);
	r->name.n = r->value.n = 0;
	return ret;
}

static inline int ref_connection(struct ref *r)
{
	static const char *const kept[] = {
		"connection", "keep-alive",        "proxy-connection", "upgrade", "te",
		"trailer",    "transfer-encoding", "content-length",   "host",    "close"};
	struct outcome *o = &r->o;
	unsigned options = 0;
	bool has_upgrade = false;
	for (unsigned i = 0; i < o->n; i++)
		has_upgrade |= text_is(&o->name[i], "upgrade");
	for (unsigned i = 0; i < o->n; i++) {
		struct text item;
		size_t at = 0;
		if (!text_is(&o->name[i], "connection"))
			continue;
		struct text list = text_copy(o->value[i].p, o->value[i].n);
		while (ref_item(&list, &at, &item)) {
			bool keep = item.n == 0;
			bool wrong = text_is(&item, "host") || text_is(&item, "content-length") ||
				     text_is(&item, "transfer-encoding") ||
				     (item.n && item.p[0] == ':');
			options += item.n != 0;
			if (options > 100 || (wrong && !r->response)) {
				free(item.p);
				free(list.p);
				return ref_bad(r, 400, "http1.connection");
			}
			o->close |= text_is(&item, "close");
			o->keep_alive |= text_is(&item, "keep-alive");
			o->upgrade |= text_is(&item, "upgrade") && has_upgrade && o->minor > 0;
			for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
				keep |= text_is(&item, kept[k]);
			for (unsigned k = o->n; !keep && k-- > 0;) {
				if (o->name[k].n != item.n ||
				    strncasecmp(o->name[k].p, item.p, item.n))
					continue;
				outcome_remove(o, k);
				i -= k < i;
			}
			free(item.p);
		}
		free(list.p);
	}
	return 0;
}

static inline void outcome_insert(struct outcome *o, unsigned at, struct text name,
				  struct text value)
{
	outcome_add(o, name, value);
	for (unsigned i = o->n - 1; i > at; i--) {
		struct text t = o->name[i];
		o->name[i] = o->name[i - 1], o->name[i - 1] = t;
		t = o->value[i];
		o->value[i] = o->value[i - 1], o->value[i - 1] = t;
	}
	o->pseudo++;
}

static inline int ref_end(struct ref *r)
{
	struct outcome *o = &r->o;
	if (!r->response && !r->host_seen && o->minor > 0)
		return ref_bad(r, 400, "http1.host");
	if (ref_connection(r))
		return -1;
	if (o->minor == 0 && !o->keep_alive)
		o->close = true;
	if (r->response && o->chunked && o->has_length) {
		for (unsigned i = o->n; i-- > 0;)
			if (text_is(&o->name[i], "content-length"))
				outcome_remove(o, i);
		o->has_length = false;
		o->length = 0;
		o->close = true;
	}
	if (r->response) {
		outcome_insert(o, 0, text_of(":status"), text_copy(r->version.p + 9, 3));
	} else {
		unsigned at = 0;
		if (r->authority.p)
			outcome_insert(o, at++, text_of(":authority"),
				       text_copy(r->authority.p, r->authority.n));
		outcome_insert(o, at++, text_of(":path"), text_copy(r->path.p, r->path.n));
		outcome_insert(o, at++, text_of(":method"), text_copy(r->method.p, r->method.n));
		outcome_insert(o, at, text_of(":scheme"), text_of(""));
	}
	o->verdict = H1_DONE;
	return 1;
}

static inline int ref_value_byte(struct ref *r, char c)
{
	if (c == '\r') {
		r->at = r->at == AT_FOLD ? AT_FOLD_LF : AT_VALUE_LF;
		return 0;
	}
	bool digit_ok = (c >= '0' && c <= '9') || ref_blank(c);
	bool host_ok = c && (unsigned char)c < 128 &&
		       (isalnum((unsigned char)c) || strchr("-._~!$&'()*+;=%:[] \t", c));
	/* A byte that is no value byte ends the value: those before it have been judged one by
	 * one. */
	if (ref_value(c) && !r->response) {
		if (text_is(&r->name, "content-length") && !digit_ok)
			return ref_bad(r, 400, "http1.content_length");
		if (text_is(&r->name, "host") && !host_ok)
			return ref_bad(r, 400, "http1.host");
	}
	if (!ref_value(c))
		return ref_bad(r, 400, c == '\n' ? "http1.line_end" : "http1.field_value");
	text_add(r->at == AT_FOLD ? &r->fold : &r->value, c);
	return 0;
}

/* 0: go on, 1: complete, -1: bad.
 *
 * long: one case per place in the grammar. */
static inline int ref_byte(struct ref *r, char c)
{
	unsigned status = 400;
	switch (r->at) {
	case AT_BEGIN:
		if (c == '\r' && r->first) {
			r->first = false;
			r->at = AT_BEGIN_LF;
			return 0;
		}
		if (!ref_token(c))
			return ref_bad(r, 400,
				       c == '\n'   ? "http1.line_end"
				       : c == '\r' ? "http1.start_line"
						   : "http1.not_http");
		r->at = AT_METHOD;
		__attribute__((fallthrough));
	case AT_METHOD:
		if (ref_token(c)) {
			text_add(&r->method, c);
			return r->method.n > r->lim->method ? ref_bad(r, 501, "http1.too_large")
							    : 0;
		}
		if (c != ' ')
			return ref_bad(r, 400, c == '\n' ? "http1.line_end" : "http1.start_line");
		r->at = AT_TARGET;
		return 0;
	case AT_BEGIN_LF:
		r->at = AT_BEGIN;
		return c == '\n' ? 0 : ref_bad(r, 400, "http1.line_end");
	case AT_TARGET:
		if (c > 0x20 && c < 0x7f && c != '#') {
			text_add(&r->target, c);
			return r->target.n > r->lim->target ? ref_bad(r, 414, "http1.too_large")
							    : 0;
		}
		if (c == '\n')
			return ref_bad(r, 400, "http1.line_end");
		if (c == '\r' && r->target.n)
			return ref_bad(r, 400, "http1.version");
		if (c != ' ' || !r->target.n)
			return ref_bad(r, 400, "http1.start_line");
		r->at = AT_VERSION;
		return ref_target(r);
	case AT_VERSION: return ref_version(r, c);
	case AT_STATUS: return ref_status(r, c);
	case AT_REASON:
		if (ref_value(c)) {
			text_add(&r->o.reason, c);
			return 0;
		}
		r->at = AT_REASON_LF;
		return c == '\r' ? 0
				 : ref_bad(r, 0, c == '\n' ? "http1.line_end" : "http1.start_line");
	case AT_REASON_LF: r->at = AT_LINE; return c == '\n' ? 0 : ref_bad(r, 0, "http1.line_end");
	case AT_LINE:
		if (r->pending && ref_blank(c)) {
			r->at = AT_FOLD;
			r->fold.n = 0;
			return 0;
		}
		if (r->pending && ref_field(r))
			return -1;
		if (c == '\r') {
			r->at = AT_END_LF;
			return 0;
		}
		r->at = AT_NAME;
		__attribute__((fallthrough));
	case AT_NAME:
		if (ref_token(c)) {
			text_add(&r->name, c);
			return r->name.n > r->lim->name ? ref_bad(r, 431, "http1.too_large") : 0;
		}
		if (c == ':' && r->name.n) {
			r->at = AT_VALUE;
			return r->fields >= r->lim->fields ? ref_bad(r, 431, "http1.too_large") : 0;
		}
		if (c == '\n' || (ref_blank(c) && !r->name.n && r->fields))
			return ref_bad(r, status, "http1.line_end");
		return ref_bad(r, status, "http1.field_name");
	case AT_END_LF: return c == '\n' ? ref_end(r) : ref_bad(r, status, "http1.line_end");
	case AT_VALUE:
	case AT_FOLD: return ref_value_byte(r, c);
	case AT_VALUE_LF:
		if (c != '\n')
			return ref_bad(r, status, "http1.field_value");
		r->at = AT_LINE;
		if (!r->response)
			return ref_field(r);
		r->pending = true;
		return 0;
	case AT_FOLD_LF: {
		if (c != '\n')
			return ref_bad(r, status, "http1.field_value");
		struct text a = ref_trim(r->value.p, r->value.n),
			    b = ref_trim(r->fold.p, r->fold.n);
		r->value.n = 0;
		for (size_t i = 0; i < a.n; i++)
			text_add(&r->value, a.p[i]);
		if (a.n && b.n)
			text_add(&r->value, ' ');
		for (size_t i = 0; i < b.n; i++)
			text_add(&r->value, b.p[i]);
		free(a.p);
		free(b.p);
		r->at = AT_LINE;
		return 0;
	}
	default: return -1;
	}
}

static inline struct outcome ref_parse(const struct h1_limits *lim, bool response, const char *p,
				       size_t n)
{
	struct ref r = {.lim = lim,
			.response = response,
			.first = true,
			.at = response ? AT_STATUS : AT_BEGIN};
	int ret = 0;
	size_t i = 0;
	r.o.verdict = H1_MORE;
	while (i < n && i < lim->head && ret == 0)
		ret = ref_byte(&r, p[i++]);
	if (ret == 0 && i >= lim->head)
		ref_bad(&r, 431, "http1.too_large");
	r.o.used = i;
	free(r.method.p);
	free(r.target.p);
	free(r.version.p);
	free(r.name.p);
	free(r.value.p);
	free(r.fold.p);
	free(r.authority.p);
	free(r.path.p);
	return r.o;
}

/* ---- the real one, fed in pieces */

/* Where to stop and call the parser: next(arg, at, n) gives a position in (at, n]. */
typedef size_t (*cut_fn)(void *arg, size_t at, size_t n);

static inline size_t cut_never(void *arg, size_t at, size_t n)
{
	return n;
}
static inline size_t cut_always(void *arg, size_t at, size_t n)
{
	return at + 1;
}
/* arg: size_t, the one place. */
static inline size_t cut_once(void *arg, size_t at, size_t n)
{
	size_t k = *(size_t *)arg;
	return at < k && k < n ? k : n;
}

static inline void outcome_take(struct outcome *o, const struct h1_parse *st, const struct head *h)
{
	o->pseudo = h->pseudo;
	o->code = h->status;
	o->minor = h->minor;
	o->chunked = st->chunked;
	o->has_length = st->has_length;
	o->length = st->length;
	o->keep_alive = st->keep_alive;
	o->close = st->close;
	o->upgrade = st->upgrade;
	o->te_trailers = st->te_trailers;
	o->expect = st->expect_continue;
	o->underscore = st->underscore;
	o->scheme = st->target_scheme;
	o->has_reason = h->reason.p != NULL;
	o->reason = text_copy(h->reason.p, h->reason.n);
	uint64_t has[2] = {0, 0};
	for (unsigned i = 0; i < h->n; i++) {
		const struct field *f = &h->f[i];
		must(f->id == name_id(f->name_p, f->name_n));
		must((i < h->pseudo) == (f->name_p[0] == ':'));
		has[f->id / 64] |= (uint64_t)1 << f->id % 64;
		outcome_add(o, text_copy(f->name_p, f->name_n), text_copy(f->value_p, f->value_n));
	}
	must((h->has[0] | 1) == (has[0] | 1) && h->has[1] == has[1]);
	must(h->method == (unsigned)method_of(head_value(h, FIELD_METHOD)));
}

/* Every call sees its bytes in a block of their own, with the slack the header promises and not one more, at
 * another address than before when move is set. */
static inline struct outcome run_parser(const struct h1_limits *lim, bool response, const char *p,
					size_t n, bool move, cut_fn cut, void *arg)
{
	struct outcome o = {.verdict = H1_MORE};
	struct h1_parse st = {0};
	struct arena a;
	struct head h;
	char *all = move ? NULL : malloc(n + CHUNK_SLACK), *buf = all;
	size_t at = 0;
	arena_init(&a, SIZE_MAX);
	must(head_init(&h, &a, response, 8));
	while (o.verdict == H1_MORE && at < n) {
		size_t to = cut(arg, at, n), used = 0;
		if (move) {
			char *next = malloc(to + CHUNK_SLACK);
			must(next);
			if (at)
				memcpy(next, buf, at);
			memset(next + to, 'x', CHUNK_SLACK);
			if (buf)
				h1_moved(&h, buf, at, next);
			free(buf);
			buf = next;
		}
		memcpy(buf + at, p + at, to - at);
		if (!move && to + CHUNK_SLACK <= n)
			memset(buf + to, 'x', CHUNK_SLACK);
		o.verdict = response ? h1_parse_response(&st, lim, buf, to, &h, &used)
				     : h1_parse_request(&st, lim, buf, to, &h, &used);
		o.used = used;
		at = to;
	}
	if (o.verdict == H1_BAD) {
		o.status = st.status;
		o.detail = st.detail;
	}
	if (o.verdict == H1_DONE)
		outcome_take(&o, &st, &h);
	free(buf);
	arena_fini(&a);
	return o;
}

/* Dies with both outcomes when they differ. */
static inline void outcome_same(const struct outcome *a, const struct outcome *b, const char *p,
				size_t n)
{
	const char *what = NULL;
#define SAME(x)            \
	if (!what && !(x)) \
	what = #x
	SAME(a->verdict == b->verdict);
	if (a->verdict == H1_BAD && !what) {
		SAME(a->status == b->status);
		SAME(!strcmp(a->detail, b->detail));
	}
	if (a->verdict == H1_DONE && !what) {
		SAME(a->used == b->used);
		SAME(a->code == b->code);
		SAME(a->minor == b->minor);
		SAME(a->chunked == b->chunked);
		SAME(a->has_length == b->has_length);
		SAME(a->length == b->length);
		SAME(a->keep_alive == b->keep_alive);
		SAME(a->close == b->close);
		SAME(a->upgrade == b->upgrade);
		SAME(a->te_trailers == b->te_trailers);
		SAME(a->expect == b->expect);
		SAME(a->underscore == b->underscore);
		SAME(a->scheme == b->scheme);
		SAME(a->has_reason == b->has_reason);
		SAME(a->reason.n == b->reason.n &&
		     (!a->reason.n || !memcmp(a->reason.p, b->reason.p, a->reason.n)));
		SAME(a->n == b->n && a->pseudo == b->pseudo);
		for (unsigned i = 0; !what && i < a->n; i++) {
			SAME(a->name[i].n == b->name[i].n &&
			     !memcmp(a->name[i].p, b->name[i].p, a->name[i].n));
			SAME(a->value[i].n == b->value[i].n &&
			     !memcmp(a->value[i].p, b->value[i].p, a->value[i].n));
		}
	}
#undef SAME
	if (!what)
		return;
	fprintf(stderr,
		"differs: %s\n%d %u %s used %zu fields %u, expected %d %u %s used %zu fields "
		"%u\ninput: ",
		what, a->verdict, a->status, a->detail ? a->detail : "", a->used, a->n, b->verdict,
		b->status, b->detail ? b->detail : "", b->used, b->n);
	for (size_t i = 0; i < n && i < 2000; i++) {
		unsigned char c = (unsigned char)p[i];
		fprintf(stderr, c >= 32 && c < 127 && c != '\\' ? "%c" : "\\x%02x", c);
	}
	fprintf(stderr, "\n");
	abort();
}

/* b is what a became when it was written and parsed: the same but for fields that the codec
 * owns. */
static inline void same_message(const struct head *a, const struct head *b)
{
	unsigned i, k = b->pseudo;
	must(a->pseudo == b->pseudo && a->method == b->method && a->status == b->status);
	for (i = 0; i < a->pseudo; i++) {
		must(str_eq(field_name(&a->f[i]), field_name(&b->f[i])));
		must(str_eq(field_value(&a->f[i]), field_value(&b->f[i])));
	}
	for (;; i++, k++) {
		while (i < a->n && name_infos[a->f[i].id].flags & (NAME_HOP | NAME_FRAMING))
			i++;
		while (k < b->n && name_infos[b->f[k].id].flags & (NAME_HOP | NAME_FRAMING))
			k++;
		must((i < a->n) == (k < b->n));
		if (i == a->n)
			return;
		must(str_eq(field_name(&a->f[i]), field_name(&b->f[k])));
		must(str_eq(field_value(&a->f[i]), field_value(&b->f[k])));
	}
}

/* Parses, writes what came out as postern would forward it, parses that: the same message, or it
 * dies. */
static inline void check_round_trip(const struct h1_limits *lim, bool response, const char *p,
				    size_t n)
{
	struct h1_parse st = {0}, st2 = {0};
	struct arena a;
	struct head h, h2;
	size_t used, used2;
	char *buf = malloc(n + CHUNK_SLACK);
	memcpy(buf, p, n);
	arena_init(&a, SIZE_MAX);
	must(head_init(&h, &a, response, 8) && head_init(&h2, &a, response, 8));
	enum h1_verdict v = response ? h1_parse_response(&st, lim, buf, n, &h, &used)
				     : h1_parse_request(&st, lim, buf, n, &h, &used);
	if (v != H1_DONE || (!response && !head_value(&h, FIELD_AUTHORITY).p))
		goto out; /* without a Host it is not forwarded */
	must(used <= n && h.bytes == used);
	enum h1_framing framing =
		response ? h1_response_framing(&st, &h, METHOD_GET) : h1_request_framing(&st, &h);
	struct h1_out o = {.framing = framing,
			   .length_known = st.has_length,
			   .length = st.length,
			   .close = st.close,
			   .upgrade = st.upgrade ? STR("websocket") : (struct str){NULL, 0},
			   .te_trailers = st.te_trailers};
	size_t room = h1_head_size(&h, &o);
	char *out = malloc(room + CHUNK_SLACK);
	size_t wrote = response ? h1_write_response(out, &h, &o) : h1_write_request(out, &h, &o);
	must(wrote <= room);
	v = response ? h1_parse_response(&st2,
					 &(struct h1_limits){.head = UINT32_MAX,
							     .fields = 20000,
							     .target = UINT32_MAX,
							     .method = 300,
							     .name = UINT32_MAX},
					 out, wrote, &h2, &used2)
		     : h1_parse_request(&st2,
					&(struct h1_limits){.head = UINT32_MAX,
							    .fields = 20000,
							    .target = UINT32_MAX,
							    .method = 300,
							    .name = UINT32_MAX},
					out, wrote, &h2, &used2);
	if (v != H1_DONE)
		fprintf(stderr, "written, refused: %s\n%.*s\n", st2.detail, (int)wrote, out);
	must(v == H1_DONE && used2 == wrote);
	bool bare = response && (h.status == 204 ||
				 h.status / 100 == 1); /* nothing about a body is said there */
	must(bare || st2.chunked == (framing == H1_CHUNKED));
	must(bare || (st2.has_length == st.has_length && st2.length == st.length));
	must(st2.close == st.close);
	must(st2.upgrade == st.upgrade && st2.te_trailers == st.te_trailers);
	must(framing == (response ? h1_response_framing(&st2, &h2, METHOD_GET)
				  : h1_request_framing(&st2, &h2)));
	same_message(&h, &h2);
	free(out);
out:
	free(buf);
	arena_fini(&a);
}

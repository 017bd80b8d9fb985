/* src/filters/lua/lint.c
 *
 * One walk over the tokens from front to back. Hooks give the handle its name; variables that hold objects, copied headers and results of
 * calls are followed by name. Waiting is followed along branches, as far as blocks show them.
 */
#include "filters/lua/lint_int.h"
#include <stdio.h>
#include <stdlib.h>

enum { VARS = 64, BLOCKS = 64, ARGS = 8, HANDLES = 8 };

enum var_kind {
	VAR_OTHER,
	VAR_OBJECT,
	VAR_HEADERS,
	VAR_COPY /* of headers, or found in metadata */,
	VAR_RESULT /* httpCall's headers */,
	VAR_STATUS /* made of VAR_RESULT[":status"] */,
	VAR_FIXED, /* a table with a literal :method */
	VAR_METHOD /* the client's */
};
struct var {
	struct str name;
	uint8_t kind;
	bool told;
	uint32_t at; /* token behind the assignment */
};
struct block {
	uint32_t end;          /* token */
	uint32_t wait, branch; /* the last wait before it; the latest of branches that go on */
	bool is_if, left;      /* left: this branch ends in return or break */
};
struct fallback { /* what the response hook does, for the article's pattern */
	bool asks_404, replaces, sets_body, checks;
	struct str cluster, timeout;
	uint32_t call; /* token */
};
struct lint {
	const struct lint_env *env;
	const struct tokens *k;
	struct str handles[HANDLES];
	unsigned nhandles;
	struct var vars[VARS];
	unsigned nvars;
	struct block blocks[BLOCKS];
	unsigned nblocks;
	uint32_t wait;         /* token of the last call on this path that may wait; 0: none */
	uint32_t response_end; /* the response hook lasts to here; 0: not in it */
	uint32_t called;       /* token of the first httpCall of this hook that waits; 0: none */
	uint32_t whole;        /* token of its first body(): behind it the message is there */
	struct fallback f;
};

/* --- tokens --- */

static const struct token *at(const struct lint *l, uint32_t i)
{
	return &l->k->t[i < l->k->n ? i : l->k->n];
}

static bool is_op(const struct lint *l, uint32_t i, char op)
{
	return at(l, i)->kind == TOKEN_OP && at(l, i)->op == op;
}

static bool is_key(const struct lint *l, uint32_t i, enum token_key key)
{
	return at(l, i)->kind == TOKEN_KEY && at(l, i)->key == key;
}

static bool is_name(const struct lint *l, uint32_t i, const char *name)
{
	return at(l, i)->kind == TOKEN_NAME && str_eq(at(l, i)->value, str_of(name));
}

static bool is_text(const struct lint *l, uint32_t i, const char *text)
{
	return at(l, i)->kind == TOKEN_STRING && str_eq(at(l, i)->value, str_of(text));
}

static void say(const struct lint *l, enum diag_level level, uint32_t i, const char *hint,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static void say(const struct lint *l, enum diag_level level, uint32_t i, const char *hint,
		const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	l->env->say(l->env->arg, level, at(l, i)->line, at(l, i)->column, text, hint);
}

/* --- names --- */

static const char *const handle_methods[] = {"headers",
					     "requestHeaders",
					     "body",
					     "bodyChunks",
					     "trailers",
					     "httpCall",
					     "respond",
					     "metadata",
					     "filterContext",
					     "virtualHost",
					     "route",
					     "streamInfo",
					     "connection",
					     "connectionStreamInfo",
					     "setUpstreamOverrideHost",
					     "clearRouteCache",
					     "importPublicKey",
					     "verifySignature",
					     "base64Escape",
					     "base64Decode",
					     "timestamp",
					     "timestampString",
					     "stats",
					     "logTrace",
					     "logDebug",
					     "logInfo",
					     "logWarn",
					     "logErr",
					     "logCritical",
					     NULL};
/* Methods that give objects. */
static const char *const object_methods[] = {"headers",
					     "requestHeaders",
					     "body",
					     "trailers",
					     "metadata",
					     "filterContext",
					     "virtualHost",
					     "route",
					     "streamInfo",
					     "connection",
					     "connectionStreamInfo",
					     "stats",
					     "dynamicMetadata",
					     "filterState",
					     "ssl",
					     "downstreamSslConnection",
					     NULL};
static const char *const member_methods[] = {"get",
					     "getAtIndex",
					     "getNumValues",
					     "add",
					     "replace",
					     "remove",
					     "setHttp1ReasonPhrase",
					     "length",
					     "getBytes",
					     "setBytes",
					     "set",
					     "dynamicMetadata",
					     "dynamicTypedMetadata",
					     "filterState",
					     "protocol",
					     "routeName",
					     "virtualClusterName",
					     "downstreamLocalAddress",
					     "downstreamDirectLocalAddress",
					     "downstreamDirectRemoteAddress",
					     "downstreamRemoteAddress",
					     "requestedServerName",
					     "downstreamSslConnection",
					     "drainConnectionUponCompletion",
					     "ssl",
					     "counter",
					     "gauge",
					     "histogram",
					     "inc",
					     "value",
					     NULL};

static bool among(struct str name, const char *const *list)
{
	for (; *list; list++)
		if (str_eq(name, str_of(*list)))
			return true;
	return false;
}

static bool is_handle(const struct lint *l, uint32_t i)
{
	if (at(l, i)->kind != TOKEN_NAME)
		return false;
	for (unsigned h = 0; h < l->nhandles; h++)
		if (str_eq(l->handles[h], at(l, i)->value))
			return true;
	return false;
}

static struct var *var_of(struct lint *l, uint32_t i)
{
	if (at(l, i)->kind != TOKEN_NAME)
		return NULL;
	for (unsigned v = 0; v < l->nvars; v++)
		if (str_eq(l->vars[v].name, at(l, i)->value))
			return &l->vars[v];
	return NULL;
}

static bool var_is(struct lint *l, uint32_t i, enum var_kind kind)
{
	const struct var *v = var_of(l, i);
	return v && v->kind == kind;
}

static void var_set(struct lint *l, uint32_t name, enum var_kind kind, uint32_t behind)
{
	struct var *v = var_of(l, name);
	if (!v && kind == VAR_OTHER)
		return;
	if (!v && l->nvars < VARS)
		v = &l->vars[l->nvars++];
	if (v)
		*v = (struct var){.name = at(l, name)->value, .kind = kind, .at = behind};
}

/* The hooks' first parameters are what everything hangs on. */
static void find_handles(struct lint *l)
{
	for (uint32_t i = 0; i < l->k->n; i++) {
		uint32_t p = 0;
		if (!is_name(l, i, "envoy_on_request") && !is_name(l, i, "envoy_on_response"))
			continue;
		if (i && is_key(l, i - 1, KEY_FUNCTION) && is_op(l, i + 1, '('))
			p = i + 2;
		else if (is_op(l, i + 1, '=') && is_key(l, i + 2, KEY_FUNCTION) &&
			 is_op(l, i + 3, '('))
			p = i + 4;
		if (p && at(l, p)->kind == TOKEN_NAME && !is_handle(l, p) && l->nhandles < HANDLES)
			l->handles[l->nhandles++] = at(l, p)->value;
	}
}

/* --- calls --- */

/* Arguments of the call whose ( is at open: each begins at arg[i]; arg[n] is the ). */
static unsigned arguments(const struct lint *l, uint32_t open, uint32_t arg[ARGS + 1])
{
	uint32_t close = at(l, open)->mate, i = open + 1;
	unsigned n = 0;
	if (i == close) {
		arg[0] = close;
		return 0;
	}
	arg[n++] = i;
	for (; i < close; i++) {
		if (at(l, i)->mate > i)
			i = at(l, i)->mate;
		else if (is_op(l, i, ',') && n < ARGS)
			arg[n++] = i + 1;
	}
	arg[n] = close + 1; /* behind the ), as if it were a comma */
	return n;
}

static bool has_true(const struct lint *l, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		if (is_name(l, i, "asynchronous") &&
		    (is_op(l, i + 1, '=') || (is_op(l, i + 1, ']') && is_op(l, i + 2, '='))))
			return is_key(l, i + 2, KEY_TRUE) || is_key(l, i + 3, KEY_TRUE);
	return false;
}

/* Token i is the name of a method called with `:` on a handle, and the call may wait. */
static bool may_wait(const struct lint *l, uint32_t i)
{
	uint32_t arg[ARGS + 1];
	if (i < 2 || !is_op(l, i - 1, ':') || !is_op(l, i + 1, '(') || !is_handle(l, i - 2))
		return false;
	if (is_name(l, i, "body") || is_name(l, i, "trailers"))
		return !l->whole || i <= l->whole;
	if (!is_name(l, i, "httpCall"))
		return false;
	unsigned n = arguments(l, i + 1, arg);
	if (n >= 5 && is_key(l, arg[4], KEY_TRUE) && arg[4] + 2 == arg[5])
		return false;
	return n < 4 || !has_true(l, arg[3], arg[n]);
}

static bool waits_within(const struct lint *l, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		if (may_wait(l, i))
			return true;
	return false;
}

/* A chain of calls that begins at the name i: h:a(...):b(...). */
struct chain_of {
	uint32_t last; /* its last method's name; 0: no call */
	uint32_t end;  /* the first token behind it */
	bool indexed;  /* something was taken out of what it gave */
};
static struct chain_of follow(const struct lint *l, uint32_t i)
{
	struct chain_of c = {0, i + 1, false};
	for (;;) {
		uint32_t e = c.end;
		if (is_op(l, e, ':') && at(l, e + 1)->kind == TOKEN_NAME && is_op(l, e + 2, '(') &&
		    !c.indexed) {
			c.last = e + 1;
			c.end = at(l, e + 2)->mate + 1;
		} else if (is_op(l, e, '[')) {
			c.indexed = true;
			c.end = at(l, e)->mate + 1;
		} else if (is_op(l, e, '.') && at(l, e + 1)->kind == TOKEN_NAME) {
			c.indexed = true;
			c.end = e + 2;
		} else {
			return c;
		}
	}
}

/* --- what is assigned --- */

enum sent_method { SENT_NONE, SENT_LITERAL, SENT_CLIENTS, SENT_UNKNOWN };

/* What stands for :method in the table that begins at open. */
static enum sent_method method_in(struct lint *l, uint32_t open)
{
	for (uint32_t i = open + 1; i < at(l, open)->mate; i++) {
		if (!is_text(l, i, ":method") || !is_op(l, i + 1, ']') || !is_op(l, i + 2, '='))
			continue;
		if (at(l, i + 3)->kind == TOKEN_STRING)
			return SENT_LITERAL;
		if (var_is(l, i + 3, VAR_METHOD))
			return SENT_CLIENTS;
		for (uint32_t t = i + 3; t < at(l, open)->mate && !is_op(l, t, ','); t++)
			if (is_text(l, t, ":method"))
				return SENT_CLIENTS;
		return SENT_UNKNOWN;
	}
	return SENT_NONE;
}

/* Of an expression that begins at i; *end is behind what was understood of it. */
static enum var_kind kind_of(struct lint *l, uint32_t i, uint32_t *end)
{
	*end = i;
	while (is_name(l, i, "tonumber") && is_op(l, i + 1, '('))
		i += 2;
	if (is_op(l, i, '{')) {
		*end = at(l, i)->mate;
		return method_in(l, i) == SENT_LITERAL   ? VAR_FIXED
		       : method_in(l, i) == SENT_CLIENTS ? VAR_COPY
							 : VAR_OTHER;
	}
	const struct var *v = var_of(l, i);
	if (v && v->kind == VAR_RESULT && is_op(l, i + 1, '[') && is_text(l, i + 2, ":status"))
		return VAR_STATUS;
	if (!is_handle(l, i) && !(v && (v->kind == VAR_OBJECT || v->kind == VAR_HEADERS)))
		return VAR_OTHER;
	struct chain_of c = follow(l, i);
	if (!c.last)
		return VAR_OTHER;
	*end = c.end - 1;
	struct str name = at(l, c.last)->value;
	if (c.indexed)
		return str_eq(name, STR("get")) ? VAR_COPY : VAR_OTHER;
	if (str_eq(name, STR("httpCall")))
		return VAR_RESULT;
	if (str_eq(name, STR("headers")) || str_eq(name, STR("requestHeaders")) ||
	    str_eq(name, STR("trailers")))
		return VAR_HEADERS;
	if (str_eq(name, STR("get")) && is_text(l, c.last + 2, ":method"))
		return VAR_METHOD;
	return among(name, object_methods) ? VAR_OBJECT : VAR_OTHER;
}

/* `=` at i, with names before it. */
static void assignment(struct lint *l, uint32_t i)
{
	uint32_t name = i - 1, end;
	if (i == 0 || at(l, name)->kind != TOKEN_NAME ||
	    (name && (is_op(l, name - 1, '.') || is_op(l, name - 1, ':'))))
		return;
	while (name >= 2 && is_op(l, name - 1, ',') && at(l, name - 2)->kind == TOKEN_NAME)
		name -= 2; /* the first of several takes the expression */
	enum var_kind kind = kind_of(l, i + 1, &end);
	for (uint32_t other = name + 2; other < i; other += 2)
		var_set(l, other, VAR_OTHER, end);
	var_set(l, name, kind, end);
}

/* --- the single checks --- */

static void check_cluster(struct lint *l, uint32_t name)
{
	char hint[300] = "";
	struct str s = at(l, name)->value;
	if (memchr(s.p, '\\', s.n) || l->env->cluster_known(l->env->arg, s))
		return;
	const char *near = diag_nearest(s, l->env->clusters);
	if (near)
		snprintf(hint, sizeof hint, "did you mean \"%s\"?", near);
	say(l, DIAG_WARNING, name, hint,
	    "httpCall names the cluster \"%.*s\", which the configuration does not have: the call "
	    "raises an error",
	    s.n > 100 ? 100 : (int)s.n, s.p);
}

/* The third argument is no body at all, and the second a request that is not the script's own. */
static void check_call_body(struct lint *l, uint32_t name, const uint32_t *arg, unsigned n)
{
	bool none = n < 3 || ((is_text(l, arg[2], "") || is_key(l, arg[2], KEY_NIL)) &&
			      arg[2] + 2 == arg[3]);
	if (!none || n < 2)
		return;
	bool passed_on = var_is(l, arg[1], VAR_COPY) && arg[1] + 2 == arg[2];
	if (is_op(l, arg[1], '{'))
		passed_on = method_in(l, arg[1]) == SENT_CLIENTS;
	if (passed_on)
		say(l, DIAG_WARNING, name,
		    "read it with body() in the request hook and give it as the third argument, or "
		    "call for GET and HEAD only",
		    "httpCall repeats the client's request without its body: a POST arrives empty, "
		    "with content-length: 0");
}

static void check_call(struct lint *l, uint32_t name)
{
	uint32_t arg[ARGS + 1];
	unsigned n = arguments(l, name + 1, arg);
	bool literal = n && at(l, arg[0])->kind == TOKEN_STRING && arg[0] + 2 == arg[1];
	if (literal)
		check_cluster(l, arg[0]);
	check_call_body(l, name, arg, n);
	if (l->response_end && literal && may_wait(l, name)) {
		l->f.cluster = at(l, arg[0])->value;
		l->f.call = name;
		if (n > 3 && at(l, arg[3])->kind == TOKEN_NUMBER && arg[3] + 2 == arg[4])
			l->f.timeout = at(l, arg[3])->value;
	}
}

/* `.` at i in the place of a `:`. */
static void check_dot(struct lint *l, uint32_t i)
{
	const struct var *v = i ? var_of(l, i - 1) : NULL;
	struct str method = at(l, i + 1)->value;
	bool object = v && (v->kind == VAR_OBJECT || v->kind == VAR_HEADERS);
	if (at(l, i + 1)->kind != TOKEN_NAME || !is_op(l, i + 2, '(') || i == 0)
		return;
	if (is_op(l, i - 1, ')')) { /* h:headers().get(...) */
		uint32_t open = at(l, i - 1)->mate;
		object = open >= 2 && is_op(l, open - 2, ':') &&
			 among(at(l, open - 1)->value, object_methods);
		if (!object || !among(method, member_methods))
			return;
		say(l, DIAG_WARNING, i, "",
		    "\".%.*s(\" calls the method without its object and raises an error: write "
		    "\":%.*s(\"",
		    STR_ARG(method), STR_ARG(method));
		return;
	}
	if (!(is_handle(l, i - 1) && among(method, handle_methods)) &&
	    !(object && among(method, member_methods)))
		return;
	if (i >= 2 && (is_op(l, i - 2, '.') || is_op(l, i - 2, ':')))
		return;
	if (at(l, i + 3)->kind == TOKEN_NAME && str_eq(at(l, i + 3)->value, at(l, i - 1)->value))
		return; /* gives the object itself */
	struct str name = at(l, i - 1)->value;
	say(l, DIAG_WARNING, i, "",
	    "\"%.*s.%.*s(\" calls the method without its object and raises an error: write "
	    "\"%.*s:%.*s(\"",
	    STR_ARG(name), STR_ARG(method), STR_ARG(name), STR_ARG(method));
}

static void check_method(struct lint *l, uint32_t colon)
{
	char hint[80] = "";
	struct str method = at(l, colon + 1)->value;
	if (at(l, colon + 1)->kind != TOKEN_NAME || !is_op(l, colon + 2, '(') || colon == 0 ||
	    !is_handle(l, colon - 1) || among(method, handle_methods))
		return;
	if (colon >= 2 && (is_op(l, colon - 2, '.') || is_op(l, colon - 2, ':')))
		return;
	const char *near = diag_nearest(method, handle_methods);
	if (near)
		snprintf(hint, sizeof hint, "did you mean \"%s\"?", near);
	say(l, DIAG_WARNING, colon + 1, hint, "the stream handle has no method \"%.*s\"",
	    method.n > 60 ? 60 : (int)method.n, method.p);
}

/* for K, V in pairs(HEADERS) do ... T[K] = V ... end */
static void check_copy(struct lint *l, uint32_t i)
{
	uint32_t k = i + 1, v = i + 3, open = i + 6;
	if (at(l, k)->kind != TOKEN_NAME || !is_op(l, i + 2, ',') || at(l, v)->kind != TOKEN_NAME ||
	    !is_key(l, i + 4, KEY_IN) || !is_name(l, i + 5, "pairs") || !is_op(l, open, '('))
		return;
	uint32_t end;
	if (!var_is(l, open + 1, VAR_HEADERS) && kind_of(l, open + 1, &end) != VAR_HEADERS)
		return;
	uint32_t from = at(l, open)->mate + 1, to = at(l, from)->mate, stored = 0;
	unsigned uses = 0;
	if (!is_key(l, from, KEY_DO))
		return;
	for (uint32_t t = from + 1; t + 3 < to; t++) {
		if (at(l, t)->kind != TOKEN_NAME || !is_op(l, t + 1, '[') ||
		    at(l, t + 2)->kind != TOKEN_NAME ||
		    !str_eq(at(l, t + 2)->value, at(l, k)->value) || !is_op(l, t + 3, ']'))
			continue;
		uses++;
		if (is_op(l, t + 4, '=') && at(l, t + 5)->kind == TOKEN_NAME &&
		    str_eq(at(l, t + 5)->value, at(l, v)->value))
			stored = t;
	}
	if (!stored)
		return;
	var_set(l, stored, VAR_COPY, to);
	if (uses == 1)
		say(l, DIAG_WARNING, stored,
		    "keep a list for each name: httpCall and respond take tables of values",
		    "the table keeps one value of each name: of repeated fields (cookie, "
		    "set-cookie, x-forwarded-for) all but the last are lost");
}

/* An object at i, made before the script last waited. */
static void check_stale(struct lint *l, uint32_t i)
{
	struct var *v = var_of(l, i);
	if (!v || (v->kind != VAR_OBJECT && v->kind != VAR_HEADERS) || v->told || l->wait <= v->at)
		return;
	bool used = is_op(l, i + 1, ':') || (i >= 2 && is_op(l, i - 1, '(') &&
					     is_name(l, i - 2, "pairs") && is_op(l, i + 1, ')'));
	if (!used || (i && (is_op(l, i - 1, '.') || is_op(l, i - 1, ':'))))
		return;
	v->told = true;
	say(l, DIAG_NOTICE, i, "works here; for Envoy take it again after the wait",
	    "\"%.*s\" is older than the wait in line %u: Envoy raises \"object used outside of "
	    "proper scope\"",
	    STR_ARG(v->name), at(l, l->wait)->line);
}

/* What came by while a call waited cannot be had any more, unless it was asked for before. */
static void check_late_body(struct lint *l, uint32_t i)
{
	if (!may_wait(l, i) || is_name(l, i, "trailers"))
		return;
	if (is_name(l, i, "httpCall")) {
		l->called = l->called ? l->called : i;
		return;
	}
	if (l->called && !l->whole)
		say(l, DIAG_WARNING, i, "call body() before it, too: then it is kept",
		    "body() comes after the httpCall of line %u only: when the body has gone by "
		    "meanwhile, it raises an error",
		    at(l, l->called)->line);
	if (!l->whole)
		l->whole = i;
}

/* h:headers():add("n", h:body():length()): the object is there before its arguments wait. */
static void check_stale_chain(struct lint *l, uint32_t i)
{
	uint32_t open = i + 2;
	if (i == 0 || !is_op(l, i - 1, ')') || at(l, i + 1)->kind != TOKEN_NAME ||
	    !is_op(l, open, '('))
		return;
	uint32_t before = at(l, i - 1)->mate;
	if (before < 3 || !is_op(l, before - 2, ':') ||
	    !among(at(l, before - 1)->value, object_methods))
		return;
	if (waits_within(l, open + 1, at(l, open)->mate))
		say(l, DIAG_NOTICE, i + 1,
		    "works here; for Envoy put the argument into a local first",
		    "the arguments wait while the object is already there: Envoy raises \"object "
		    "used outside of proper scope\"");
}

/* --- the fallback --- */

static bool compares(const struct lint *l, uint32_t i)
{
	const struct token *t = at(l, i);
	return t->kind == TOKEN_OP &&
	       (t->op == '<' || t->op == '>' || t->op == OP_LE || t->op == OP_GE);
}

static bool is_404(const struct lint *l, uint32_t i)
{
	return is_text(l, i, "404") ||
	       (at(l, i)->kind == TOKEN_NUMBER && str_eq(at(l, i)->value, STR("404")));
}

/* Around a status of the call, in from..to: anything that tells failures from pages. */
static bool tells_failures(const struct lint *l, uint32_t from, uint32_t to)
{
	while (is_op(l, to, ')'))
		to++;
	while (from && (is_op(l, from - 1, '(') || is_name(l, from - 1, "tonumber")))
		from--;
	if (compares(l, to) || (from && compares(l, from - 1)))
		return true;
	bool equal = is_op(l, to, OP_EQ) || is_op(l, to, OP_NE);
	return equal && !is_404(l, to + 1);
}

static void watch_fallback(struct lint *l, uint32_t i)
{
	if ((is_op(l, i, OP_EQ) && (is_404(l, i + 1) || (i && is_404(l, i - 1)))))
		l->f.asks_404 = true;
	if (!l->f.call)
		return;
	if (is_op(l, i, ':') && is_op(l, i + 2, '(')) {
		l->f.replaces |= is_name(l, i + 1, "replace");
		l->f.sets_body |= is_name(l, i + 1, "setBytes");
	}
	const struct var *v = var_of(l, i);
	if (v && v->kind == VAR_RESULT && is_op(l, i + 1, '[') && is_text(l, i + 2, ":status"))
		l->f.checks |= tells_failures(l, i, i + 4);
	if (v && v->kind == VAR_STATUS)
		l->f.checks |= tells_failures(l, i, i + 1);
}

static void end_of_response(struct lint *l)
{
	const struct fallback *f = &l->f;
	char policy[900], timeout[64] = "";
	if (!f->call || !f->replaces)
		return;
	if (!f->checks)
		say(l, DIAG_WARNING, f->call, "go on only when its :status is below 500",
		    "an httpCall that fails gives 503 or 504 like an answer: here that replaces "
		    "the origin's own page, also a clean 404");
	if (!f->asks_404 || !f->sets_body || f->cluster.n > 200)
		return;
	uint64_t ms;
	if (str_u64(f->timeout, &ms) && ms)
		snprintf(timeout, sizeof timeout, ", header_timeout: %llu.%03llus",
			 (unsigned long long)(ms / 1000), (unsigned long long)(ms % 1000));
	snprintf(policy, sizeof policy,
		 "this is a fallback; as a policy, without what a script loses (repeated fields, "
		 "bodies of POST, failures of the other origin), "
		 "instead of this filter: {name: postern.fallback, typed_config: {\"@type\": "
		 "type.googleapis.com/postern.filters.http.fallback.v1.Fallback, fallbacks: "
		 "[{cluster: \"%.*s\"%s}], trigger: [404]}}",
		 STR_ARG(f->cluster), timeout);
	l->env->say(l->env->arg, DIAG_NOTICE, at(l, f->call)->line, at(l, f->call)->column, policy,
		    "");
}

/* --- the walk --- */

static void enter(struct lint *l, uint32_t i, bool is_if)
{
	if (l->nblocks < BLOCKS)
		l->blocks[l->nblocks] = (struct block){.end = at(l, i)->mate,
						       .wait = l->wait,
						       .branch = is_if ? 0 : l->wait,
						       .is_if = is_if};
	l->nblocks++;
}

/* A branch ends: what it waited for counts behind the if, unless it never gets there. */
static void end_branch(struct block *b, uint32_t wait)
{
	if (!b->left && wait > b->branch)
		b->branch = wait;
	b->left = false;
}

static void blocks(struct lint *l, uint32_t i)
{
	struct block *b = l->nblocks && l->nblocks <= BLOCKS ? &l->blocks[l->nblocks - 1] : NULL;
	if (at(l, i)->kind != TOKEN_KEY)
		return;
	switch (at(l, i)->key) {
	case KEY_IF: enter(l, i, true); break;
	case KEY_DO:
	case KEY_FUNCTION:
	case KEY_REPEAT: enter(l, i, false); break;
	case KEY_ELSE:
	case KEY_ELSEIF:
		if (!b || !b->is_if)
			break;
		end_branch(b, l->wait);
		l->wait = b->wait;
		break;
	case KEY_RETURN:
	case KEY_BREAK:
		if (b)
			b->left = true;
		break;
	case KEY_END:
	case KEY_UNTIL:
		if (b && b->is_if) {
			end_branch(b, l->wait);
			l->wait = b->branch > b->wait ? b->branch : b->wait;
		}
		if (l->nblocks)
			l->nblocks--;
		break;
	}
}

/* A function's own variables: outermost ones begin anew. */
static void hooks(struct lint *l, uint32_t i)
{
	if (l->response_end && i == l->response_end) {
		end_of_response(l);
		l->response_end = 0;
	}
	if (!is_key(l, i, KEY_FUNCTION) || l->nblocks)
		return;
	l->nvars = 0;
	l->wait = l->called = l->whole = 0;
	if (is_name(l, i + 1, "envoy_on_response") ||
	    (i >= 2 && is_name(l, i - 2, "envoy_on_response") && is_op(l, i - 1, '='))) {
		l->response_end = at(l, i)->mate;
		l->f = (struct fallback){0};
	}
}

/* `for x in h:bodyChunks() do`: waits in every round. */
static bool chunk_loop(const struct lint *l, uint32_t i)
{
	return is_key(l, i, KEY_DO) && i >= 6 && is_op(l, i - 1, ')') &&
	       is_name(l, i - 3, "bodyChunks") && is_op(l, i - 4, ':') && is_handle(l, i - 5);
}

static void step(struct lint *l, uint32_t i)
{
	hooks(l, i);
	blocks(l, i);
	if (at(l, i)->kind == TOKEN_NAME) {
		check_stale(l, i);
		check_late_body(l, i);
		if (is_name(l, i, "httpCall") && i >= 2 && is_op(l, i - 1, ':') &&
		    is_op(l, i + 1, '('))
			check_call(l, i);
	}
	if (is_key(l, i, KEY_FOR))
		check_copy(l, i);
	if (is_op(l, i, '='))
		assignment(l, i);
	if (is_op(l, i, '.'))
		check_dot(l, i);
	if (is_op(l, i, ':')) {
		check_method(l, i);
		check_stale_chain(l, i);
	}
	if (l->response_end)
		watch_fallback(l, i);
	/* a call has waited when its ) is reached */
	if (is_op(l, i, ')') && at(l, i)->mate >= 1 && may_wait(l, at(l, i)->mate - 1))
		l->wait = i;
	if (chunk_loop(l, i) || (is_key(l, i, KEY_END) && chunk_loop(l, at(l, i)->mate)))
		l->wait = i;
}

void lint_script(struct str source, struct arena *scratch, const struct lint_env *env)
{
	struct tokens k;
	struct lint *l = arena_zalloc(scratch, sizeof *l);
	if (!l || !lint_tokens(source, scratch, &k) || !lint_pair(&k))
		return;
	l->env = env;
	l->k = &k;
	for (uint32_t i = 0; i < k.n; i++)
		if (lint_mid_break(&k, i))
			say(l, DIAG_NOTICE, i, "other versions of Lua want do break end",
			    "break stands in the middle of its block: what follows it never runs");
	find_handles(l);
	for (uint32_t i = 0; i < k.n; i++)
		step(l, i);
}

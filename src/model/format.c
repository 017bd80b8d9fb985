/* src/model/format.c
 *
 * Compiles Envoy's format strings. %COMMAND%, %COMMAND(arguments)%, %COMMAND(arguments):length%, %% for a percent
 * sign; arguments end at the first ')'.
 */
#include "model/format.h"
#include "base/mem.h"
#include <ctype.h>
#include <stdlib.h>
#include <unistd.h>

const char format_default_line[] =
	"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
	"%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
	"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
	"\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" "
	"\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

enum { NESTED_MAX = 32, PARTS_MAX = 4096 };
enum args { NO_ARGS, MAY_ARGS, MUST_ARGS };

static const struct command {
	const char *name;
	enum format_op op;
	enum args args;
	bool length; /* ":n" may follow */
} commands[] = {
	{"START_TIME", FMT_START_TIME, MAY_ARGS, false},
	{"PROTOCOL", FMT_PROTOCOL, NO_ARGS, false},
	{"RESPONSE_CODE", FMT_RESPONSE_CODE, NO_ARGS, false},
	{"RESPONSE_CODE_DETAILS", FMT_RESPONSE_CODE_DETAILS, MAY_ARGS, false},
	{"RESPONSE_FLAGS", FMT_RESPONSE_FLAGS, NO_ARGS, false},
	{"RESPONSE_FLAGS_LONG", FMT_RESPONSE_FLAGS_LONG, NO_ARGS, false},
	{"BYTES_RECEIVED", FMT_BYTES_RECEIVED, NO_ARGS, false},
	{"BYTES_SENT", FMT_BYTES_SENT, NO_ARGS, false},
	{"DURATION", FMT_DURATION, NO_ARGS, false},
	{"REQUEST_DURATION", FMT_REQUEST_DURATION, NO_ARGS, false},
	{"RESPONSE_DURATION", FMT_RESPONSE_DURATION, NO_ARGS, false},
	{"RESPONSE_TX_DURATION", FMT_RESPONSE_TX_DURATION, NO_ARGS, false},
	{"REQ", FMT_REQ, MUST_ARGS, true},
	{"REQUEST_HEADER", FMT_REQ, MUST_ARGS, true},
	{"PATH", FMT_PATH, MAY_ARGS, true},
	{"RESP", FMT_RESP, MUST_ARGS, true},
	{"RESPONSE_HEADER", FMT_RESP, MUST_ARGS, true},
	{"TRAILER", FMT_TRAILER, MUST_ARGS, true},
	{"RESPONSE_TRAILER", FMT_TRAILER, MUST_ARGS, true},
	{"UPSTREAM_HOST", FMT_UPSTREAM_HOST, NO_ARGS, false},
	{"UPSTREAM_CLUSTER", FMT_UPSTREAM_CLUSTER, NO_ARGS, false},
	{"UPSTREAM_LOCAL_ADDRESS", FMT_UPSTREAM_LOCAL_ADDRESS, NO_ARGS, false},
	{"UPSTREAM_REMOTE_ADDRESS", FMT_UPSTREAM_REMOTE_ADDRESS, NO_ARGS, false},
	{"UPSTREAM_TRANSPORT_FAILURE_REASON", FMT_UPSTREAM_TRANSPORT_FAILURE_REASON, NO_ARGS,
	 false},
	{"UPSTREAM_REQUEST_ATTEMPT_COUNT", FMT_UPSTREAM_REQUEST_ATTEMPT_COUNT, NO_ARGS, false},
	{"DOWNSTREAM_REMOTE_ADDRESS", FMT_DOWNSTREAM_REMOTE_ADDRESS, NO_ARGS, false},
	{"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FMT_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT,
	 NO_ARGS, false},
	{"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", FMT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS, NO_ARGS, false},
	{"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
	 FMT_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT, NO_ARGS, false},
	{"DOWNSTREAM_LOCAL_ADDRESS", FMT_DOWNSTREAM_LOCAL_ADDRESS, NO_ARGS, false},
	{"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FMT_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT,
	 NO_ARGS, false},
	{"DOWNSTREAM_LOCAL_PORT", FMT_DOWNSTREAM_LOCAL_PORT, NO_ARGS, false},
	{"DOWNSTREAM_REMOTE_PORT", FMT_DOWNSTREAM_REMOTE_PORT, NO_ARGS, false},
	{"REQUESTED_SERVER_NAME", FMT_REQUESTED_SERVER_NAME, NO_ARGS, false},
	{"ROUTE_NAME", FMT_ROUTE_NAME, NO_ARGS, false},
	{"VIRTUAL_CLUSTER_NAME", FMT_VIRTUAL_CLUSTER_NAME, NO_ARGS, false},
	{"DYNAMIC_METADATA", FMT_DYNAMIC_METADATA, MUST_ARGS, true},
	{"FILTER_STATE", FMT_FILTER_STATE, MUST_ARGS, true},
	{"METADATA", FMT_METADATA, MUST_ARGS, true},
	{"CONNECTION_ID", FMT_CONNECTION_ID, NO_ARGS, false},
	{"STREAM_ID", FMT_STREAM_ID, NO_ARGS, false},
	{"UNIQUE_ID", FMT_STREAM_ID, NO_ARGS, false},
	{"FALLBACK_SERVED", FMT_FALLBACK_SERVED, NO_ARGS, false},
	{"FALLBACK_PRIMARY_STATUS", FMT_FALLBACK_PRIMARY_STATUS, NO_ARGS, false},
	{"FALLBACK_STATUS", FMT_FALLBACK_STATUS, NO_ARGS, false},
	{"FALLBACK_PRIMARY_MS", FMT_FALLBACK_PRIMARY_MS, NO_ARGS, false},
	{"FALLBACK_MS", FMT_FALLBACK_MS, NO_ARGS, false},
	{"FALLBACK_HELD_BYTES", FMT_FALLBACK_HELD_BYTES, NO_ARGS, false},
	{"CONNECTION_TERMINATION_DETAILS", FMT_CONNECTION_TERMINATION_DETAILS, NO_ARGS, false},
	{"DOWNSTREAM_TLS_VERSION", FMT_DOWNSTREAM_TLS_VERSION, NO_ARGS, false},
	{"DOWNSTREAM_TLS_CIPHER", FMT_DOWNSTREAM_TLS_CIPHER, NO_ARGS, false},
	{"DOWNSTREAM_PEER_SUBJECT", FMT_DOWNSTREAM_PEER_SUBJECT, NO_ARGS, false},
	{"REQUEST_HEADERS_BYTES", FMT_REQUEST_HEADERS_BYTES, NO_ARGS, false},
	{"RESPONSE_HEADERS_BYTES", FMT_RESPONSE_HEADERS_BYTES, NO_ARGS, false},
	{"HOSTNAME", FMT_HOSTNAME, NO_ARGS, false},
	{"ENVIRONMENT", FMT_ENVIRONMENT, MUST_ARGS, true},
	{"GRPC_STATUS", FMT_GRPC_STATUS, MAY_ARGS, false},
	{"LOCAL_REPLY_BODY", FMT_LOCAL_REPLY_BODY, NO_ARGS, false},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

/* Envoy 1.40 has these too; each line: what they begin with. */
static const char *const unsupported[] = {"ACCESS_LOG_TYPE",
					  "BYTES_RETRANSMITTED",
					  "CEL",
					  "CLUSTER_METADATA",
					  "COALESCE",
					  "COMMON_DURATION",
					  "CUSTOM_FLAGS",
					  "DOWNSTREAM_",
					  "EMIT_TIME",
					  "FILTER_CHAIN_NAME",
					  "GRPC_STATUS_NUMBER",
					  "PACKETS_RETRANSMITTED",
					  "PER_REQUEST_STATE",
					  "QUERY_PARAM",
					  "REQUEST_TX_DURATION",
					  "REQ_WITHOUT_QUERY",
					  "RESPONSE_TRAILERS_BYTES",
					  "ROUNDTRIP_DURATION",
					  "ROUTE_RESOLUTION_",
					  "SPAN_ID",
					  "START_TIME_LOCAL",
					  "STREAM_INFO_REQ",
					  "TLS_JA",
					  "TRACE_ID",
					  "UPSTREAM_",
					  "VIRTUAL_HOST_NAME",
					  NULL};

struct build {
	struct arena *arena;
	struct diags *diags;
	const struct doc *where;
	struct format_part *parts;
	unsigned n, cap;
	char *text; /* fixed text not yet a part */
	size_t text_n, text_cap;
	bool json, failed;
};

static void no_memory(struct build *b)
{
	if (!b->failed)
		diag_add(b->diags, DIAG_ERROR, b->where, "no memory for the format");
	b->failed = true;
}

static void put_text(struct build *b, struct str s)
{
	if (b->failed || s.n == 0)
		return;
	if (b->text_cap - b->text_n < s.n) {
		size_t cap = 2 * (b->text_n + s.n) + 64;
		char *more = mem_realloc(MEM_CONFIG, b->text, cap);
		if (!more) {
			no_memory(b);
			return;
		}
		b->text = more;
		b->text_cap = cap;
	}
	memcpy(b->text + b->text_n, s.p, s.n);
	b->text_n += s.n;
}

/* JSON: text inside a string. */
static void put_escaped(struct build *b, struct str s)
{
	static const char plain[] = "\"\\bfnrt", what[] = "\"\\\b\f\n\r\t";
	for (size_t i = 0; i < s.n; i++) {
		char ch = s.p[i], out[8];
		const char *esc = ch ? strchr(what, ch) : NULL;
		int n = 1;
		if (esc)
			n = snprintf(out, sizeof out, "\\%c", plain[esc - what]);
		else if ((unsigned char)ch < 0x20 || ch == 0x7f)
			n = snprintf(out, sizeof out, "\\u%04x", (unsigned char)ch);
		else
			out[0] = ch;
		put_text(b, (struct str){out, (size_t)n});
	}
}

static void put_literal(struct build *b, struct str s)
{
	if (b->json)
		put_escaped(b, s);
	else
		put_text(b, s);
}

static void put_part(struct build *b, struct format_part part)
{
	if (b->failed)
		return;
	if (b->n == b->cap) {
		unsigned cap = b->cap ? 2 * b->cap : 16;
		struct format_part *more =
			cap <= PARTS_MAX ? mem_realloc(MEM_CONFIG, b->parts, cap * sizeof *more)
					 : NULL;
		if (!more) {
			no_memory(b);
			return;
		}
		b->parts = more;
		b->cap = cap;
	}
	b->parts[b->n++] = part;
}

static void flush(struct build *b)
{
	if (b->failed || b->text_n == 0)
		return;
	char *text = arena_zalloc(b->arena, b->text_n + FORMAT_TEXT_SLACK);
	size_t n = b->text_n;
	b->text_n = 0;
	if (!text) {
		no_memory(b);
		return;
	}
	memcpy(text, b->text, n);
	put_part(b, (struct format_part){.op = FMT_TEXT, .text = {text, n}});
}

static void set_name(struct build *b, struct str from, struct str *name, enum field_id *id)
{
	struct str low = arena_str(b->arena, from);
	if (!low.p) {
		no_memory(b);
		return;
	}
	for (size_t i = 0; i < low.n; i++)
		((char *)low.p)[i] = (char)tolower((unsigned char)low.p[i]); /* our own copy */
	if (str_eq(low, STR("host")))
		low = STR(":authority");
	*name = low;
	*id = name_id(low.p, low.n);
}

static bool wrong(struct build *b, struct str command, const char *why)
{
	diag_add(b->diags, DIAG_ERROR, b->where, "%%%.*s%%: %s", STR_ARG(command), why);
	b->failed = true;
	return false;
}

/* %REQ(name?other)% */
static bool header_args(struct build *b, struct str command, struct str args,
			struct format_part *part)
{
	struct str name, alt;
	if (str_cut(args, '?', &name, &alt) && memchr(alt.p, '?', alt.n))
		return wrong(b, command, "more than one alternative header");
	set_name(b, name, &part->name, &part->id);
	set_name(b, alt, &part->alt, &part->alt_id);
	return true;
}

/* %PATH(WQ|NQ:ORIG|PATH|ORIG_OR_PATH)%: a way to say REQ. */
static bool path_args(struct build *b, struct str command, struct str args,
		      struct format_part *part)
{
	struct str query, which;
	str_cut(args, ':', &query, &which);
	part->op = FMT_REQ;
	part->no_query = str_eq(query, STR("NQ"));
	if (query.n && !part->no_query && !str_eq(query, STR("WQ")))
		return wrong(b, command, "the first argument is WQ or NQ");
	struct str orig = STR("x-envoy-original-path"), path = STR(":path");
	if (which.n == 0 || str_eq(which, STR("ORIG_OR_PATH"))) {
		set_name(b, orig, &part->name, &part->id);
		set_name(b, path, &part->alt, &part->alt_id);
	} else if (str_eq(which, STR("ORIG")) || str_eq(which, STR("PATH"))) {
		set_name(b, which.n == 4 && which.p[0] == 'O' ? orig : path, &part->name,
			 &part->id);
	} else {
		return wrong(b, command, "the second argument is ORIG, PATH or ORIG_OR_PATH");
	}
	return true;
}

/* %DYNAMIC_METADATA(["a","b"])% is how header values wrote a:b once. */
static struct str metadata_args(struct build *b, struct str args)
{
	if (args.n < 4 || args.p[0] != '[' || args.p[args.n - 1] != ']')
		return arena_str(b->arena, args);
	char *p = arena_alloc(b->arena, args.n);
	size_t n = 0;
	bool quoted = false;
	if (!p)
		return (struct str){0};
	for (size_t i = 1; i + 1 < args.n; i++) {
		char c = args.p[i];
		if (c == '"')
			quoted = !quoted;
		else if (!quoted && c == ',')
			p[n++] = ':';
		else if (quoted)
			p[n++] = c;
	}
	return (struct str){p, n};
}

static struct str host_name(struct build *b)
{
	char name[256] = "";
	if (gethostname(name, sizeof name - 1))
		return STR("-");
	return arena_str(b->arena, str_of(name));
}

static struct str environment(struct build *b, struct str name)
{
	char *z = arena_strz(b->arena, name);
	const char *v = z ? getenv(z) : NULL;
	return z ? arena_str(b->arena, v ? str_of(v) : STR("-")) : (struct str){0};
}

static const char *nearest(struct str name)
{
	const char *names[COMMANDS + 1];
	for (int i = 0; i < COMMANDS; i++)
		names[i] = commands[i].name;
	names[COMMANDS] = NULL;
	return diag_nearest(name, names);
}

static bool unknown(struct build *b, struct str name)
{
	b->failed = true;
	for (const char *const *u = unsupported; *u; u++)
		if (str_starts(name, str_of(*u))) {
			diag_add(b->diags, DIAG_ERROR, b->where,
				 "%%%.*s%% is known to Envoy but not supported here",
				 STR_ARG(name));
			return false;
		}
	diag_add(b->diags, DIAG_ERROR, b->where, "unknown command %%%.*s%%", STR_ARG(name));
	const char *near = nearest(name);
	if (near)
		diag_hint(b->diags, "%s", near);
	return false;
}

static bool command(struct build *b, struct str name, struct str args, bool has_args,
		    struct str length, struct format_part *out)
{
	const struct command *c = commands;
	uint64_t max;
	while (c < commands + COMMANDS && !str_eq(name, str_of(c->name)))
		c++;
	if (c == commands + COMMANDS)
		return unknown(b, name);
	*out = (struct format_part){.op = c->op};
	if (has_args ? c->args == NO_ARGS : c->args == MUST_ARGS)
		return wrong(b, name,
			     has_args ? "takes no arguments" : "needs arguments in parentheses");
	if (length.p) {
		if (!c->length)
			return wrong(b, name, "takes no length");
		if (!str_u64(length, &max) || max > UINT32_MAX)
			return wrong(b, name, "the length is too large");
		out->max = (uint32_t)max;
	}
	switch (c->op) {
	case FMT_REQ:
	case FMT_RESP:
	case FMT_TRAILER: return header_args(b, name, args, out);
	case FMT_PATH: return path_args(b, name, args, out);
	case FMT_DYNAMIC_METADATA: out->text = metadata_args(b, args); break;
	case FMT_HOSTNAME: out->text = host_name(b); break;
	case FMT_ENVIRONMENT: out->text = environment(b, args); break;
	default: out->text = arena_str(b->arena, args);
	}
	if (!out->text.p)
		no_memory(b);
	return !b->failed;
}

/* The command at s, which begins behind its '%'; *used up to and with the closing '%'. False:
 * there is none. */
static bool cut_command(struct str s, struct str *name, struct str *args, bool *has_args,
			struct str *length, size_t *used)
{
	size_t i = 0;
	while (i < s.n &&
	       (isupper((unsigned char)s.p[i]) || isdigit((unsigned char)s.p[i]) || s.p[i] == '_'))
		i++;
	*name = (struct str){s.p, i};
	*args = *length = (struct str){0};
	*has_args = i < s.n && s.p[i] == '(';
	if (*has_args) {
		const char *end = memchr(s.p + i, ')', s.n - i);
		if (!end)
			return false;
		*args = (struct str){s.p + i + 1, (size_t)(end - s.p) - i - 1};
		i = (size_t)(end - s.p) + 1;
	}
	if (i < s.n && s.p[i] == ':') {
		size_t from = ++i;
		while (i < s.n && isdigit((unsigned char)s.p[i]))
			i++;
		*length = (struct str){s.p + from, i - from};
	}
	*used = i + 1;
	return name->n && i < s.n && s.p[i] == '%' && !(length->p && length->n == 0);
}

/* whole: JSON, and the text is one command that is a whole value. */
static void compile_text(struct build *b, struct str text, struct str key, bool whole)
{
	struct str name, args, length, rest = text;
	bool has_args;
	while (rest.n && !b->failed) {
		const char *p = memchr(rest.p, '%', rest.n);
		size_t before = p ? (size_t)(p - rest.p) : rest.n, used;
		put_literal(b, (struct str){rest.p, before});
		rest = str_from(rest, before);
		if (rest.n == 0)
			break;
		rest = str_from(rest, 1);
		if (rest.n && rest.p[0] == '%') {
			put_literal(b, STR("%"));
			rest = str_from(rest, 1);
			continue;
		}
		if (!cut_command(rest, &name, &args, &has_args, &length, &used)) {
			diag_add(b->diags, DIAG_ERROR, b->where,
				 "no command behind the %% at position %zu; a percent sign is "
				 "written %%%%",
				 (size_t)(rest.p - text.p) - 1);
			b->failed = true;
			return;
		}
		struct format_part part;
		if (!command(b, name, args, has_args, length, &part))
			return;
		part.whole = whole;
		part.quick = part.id && !part.max && !part.no_query && (!part.alt.n || part.alt_id);
		part.key = key;
		flush(b);
		put_part(b, part);
		rest = str_from(rest, used);
	}
}

static bool one_command(struct str s)
{
	struct str name, args, length;
	bool has_args;
	size_t used;
	return s.n > 2 && s.p[0] == '%' &&
	       cut_command(str_from(s, 1), &name, &args, &has_args, &length, &used) &&
	       used + 1 == s.n;
}

static void put_value(struct build *b, const struct doc *d, struct str key, int depth);

static int by_key(const void *x, const void *y)
{
	return str_cmp((*(const struct doc *const *)x)->key, (*(const struct doc *const *)y)->key);
}

static void put_map(struct build *b, const struct doc *d, int depth)
{
	const struct doc **sorted = d->n ? mem_alloc(MEM_CONFIG, d->n * sizeof *sorted) : NULL;
	size_t n = 0;
	if (d->n && !sorted) {
		no_memory(b);
		return;
	}
	doc_each (c, d)
		sorted[n++] = c;
	if (n)
		qsort(sorted, n, sizeof *sorted, by_key);
	put_text(b, STR("{"));
	for (size_t i = 0; i < n && !b->failed; i++) {
		put_text(b, i ? STR(",\"") : STR("\""));
		put_escaped(b, sorted[i]->key);
		put_text(b, STR("\":"));
		put_value(b, sorted[i], sorted[i]->key, depth + 1);
	}
	put_text(b, STR("}"));
	mem_free(MEM_CONFIG, sorted);
}

static void put_list(struct build *b, const struct doc *d, struct str key, int depth)
{
	put_text(b, STR("["));
	doc_each (c, d) {
		if (c != d->first)
			put_text(b, STR(","));
		put_value(b, c, key, depth + 1);
	}
	put_text(b, STR("]"));
}

static void put_number(struct build *b, const struct doc *d)
{
	char out[48];
	int n;
	if (d->is_int)
		n = snprintf(out, sizeof out, "%lld", (long long)d->integer);
	else /* Envoy 1.40 writes these as strings */
		n = snprintf(out, sizeof out, "\"%.17g\"", d->number);
	put_text(b, (struct str){out, (size_t)n});
}

static void put_value(struct build *b, const struct doc *d, struct str key, int depth)
{
	b->where = d;
	if (depth > NESTED_MAX) {
		diag_add(b->diags, DIAG_ERROR, d, "nested too deeply for a log line");
		b->failed = true;
		return;
	}
	switch (d->kind) {
	case DOC_NULL: put_text(b, STR("null")); break;
	case DOC_BOOL: put_text(b, d->boolean ? STR("true") : STR("false")); break;
	case DOC_NUMBER: put_number(b, d); break;
	case DOC_LIST: put_list(b, d, key, depth); break;
	case DOC_MAP: put_map(b, d, depth); break;
	case DOC_STRING: {
		bool whole = one_command(d->text);
		if (!whole)
			put_text(b, STR("\""));
		struct str kept = whole ? arena_str(b->arena, key) : STR("");
		if (!kept.p)
			no_memory(b);
		compile_text(b, d->text, kept, whole);
		if (!whole)
			put_text(b, STR("\""));
	}
	}
}

static struct format *finish(struct build *b, enum format_kind kind)
{
	struct format *f = NULL;
	flush(b);
	if (!b->failed) {
		f = arena_zalloc(b->arena, sizeof *f);
		struct format_part *parts =
			f && b->n ? arena_alloc(b->arena, b->n * sizeof *parts) : NULL;
		if (!f || (b->n && !parts)) {
			no_memory(b);
			f = NULL;
		} else {
			if (b->n)
				memcpy(parts, b->parts, b->n * sizeof *parts);
			*f = (struct format){.kind = kind, .parts = parts, .n = b->n};
		}
	}
	mem_free(MEM_CONFIG, b->parts);
	mem_free(MEM_CONFIG, b->text);
	return f;
}

struct format *format_compile(struct arena *a, struct diags *d, const struct doc *where,
			      struct str text)
{
	struct build b = {.arena = a, .diags = d, .where = where};
	compile_text(&b, text, STR(""), false);
	return finish(&b, FORMAT_TEXT);
}

struct format *format_compile_json(struct arena *a, struct diags *d, const struct doc *map)
{
	struct build b = {.arena = a, .diags = d, .where = map, .json = true};
	put_map(&b, map, 0);
	return finish(&b, FORMAT_JSON);
}

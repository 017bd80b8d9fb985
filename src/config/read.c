/* src/config/read.c: scalars, lists, addresses, files. read_match.c has the matchers. */
#include "config/read.h"
#include "config/scalar_int.h"
#include "config/schema.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void no_memory(struct reader *r)
{
	diag_at(r->diags, DIAG_ERROR, (struct doc_place){0}, "out of memory");
}

/* The schema check has reported wrong types; here only so that none passes where it did not
 * look. */
static void wrong_type(struct reader *r, const struct doc *v, const char *wanted)
{
	if (r->diags->errors == 0)
		diag_add(r->diags, DIAG_ERROR, v, "%s where %s is needed", scalar_what(v), wanted);
}

const struct doc *read_field(const struct doc *d, const char *snake)
{
	const struct doc *v = snake ? doc_field(d, snake) : d;
	return v && v->kind != DOC_NULL ? v : NULL;
}

/* google.protobuf.BoolValue and its like are plain values in JSON. */
bool read_bool(struct reader *r, const struct doc *d, const char *field, bool absent)
{
	const struct doc *v = read_field(d, field);
	if (!v)
		return absent;
	if (v->kind == DOC_BOOL)
		return v->boolean;
	wrong_type(r, v, "true or false");
	return absent;
}

uint64_t read_uint(struct reader *r, const struct doc *d, const char *field, uint64_t absent,
		   uint64_t min, uint64_t max)
{
	const struct doc *v = read_field(d, field);
	uint64_t u;
	if (!v)
		return absent;
	if (!scalar_u64(v, &u)) {
		wrong_type(r, v, "a whole number, not negative,");
		return absent;
	}
	if (u >= min && u <= max)
		return u;
	if (max == UINT64_MAX)
		diag_add(r->diags, DIAG_ERROR, v, "%llu is too small, the least is %llu",
			 (unsigned long long)u, (unsigned long long)min);
	else
		diag_add(r->diags, DIAG_ERROR, v, "%llu is out of range, %llu to %llu",
			 (unsigned long long)u, (unsigned long long)min, (unsigned long long)max);
	return absent;
}

double read_double(struct reader *r, const struct doc *d, const char *field, double absent,
		   double min, double max)
{
	const struct doc *v = read_field(d, field);
	double x;
	if (!v)
		return absent;
	if (!scalar_double(v, &x)) {
		wrong_type(r, v, "a number");
		return absent;
	}
	if (x >= min && x <= max) /* not so for NaN */
		return x;
	diag_add(r->diags, DIAG_ERROR, v, "%g is out of range, %g to %g", x, min, max);
	return absent;
}

struct str read_str(struct reader *r, const struct doc *d, const char *field)
{
	const struct doc *v = read_field(d, field);
	if (!v)
		return (struct str){0};
	if (v->kind != DOC_STRING) {
		wrong_type(r, v, "a string");
		return (struct str){0};
	}
	struct str s = arena_str(r->arena, v->text);
	if (!s.p)
		no_memory(r);
	return s;
}

struct str read_str_needed(struct reader *r, const struct doc *d, const char *field)
{
	const struct doc *v = read_field(d, field);
	if (!v) {
		diag_add(r->diags, DIAG_ERROR, d, "%s is missing", field ? field : "a value");
		return (struct str){0};
	}
	if (v->kind == DOC_STRING && v->text.n == 0) {
		diag_add(r->diags, DIAG_ERROR, v, "must not be empty");
		return (struct str){0};
	}
	return read_str(r, d, field);
}

uint64_t read_duration(struct reader *r, const struct doc *d, const char *field, uint64_t absent_us)
{
	const struct doc *v = read_field(d, field);
	char hint[24];
	int64_t us;
	if (!v)
		return absent_us;
	if (v->kind != DOC_STRING || !scalar_duration(v->text, &us, hint)) {
		wrong_type(r, v, "a duration such as \"1.5s\"");
		return absent_us;
	}
	if (us >= 0)
		return (uint64_t)us;
	diag_add(r->diags, DIAG_ERROR, v, "must not be negative");
	return absent_us;
}

int read_enum(struct reader *r, const struct doc *d, const char *field, const char *const *names,
	      int absent)
{
	const struct doc *v = read_field(d, field);
	int n = 0;
	if (!v)
		return absent;
	while (names[n])
		n++;
	if (v->kind == DOC_STRING) {
		for (int i = 0; i < n; i++)
			if (names[i][0] && str_eq(v->text, str_of(names[i])))
				return i;
		if (r->diags->errors == 0) {
			diag_add(r->diags, DIAG_ERROR, v, "unknown value \"%.*s\"",
				 STR_ARG(v->text));
			const char *near = diag_nearest(v->text, names);
			if (near)
				diag_hint(r->diags, "%s", near);
		}
		return absent;
	}
	uint64_t u;
	if (v->kind == DOC_NUMBER && scalar_u64(v, &u) && u < (unsigned)n && names[u][0])
		return (int)u;
	wrong_type(r, v, "one of the names");
	return absent;
}

struct str *read_strs(struct reader *r, const struct doc *d, const char *field, unsigned *n)
{
	const struct doc *v = read_field(d, field);
	*n = 0;
	if (!v || (v->kind == DOC_LIST && v->n == 0))
		return NULL;
	if (v->kind != DOC_LIST) {
		wrong_type(r, v, "a list");
		return NULL;
	}
	struct str *out = arena_alloc(r->arena, v->n * sizeof *out);
	if (!out) {
		no_memory(r);
		return NULL;
	}
	doc_each (c, v) {
		struct str s = read_str(r, c, NULL);
		if (s.p)
			out[(*n)++] = s;
	}
	return out;
}

/* ---- addresses ---- */

static bool name_ok(struct str s)
{
	if (s.n == 0 || s.n > 253)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!isalnum((unsigned char)s.p[i]) && !memchr("-._", s.p[i], 3))
			return false;
	return s.p[0] != '.' && s.p[0] != '-';
}

static bool set_ip(struct address *out, const char *host, uint16_t port)
{
	if (inet_pton(AF_INET, host, &out->in4.sin_addr) == 1) {
		out->in4.sin_family = AF_INET;
		out->in4.sin_port = htons(port);
		out->len = sizeof out->in4;
		return true;
	}
	if (inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1) {
		out->in6.sin6_family = AF_INET6;
		out->in6.sin6_port = htons(port);
		out->len = sizeof out->in6;
		return true;
	}
	return false;
}

static bool read_socket_address(struct reader *r, const struct doc *d, bool names_ok,
				struct address *out)
{
	static const char *const protocols[] = {"TCP", "UDP", NULL};
	unsigned before = r->diags->errors;
	struct str host = read_str_needed(r, d, "address");
	char z[256];

	if (read_enum(r, d, "protocol", protocols, 0) != 0)
		diag_add(r->diags, DIAG_ERROR, read_field(d, "protocol"),
			 "UDP is not supported here");
	if (read_field(d, "named_port"))
		diag_add(r->diags, DIAG_ERROR, read_field(d, "named_port"),
			 "named ports are not supported, write port_value");
	else if (!read_field(d, "port_value"))
		diag_add(r->diags, DIAG_ERROR, d, "port_value is missing");
	out->port = (uint16_t)read_uint(r, d, "port_value", 0, 0, 65535);
	if (!host.p)
		return false;
	bool fits = host.n < sizeof z && !memchr(host.p, 0, host.n);
	if (fits) {
		memcpy(z, host.p, host.n);
		z[host.n] = 0;
	}
	if (fits && set_ip(out, z, out->port)) {
		bool v6 = out->sa.sa_family == AF_INET6;
		out->text = arena_printf(r->arena, v6 ? "[%s]:%u" : "%s:%u", z, out->port);
	} else if (!names_ok) {
		diag_add(r->diags, DIAG_ERROR, read_field(d, "address"),
			 "\"%.*s\" is no IP address", STR_ARG(host));
		if (name_ok(host))
			diag_hint(r->diags,
				  "a host name needs a cluster of type STRICT_DNS or LOGICAL_DNS");
		return false;
	} else if (!name_ok(host)) {
		diag_add(r->diags, DIAG_ERROR, read_field(d, "address"),
			 "\"%.*s\" is neither an IP address nor a host name", STR_ARG(host));
		return false;
	} else {
		out->name = host;
		out->text = arena_printf(r->arena, "%.*s:%u", STR_ARG(host), out->port);
	}
	if (!out->text.p)
		no_memory(r);
	return out->text.p && r->diags->errors == before;
}

static bool read_pipe(struct reader *r, const struct doc *d, struct address *out)
{
	struct str path = read_str_needed(r, d, "path");
	if (!path.p)
		return false;
	bool abstract = path.p[0] == '@';
	if (!abstract)
		path = read_path(r, path);
	if (!path.p)
		return false;
	if (path.n >= sizeof out->un.sun_path || memchr(path.p, 0, path.n)) {
		diag_add(r->diags, DIAG_ERROR, read_field(d, "path"),
			 "no name for a unix socket: at most %zu bytes",
			 sizeof out->un.sun_path - 1);
		return false;
	}
	out->un.sun_family = AF_UNIX;
	memcpy(out->un.sun_path, path.p, path.n);
	if (abstract) /* the kernel's form: a leading NUL, the length counts */
		out->un.sun_path[0] = 0;
	out->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + !abstract);
	out->text = arena_printf(r->arena, "unix:%.*s", STR_ARG(path));
	if (!out->text.p)
		no_memory(r);
	return out->text.p != NULL;
}

bool read_address(struct reader *r, const struct doc *d, const char *field, bool names_ok,
		  struct address *out)
{
	const struct doc *v = read_field(d, field);
	const struct doc *part;
	*out = (struct address){0};
	if (!v) {
		diag_add(r->diags, DIAG_ERROR, d, "%s is missing", field ? field : "an address");
		return false;
	}
	if ((part = read_field(v, "socket_address")))
		return read_socket_address(r, part, names_ok, out);
	if ((part = read_field(v, "pipe")))
		return read_pipe(r, part, out);
	if (v->kind != DOC_MAP)
		wrong_type(r, v, "an address");
	else
		diag_add(r->diags, DIAG_ERROR, v, "needs socket_address or pipe");
	return false;
}

/* ---- files ---- */

struct str read_path(struct reader *r, struct str path)
{
	if (!r->base_dir || (path.n && path.p[0] == '/'))
		return path;
	struct str s = arena_printf(r->arena, "%s/%.*s", r->base_dir, STR_ARG(path));
	if (!s.p)
		no_memory(r);
	return s;
}

/* Pipes and devices would hold the start up, or never end: only plain files. */
static bool slurp(struct reader *r, const struct doc *at, const char *path, size_t limit,
		  struct str *out)
{
	struct stat st;
	const char *why = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st))
		goto fail;
	if (!S_ISREG(st.st_mode)) {
		why = "is no plain file";
		goto fail;
	}
	size_t cap = (size_t)st.st_size < limit ? (size_t)st.st_size + 1 : limit + 1, n = 0;
	char *p = arena_alloc(r->arena, cap + 1);
	if (!p) {
		why = "out of memory";
		goto fail;
	}
	while (n < cap) {
		ssize_t got = read(fd, p + n, cap - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			goto fail;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	if (n > limit) {
		why = "is too large";
		goto fail;
	}
	if (n ==
	    cap) { /* it grew between fstat and read: what we have is neither the old nor the new file */
		why = "is being written";
		goto fail;
	}
	close(fd);
	p[n] = 0;
	*out = (struct str){p, n};
	return true;
fail:
	diag_add(r->diags, DIAG_ERROR, at, "%s: %s", path, why ? why : strerror(errno));
	if (fd >= 0)
		close(fd);
	return false;
}

static bool source_file(struct reader *r, const struct doc *v, size_t limit, struct source *out)
{
	struct str name = read_str_needed(r, v, NULL);
	if (!name.p)
		return false;
	if (memchr(name.p, 0, name.n)) {
		diag_add(r->diags, DIAG_ERROR, v, "a file name cannot hold a NUL");
		return false;
	}
	name = read_path(r, name);
	if (!name.p)
		return false;
	char *z = arena_strz(r->arena, name);
	if (!z || (r->model && !model_watch(r->model, name))) {
		no_memory(r);
		return false;
	}
	out->path = (struct str){z, name.n};
	return slurp(r, v, z, limit, &out->content);
}

static bool source_variable(struct reader *r, const struct doc *v, struct source *out)
{
	struct str name = read_str_needed(r, v, NULL);
	char *z = name.p ? arena_strz(r->arena, name) : NULL;
	if (!name.p)
		return false;
	const char *value = z ? getenv(z) : NULL;
	if (z && !value) {
		diag_add(r->diags, DIAG_ERROR, v, "the environment variable %s is not set", z);
		return false;
	}
	out->content = value ? arena_str(r->arena, str_of(value)) : (struct str){0};
	if (!out->content.p)
		no_memory(r);
	return out->content.p != NULL;
}

static bool source_bytes(struct reader *r, const struct doc *v, struct source *out)
{
	size_t n;
	if (v->kind != DOC_STRING || !scalar_base64(v->text, NULL, &n)) {
		wrong_type(r, v, "base64");
		return false;
	}
	char *p = arena_alloc(r->arena, n + 1);
	if (!p) {
		no_memory(r);
		return false;
	}
	scalar_base64(v->text, p, &n);
	p[n] = 0;
	out->content = (struct str){p, n};
	return true;
}

bool read_source(struct reader *r, const struct doc *d, const char *field, size_t limit,
		 struct source *out)
{
	const struct doc *v = read_field(d, field), *part;
	bool ok;
	*out = (struct source){0};
	if (!v)
		return false;
	if ((part = read_field(v, "filename"))) {
		ok = source_file(r, part, limit, out);
	} else if ((part = read_field(v, "inline_string"))) {
		out->content = read_str(r, part, NULL);
		ok = out->content.p != NULL;
	} else if ((part = read_field(v, "inline_bytes"))) {
		ok = source_bytes(r, part, out);
	} else if ((part = read_field(v, "environment_variable"))) {
		ok = source_variable(r, part, out);
	} else {
		diag_add(r->diags, DIAG_ERROR, v,
			 "needs filename, inline_string, inline_bytes or environment_variable");
		return false;
	}
	if (ok && out->content.n > limit) {
		diag_add(r->diags, DIAG_ERROR, part, "is too large: %zu bytes, at most %zu",
			 out->content.n, limit);
		ok = false;
	}
	return ok;
}

bool read_fraction(struct reader *r, const struct doc *d, const char *field, uint32_t *n,
		   uint32_t *of)
{
	static const char *const names[] = {"HUNDRED", "TEN_THOUSAND", "MILLION", NULL};
	static const uint32_t values[] = {100, 10000, 1000000};
	const struct doc *v = read_field(d, field);
	*n = *of = 0;
	if (v && (doc_field(v, "default_value") || doc_field(v, "runtime_key")))
		v = read_field(v, "default_value");
	if (!v)
		return false;
	*of = values[read_enum(r, v, "denominator", names, 0)];
	*n = (uint32_t)read_uint(r, v, "numerator", 0, 0, *of);
	return true;
}

/* ---- Any ---- */

const struct doc *read_any(struct reader *r, const struct doc *any, struct str *type)
{
	const struct doc *t = doc_get(any, "@type"), *body = any;
	*type = (struct str){0};
	for (int i = 0; i < 2; i++) {
		if (!t || t->kind != DOC_STRING || t->text.n == 0) {
			diag_add(r->diags, DIAG_ERROR, t ? t : body, "\"@type\" is missing");
			return any;
		}
		*type = t->text;
		for (size_t k = type->n; k > 0; k--)
			if (type->p[k - 1] == '/') {
				*type = str_from(*type, k);
				break;
			}
		struct str now = schema_canonical_type(*type);
		if (now.p)
			*type = now;
		if (!str_eq(*type, STR("xds.type.v3.TypedStruct")) || !read_field(body, "value"))
			break;
		t = read_field(body, "type_url");
		body = read_field(body, "value");
	}
	*type = arena_str(r->arena, *type);
	if (!type->p)
		no_memory(r);
	return body;
}

struct str read_type_url(struct reader *r, const struct doc *any)
{
	struct str type;
	read_any(r, any, &type);
	return type;
}

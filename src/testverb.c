/* src/testverb.c
 *
 * For each case: a bootstrap with the script in its chain and the case's origins as clusters is written to a folder of its own, this
 * very program is started on it as Envoy's command line would, and a client and the origins (testpeer.c) play their parts on unix
 * sockets. So a case meets the engine that serves, with fresh globals, and what the script does to it ends with the case.
 */
#include "testverb.h"
#include "base/mem.h"
#include "config/config.h"
#include "testpeer.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	ORIGINS = 32,
	STEPS = 64,
	LOG_LINES = 4096,
	SEEN = 256,
	START_MS = 20000,
	SETTLE_MS = 1000,
	SHOWN = 40
};

/* One line of a script's. */
struct line {
	struct str level, text;
};
struct run {
	struct arena arena;
	const char *script, *file;
	const struct doc *root, *defaults, *test;
	FILE *out; /* what is to be said about the case */
	bool failed;
	char dir[64];
	struct {
		struct str name;
		const struct doc *script;
		struct origin *origin; /* NULL: refuses */
		char path[96];
	} origins[ORIGINS];
	unsigned norigins;
	pid_t child;
	int log_fd;
	pthread_t log_thread;
	char *log; /* everything that the gateway wrote */
	size_t nlog;
	pthread_mutex_t lock;
	struct line lines[LOG_LINES];
	unsigned nlines;
};

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- what a case may say --- */

static const char *const case_keys[] = {
	"name",   "origins",      "request",         "steps",          "expect",
	"routes", "virtual_host", "filter",          "filters_before", "filters_after",
	"hcm",    "timeout_ms",   "layered_runtime", "primary",        NULL};
static const char *const step_keys[] = {"request", "method", "path",     "host",   "headers",
					"body",    "chunks", "trailers", "expect", NULL};
static const char *const answer_keys[] = {"status",   "headers",       "body", "chunks", "trailers",
					  "delay_ms", "body_delay_ms", "fail", "match",  NULL};
static const char *const expect_keys[] = {"status",       "headers",   "body",    "body_contains",
					  "trailers",     "no_answer", "origins", "log",
					  "log_contains", NULL};
static const char *const asked_keys[] = {"request", "method",        "path",     "headers",
					 "body",    "body_contains", "trailers", NULL};
static const char *const fails[] = {"close", "cut", "hang", NULL};

static void know(struct diags *d, const struct doc *map, const char *const *keys, const char *what)
{
	if (map && map->kind != DOC_MAP) {
		diag_add(d, DIAG_ERROR, map, "%s is a map", what);
		return;
	}
	doc_each (e, map) {
		unsigned i = 0;
		while (keys[i] && !str_eq(e->key, str_of(keys[i])))
			i++;
		if (keys[i])
			continue;
		diag_add(d, DIAG_ERROR, e, "%s has no \"%.*s\"", what, STR_ARG(e->key));
		const char *near = diag_nearest(e->key, keys);
		if (near)
			diag_hint(d, "%s", near);
	}
}

static void check_answer(struct diags *d, const struct doc *a)
{
	const struct doc *fail;
	know(d, a, answer_keys, "an origin's answer");
	if (!(fail = doc_get(a, "fail")))
		return;
	for (unsigned i = 0; fails[i]; i++)
		if (str_eq(fail->text, str_of(fails[i])))
			return;
	diag_add(d, DIAG_ERROR, fail,
		 "an origin can fail by close, cut or hang (or, for all its answers, by refuse)");
}

static void check_expect(struct diags *d, const struct doc *e)
{
	know(d, e, expect_keys, "expect");
	doc_each (o, doc_get(e, "origins")) {
		if (o->kind != DOC_LIST)
			diag_add(d, DIAG_ERROR, o, "what an origin shall be asked is a list");
		else
			doc_each (q, o)
				if (q->kind != DOC_STRING)
					know(d, q, asked_keys,
					     "a request that an origin shall get");
	}
}

static void check_case(struct diags *d, const struct doc *c, bool defaults)
{
	const struct doc *steps = doc_get(c, "steps"), *request = doc_get(c, "request");
	know(d, c, case_keys, defaults ? "defaults" : "a case");
	doc_each (o, doc_get(c, "origins")) {
		if (o->kind == DOC_STRING && str_eq(o->text, STR("refuse")))
			continue;
		if (o->kind == DOC_LIST)
			doc_each (a, o)
				check_answer(d, a);
		else
			check_answer(d, o);
	}
	if (request && request->kind == DOC_MAP)
		know(d, request, step_keys, "a request");
	doc_each (s, steps) {
		know(d, s, step_keys, "a step");
		check_expect(d, doc_get(s, "expect"));
	}
	check_expect(d, doc_get(c, "expect"));
	if (defaults)
		return;
	if (!doc_get(c, "name"))
		diag_add(d, DIAG_ERROR, c, "a case needs a name");
	if (steps && request)
		diag_add(d, DIAG_ERROR, steps, "a case has either request or steps");
	if (steps && steps->n > STEPS)
		diag_add(d, DIAG_ERROR, steps, "at most %d steps", STEPS);
}

/* The case's own, else that of defaults. */
static const struct doc *part(const struct run *r, const char *key)
{
	const struct doc *d = doc_get(r->test, key);
	return d ? d : doc_get(r->defaults, key);
}

/* --- the gateway's configuration --- */

static void put_text(FILE *f, struct str s)
{
	fputc('"', f);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '"' || c == '\\' || c < 0x20 || c == 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void put_doc(FILE *f, const struct doc *d)
{
	char *text = NULL;
	size_t n = 0;
	if (doc_to_json(d, &text, &n, false))
		fwrite(text, 1, n, f);
	free(text);
}

/* The members of a map behind others. */
static void put_members(FILE *f, const struct doc *map)
{
	doc_each (e, map) {
		fputs(",\n ", f);
		put_text(f, e->key);
		fputs(": ", f);
		put_doc(f, e);
	}
}

static void put_elements(FILE *f, const struct doc *list)
{
	doc_each (e, list) {
		put_doc(f, e);
		fputs(",\n", f);
	}
}

#define TYPE "\"@type\": \"type.googleapis.com/"
static void put_clusters(FILE *f, const struct run *r)
{
	for (unsigned i = 0; i < r->norigins; i++) {
		fputs(i ? ",\n{\"name\": " : "{\"name\": ", f);
		put_text(f, r->origins[i].name);
		fputs(", \"type\": \"STATIC\", \"connect_timeout\": \"2s\", \"load_assignment\": "
		      "{\"cluster_name\": ",
		      f);
		put_text(f, r->origins[i].name);
		fprintf(f,
			", \"endpoints\": [{\"lb_endpoints\": [{\"endpoint\": {\"address\": "
			"{\"pipe\": {\"path\": \"%s\"}}}}]}]}}",
			r->origins[i].path);
	}
}

/* Where requests go that no route of the case sends elsewhere. */
static struct str primary(const struct run *r)
{
	const struct doc *named = part(r, "primary");
	for (unsigned i = 0; i < r->norigins && !named; i++)
		if (str_eq(r->origins[i].name, STR("primary")))
			return r->origins[i].name;
	return named ? named->text : r->origins[0].name;
}

static bool write_bootstrap(struct run *r, const char *path)
{
	const struct doc *routes = part(r, "routes"), *runtime = part(r, "layered_runtime");
	FILE *f = fopen(path, "we");
	if (!f)
		return false;
	fprintf(f,
		"{\"static_resources\": {\"listeners\": [{\"name\": \"test\", \"address\": "
		"{\"pipe\": {\"path\": \"%s/l\"}},\n"
		"\"filter_chains\": [{\"filters\": [{\"name\": "
		"\"envoy.filters.network.http_connection_manager\", \"typed_config\": {\n" TYPE
		"envoy.extensions.filters.network.http_connection_manager.v3."
		"HttpConnectionManager\", \"stat_prefix\": \"test\"",
		r->dir);
	put_members(f, part(r, "hcm"));
	fputs(",\n\"route_config\": {\"name\": \"test\", \"virtual_hosts\": [{\"name\": \"test\", "
	      "\"domains\": [\"*\"]",
	      f);
	put_members(f, part(r, "virtual_host"));
	fputs(",\n\"routes\": ", f);
	if (routes) {
		put_doc(f, routes);
	} else {
		fputs("[{\"match\": {\"prefix\": \"/\"}, ", f);
		if (r->norigins) {
			fputs("\"route\": {\"cluster\": ", f);
			put_text(f, primary(r));
			fputs("}}]", f);
		} else {
			fputs("\"direct_response\": {\"status\": 200}}]", f);
		}
	}
	fputs("}]},\n\"http_filters\": [", f);
	put_elements(f, part(r, "filters_before"));
	fputs("{\"name\": \"envoy.filters.http.lua\", \"typed_config\": {" TYPE
	      "postern.filters.http.lua.v1.Lua\", \"default_source_code\": {\"filename\": ",
	      f);
	put_text(f, str_of(r->script));
	fputs("}", f);
	put_members(f, part(r, "filter"));
	fputs("}},\n", f);
	put_elements(f, part(r, "filters_after"));
	fputs("{\"name\": \"envoy.filters.http.router\", \"typed_config\": {" TYPE
	      "envoy.extensions.filters.http.router.v3.Router\"}}]}}]}]}],\n\"clusters\": [",
	      f);
	put_clusters(f, r);
	fputs("]}", f);
	if (runtime) {
		fputs(",\n\"layered_runtime\": ", f);
		put_doc(f, runtime);
	}
	fputs("}\n", f);
	bool ok = !ferror(f);
	return fclose(f) == 0 && ok;
}

/* --- the gateway --- */

static void *read_log(void *arg)
{
	struct run *r = arg;
	char piece[16384];
	ssize_t n;
	while ((n = read(r->log_fd, piece, sizeof piece)) > 0) {
		pthread_mutex_lock(&r->lock);
		char *p = r->nlog + (size_t)n < (64u << 20)
				  ? realloc(r->log, r->nlog + (size_t)n + 1)
				  : NULL;
		if (p) {
			memcpy(p + r->nlog, piece, (size_t)n);
			r->log = p;
			r->nlog += (size_t)n;
			p[r->nlog] = 0;
		}
		pthread_mutex_unlock(&r->lock);
	}
	return NULL;
}

static bool start_gateway(struct run *r, const char *bootstrap)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC))
		return false;
	r->child = fork();
	if (r->child == 0) {
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		execl("/proc/self/exe", "postern", "-c", bootstrap, "--concurrency", "1", "-l",
		      "warning", "--component-log-level", "lua:trace", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	r->log_fd = fds[0];
	if (r->child < 0 || pthread_create(&r->log_thread, NULL, read_log, r)) {
		close(fds[0]);
		return false;
	}
	return true;
}

/* Ends the gateway and reads the rest of what it says. False: it had ended by itself, or not as
 * asked; *status says how. */
static bool stop_gateway(struct run *r, int *status)
{
	uint64_t until = now_ms() + 3000;
	bool asked = waitpid(r->child, status, WNOHANG) == 0, ended = !asked;
	if (asked)
		kill(r->child, SIGINT);
	while (!ended && now_ms() < until) {
		ended = waitpid(r->child, status, WNOHANG) == r->child;
		if (!ended)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	if (!ended) {
		kill(r->child, SIGKILL);
		waitpid(r->child, status, 0);
	}
	pthread_join(r->log_thread, NULL);
	close(r->log_fd);
	return asked && ended && WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
}

static bool listens(const struct run *r)
{
	char path[96];
	uint64_t until = now_ms() + START_MS;
	snprintf(path, sizeof path, "%s/l", r->dir);
	while (now_ms() < until) {
		siginfo_t gone = {0};
		if (peer_listens(path))
			return true;
		if (waitid(P_PID, (id_t)r->child, &gone, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		    gone.si_pid)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return false;
}

/* --- its log --- */

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Control bytes as they were before the log wrote them as \xNN. */
static struct str unescaped(struct run *r, struct str s)
{
	char *out = arena_alloc(&r->arena, s.n + 1);
	size_t n = 0;
	for (size_t i = 0; out && i < s.n; i++) {
		int a, b;
		if (s.p[i] == '\\' && i + 3 < s.n && s.p[i + 1] == 'x' &&
		    (a = hex(s.p[i + 2])) >= 0 && (b = hex(s.p[i + 3])) >= 0 &&
		    (a * 16 + b < 0x20 || a * 16 + b == 0x7f)) {
			out[n++] = (char)(a * 16 + b);
			i += 3;
		} else {
			out[n++] = s.p[i];
		}
	}
	return (struct str){out, out ? n : 0};
}

/* [date][thread][level][lua] script log: text. Another thread may have been in the middle of a
 * line of its own. */
static void parse_log(struct run *r)
{
	static const struct str mark = {"][lua] script log: ", sizeof "][lua] script log: " - 1};
	struct str rest = {r->log, r->nlog}, one;
	r->nlines = 0;
	while (rest.n && r->nlines < LOG_LINES) {
		str_cut(rest, '\n', &one, &rest);
		ptrdiff_t at = str_find(one, mark), from = at;
		if (at < 0)
			continue;
		while (from > 0 && one.p[from - 1] != '[')
			from--;
		r->lines[r->nlines++] =
			(struct line){{one.p + from, (size_t)(at - from)},
				      unescaped(r, str_from(one, (size_t)at + mark.n))};
	}
}

/* --- saying what differs --- */

static void put_shown(FILE *f, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c < 0x20 || c == 0x7f)
			fprintf(f, "\\x%02x", c);
		else
			fputc(c, f);
	}
	fputc('\n', f);
}

static unsigned lines_of(struct str s, struct str *out, unsigned most)
{
	unsigned n = 0;
	while (n < most) {
		bool more = str_cut(s, '\n', &out[n++], &s);
		if (!more)
			break;
	}
	return n;
}

/* Both texts line by line, what they begin and end with alike left out but for one line. */
static void put_difference(FILE *f, struct str expected, struct str got)
{
	static struct str e[2000], g[2000];
	unsigned ne = lines_of(expected, e, 2000), ng = lines_of(got, g, 2000), from = 0, end = 0;
	while (from < ne && from < ng && str_eq(e[from], g[from]))
		from++;
	while (end < ne - from && end < ng - from && str_eq(e[ne - 1 - end], g[ng - 1 - end]))
		end++;
	if (from) {
		fprintf(f, "    ");
		put_shown(f, e[from - 1]);
	}
	for (unsigned i = from; i < ne - end && i < from + SHOWN; i++) {
		fprintf(f, "  - ");
		put_shown(f, e[i]);
	}
	for (unsigned i = from; i < ng - end && i < from + SHOWN; i++) {
		fprintf(f, "  + ");
		put_shown(f, g[i]);
	}
	if (ne - end > from + SHOWN || ng - end > from + SHOWN)
		fprintf(f, "    (more lines differ)\n");
}

static void wrong(struct run *r, const struct doc *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void wrong(struct run *r, const struct doc *at, const char *fmt, ...)
{
	va_list ap;
	r->failed = true;
	if (at && at->at.line)
		fprintf(r->out, "%s:%u: ", r->file, at->at.line);
	va_start(ap, fmt);
	vfprintf(r->out, fmt, ap);
	va_end(ap);
	fputc('\n', r->out);
}

static void differs(struct run *r, const struct doc *at, const char *what, struct str expected,
		    struct str got)
{
	if (str_eq(expected, got))
		return;
	wrong(r, at, "%s is not what was expected (-), but (+)", what);
	put_difference(r->out, expected, got);
}

/* --- what was expected of a message --- */

/* All values of one name, one a line. */
static struct str values_of(struct run *r, const struct peer_fields *f, struct str name,
			    unsigned *n)
{
	struct str all = {"", 0};
	*n = 0;
	for (unsigned i = 0; i < f->n; i++)
		if (str_ieq(f->f[i].name, name))
			all = arena_printf(&r->arena, "%.*s%s%.*s", STR_ARG(all),
					   (*n)++ ? "\n" : "", STR_ARG(f->f[i].value));
	return all;
}

static void check_fields(struct run *r, const struct doc *expect, const struct peer_fields *f,
			 const char *whose)
{
	char what[256];
	unsigned n;
	doc_each (e, expect) {
		struct str got = values_of(r, f, e->key, &n), wanted = e->text;
		snprintf(what, sizeof what, "%s %.*s", whose, STR_ARG(e->key));
		if (e->kind == DOC_NULL) {
			if (n)
				wrong(r, e, "%s should not be there: %.*s", what, STR_ARG(got));
			continue;
		}
		if (e->kind == DOC_LIST) {
			unsigned i = 0;
			wanted = (struct str){"", 0};
			doc_each (v, e)
				wanted = arena_printf(&r->arena, "%.*s%s%.*s", STR_ARG(wanted),
						      i++ ? "\n" : "", STR_ARG(v->text));
		}
		if (!n)
			wrong(r, e, "%s is missing: %.*s", what, STR_ARG(wanted));
		else
			differs(r, e, what, wanted, got);
	}
}

static void check_body(struct run *r, const struct doc *expect, const struct peer_message *m,
		       const char *whose)
{
	const struct doc *body = doc_get(expect, "body"), *in = doc_get(expect, "body_contains");
	char what[256];
	snprintf(what, sizeof what, "%s body", whose);
	if (body)
		differs(r, body, what, body->text, m->body);
	const struct doc *one = in && in->kind == DOC_LIST ? in->first : in;
	for (; one; one = in->kind == DOC_LIST ? one->next : NULL)
		if (str_find(m->body, one->text) < 0) {
			wrong(r, one, "%s does not contain (-), it is (+)", what);
			put_difference(r->out, one->text, m->body);
		}
	if (!m->whole && (body || in))
		wrong(r, body ? body : in, "%s broke off", what);
}

static void check_answered(struct run *r, const struct doc *expect, const struct peer_message *m,
			   const char *why, const struct doc *at)
{
	const struct doc *status = doc_get(expect, "status"), *none = doc_get(expect, "no_answer");
	char got[16];
	if (none && none->boolean) {
		if (m && m->whole)
			wrong(r, none, "there should be no whole answer, but there is one: %.*s",
			      STR_ARG(m->first));
		return;
	}
	if (!m) {
		wrong(r, expect ? expect : at, "no answer: %s", why);
		return;
	}
	snprintf(got, sizeof got, "%u", m->status);
	if (status)
		differs(r, status, "status", status->text, str_of(got));
	check_fields(r, doc_get(expect, "headers"), &m->fields, "header");
	check_fields(r, doc_get(expect, "trailers"), &m->trailers, "trailer");
	check_body(r, expect, m, "answer's");
}

static void check_asked(struct run *r, const struct doc *e, const struct peer_message *m,
			const char *whose)
{
	const struct doc *line = e->kind == DOC_MAP ? doc_get(e, "request") : e, *v;
	char what[300];
	struct str method = {NULL, 0}, path = {NULL, 0};
	if (line)
		str_cut(line->text, ' ', &method, &path);
	if ((v = doc_get(e, "method")))
		method = v->text;
	if ((v = doc_get(e, "path")))
		path = v->text;
	snprintf(what, sizeof what, "%s method", whose);
	if (method.p)
		differs(r, e, what, method, m->method);
	snprintf(what, sizeof what, "%s path", whose);
	if (path.p)
		differs(r, e, what, path, m->path);
	if (e->kind != DOC_MAP)
		return;
	snprintf(what, sizeof what, "%s header", whose);
	check_fields(r, doc_get(e, "headers"), &m->fields, what);
	snprintf(what, sizeof what, "%s trailer", whose);
	check_fields(r, doc_get(e, "trailers"), &m->trailers, what);
	check_body(r, e, m, whose);
}

static void check_origin(struct run *r, const struct doc *e)
{
	struct peer_message *seen[SEEN];
	unsigned n = 0, i = 0;
	bool known = false;
	for (unsigned k = 0; k < r->norigins; k++)
		if (str_eq(r->origins[k].name, e->key)) {
			known = true;
			n = r->origins[k].origin ? origin_requests(r->origins[k].origin, seen, SEEN)
						 : 0;
		}
	if (!known)
		wrong(r, e, "the case has no origin \"%.*s\"", STR_ARG(e->key));
	if (known && n != e->n) {
		wrong(r, e, "%.*s should be asked %u times, not %u", STR_ARG(e->key), e->n, n);
		for (unsigned k = 0; k < n && k < SEEN; k++)
			fprintf(r->out, "  + %.*s %.*s\n", STR_ARG(seen[k]->method),
				STR_ARG(seen[k]->path));
	}
	doc_each (q, e) {
		char whose[200];
		if (i >= n || i >= SEEN)
			break;
		snprintf(whose, sizeof whose, "%.*s: request %u:", STR_ARG(e->key), i + 1);
		check_asked(r, q, seen[i++], whose);
	}
}

static bool line_is(const struct line *l, struct str expected, bool part)
{
	struct str level, text;
	if (part ? str_find(l->text, expected) >= 0 : str_eq(l->text, expected))
		return true;
	if (!str_cut(expected, ':', &level, &text) || !str_eq(level, l->level))
		return false;
	text = str_trim(text);
	return part ? str_find(l->text, text) >= 0 : str_eq(l->text, text);
}

static void check_log(struct run *r, const struct doc *expect)
{
	const struct doc *exact = doc_get(expect, "log"), *in = doc_get(expect, "log_contains");
	unsigned i = 0;
	bool same = exact && exact->n == r->nlines;
	doc_each (e, exact)
		same = same && line_is(&r->lines[i++], e->text, false);
	if (exact && !same) {
		wrong(r, exact, "the script's log is not what was expected (-), but (+)");
		doc_each (e, exact) {
			fputs("  - ", r->out);
			put_shown(r->out, e->text);
		}
		for (i = 0; i < r->nlines; i++) {
			fprintf(r->out, "  + %.*s: ", STR_ARG(r->lines[i].level));
			put_shown(r->out, r->lines[i].text);
		}
	}
	doc_each (e, in) {
		bool found = false;
		for (i = 0; i < r->nlines && !found; i++)
			found = line_is(&r->lines[i], e->text, true);
		if (!found)
			wrong(r, e, "no line of the script's log contains \"%.*s\"",
			      STR_ARG(e->text));
	}
	for (i = 0; i < r->nlines && !exact; i++) {
		bool named = !str_eq(r->lines[i].level, STR("error")) &&
			     !str_eq(r->lines[i].level, STR("critical"));
		doc_each (e, in)
			named = named || line_is(&r->lines[i], e->text, true);
		if (!named)
			wrong(r, r->test, "the script reports an error: %.*s",
			      STR_ARG(r->lines[i].text));
	}
}

/* What helps to see why. */
static void put_background(struct run *r)
{
	for (unsigned i = 0; i < r->norigins; i++) {
		struct peer_message *seen[SEEN];
		unsigned n = r->origins[i].origin
				     ? origin_requests(r->origins[i].origin, seen, SEEN)
				     : 0;
		for (unsigned k = 0; k < n && k < 5; k++)
			fprintf(r->out, "%.*s was asked: %.*s (%zu bytes of body)\n",
				STR_ARG(r->origins[i].name), STR_ARG(seen[k]->first),
				seen[k]->body.n);
	}
	struct str rest = {r->log, r->nlog}, one;
	for (unsigned n = 0; rest.n && n < SHOWN; n++) {
		str_cut(rest, '\n', &one, &rest);
		fprintf(r->out, "gateway: %.*s\n", STR_ARG(one));
	}
}

/* --- one case --- */

static void add_origins(struct run *r, const struct doc *from)
{
	doc_each (o, from) {
		unsigned i = 0;
		while (i < r->norigins && !str_eq(r->origins[i].name, o->key))
			i++;
		if (i == ORIGINS)
			return;
		if (i == r->norigins)
			r->norigins++;
		r->origins[i].name = o->key;
		r->origins[i].script = o;
		snprintf(r->origins[i].path, sizeof r->origins[i].path, "%s/o%u", r->dir, i);
	}
}

static bool start_origins(struct run *r)
{
	for (unsigned i = 0; i < r->norigins; i++) {
		if (r->origins[i].script->kind == DOC_STRING) /* refuse */
			continue;
		r->origins[i].origin = origin_start(r->origins[i].path, r->origins[i].script);
		if (!r->origins[i].origin) {
			wrong(r, NULL, "cannot start an origin: %s", strerror(errno));
			return false;
		}
	}
	return true;
}

/* Calls that nobody waits for may still be on their way. */
static void settle(struct run *r, const struct doc *expect)
{
	uint64_t until = now_ms() + SETTLE_MS;
	struct peer_message *seen[1];
	bool all = false;
	while (!all && now_ms() < until) {
		all = true;
		doc_each (e, doc_get(expect, "origins"))
			for (unsigned i = 0; i < r->norigins; i++)
				if (str_eq(r->origins[i].name, e->key) && r->origins[i].origin)
					all = all && origin_requests(r->origins[i].origin, seen,
								     1) >= e->n;
		if (!all)
			nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static void play(struct run *r)
{
	const struct doc *steps = part(r, "steps"), *request = part(r, "request"),
			 *expect = part(r, "expect"), *limit = part(r, "timeout_ms");
	static struct doc get = {.kind = DOC_STRING, .text = {"GET /", 5}};
	uint64_t timeout_ms = 10000;
	char path[96];
	const char *why;
	snprintf(path, sizeof path, "%s/l", r->dir);
	if (limit)
		str_u64(limit->text, &timeout_ms);
	if (doc_get(r->test, "request"))
		steps = NULL;
	const struct doc *s = steps ? steps->first : request ? request : &get;
	for (; s; s = steps ? s->next : NULL) {
		const struct doc *own = doc_get(s, "expect");
		struct peer_message *m = peer_ask(path, s, (unsigned)timeout_ms, &why);
		if (own)
			check_answered(r, own, m, why, s);
		if (!steps || !s->next)
			check_answered(r, expect, m, why, r->test);
		if (r->failed && m)
			fprintf(r->out, "the answer began: %.*s\n", STR_ARG(m->first));
		peer_message_free(m);
	}
	settle(r, expect);
}

static void run_case(struct run *r)
{
	char path[96];
	int status = 0;
	add_origins(r, doc_get(r->defaults, "origins"));
	add_origins(r, doc_get(r->test, "origins"));
	snprintf(path, sizeof path, "%s/bootstrap.yaml", r->dir);
	if (!start_origins(r))
		return;
	if (!write_bootstrap(r, path) || !start_gateway(r, path)) {
		wrong(r, NULL, "cannot start the gateway: %s", strerror(errno));
		return;
	}
	bool up = listens(r);
	if (up)
		play(r);
	bool ended = stop_gateway(r, &status);
	parse_log(r);
	if (!up)
		wrong(r, r->test, "the gateway does not start with this script and case");
	else if (!ended)
		wrong(r, r->test, "the gateway ended by itself, status 0x%x", (unsigned)status);
	if (up) {
		doc_each (e, doc_get(part(r, "expect"), "origins"))
			check_origin(r, e);
		check_log(r, part(r, "expect"));
	}
}

static bool open_folder(struct run *r)
{
	const char *tmp = getenv("TMPDIR");
	if (!tmp || strlen(tmp) > 30)
		tmp = "/tmp";
	snprintf(r->dir, sizeof r->dir, "%s/postern-test-XXXXXX", tmp);
	return mkdtemp(r->dir) != NULL;
}

static void close_folder(struct run *r)
{
	char path[96];
	for (unsigned i = 0; i < r->norigins; i++)
		unlink(r->origins[i].path);
	snprintf(path, sizeof path, "%s/l", r->dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/bootstrap.yaml", r->dir);
	unlink(path);
	rmdir(r->dir);
}

/* --- all cases, and the reports --- */

struct outcome {
	struct str name;
	char *text; /* malloc'd, "" when it passed */
	bool failed;
	uint64_t ms;
};

static void one_case(const char *script, const char *file, const struct doc *root,
		     const struct doc *test, struct outcome *o)
{
	static struct run r;
	size_t n = 0;
	uint64_t began = now_ms();
	memset(&r, 0, sizeof r);
	arena_init(&r.arena, SIZE_MAX);
	pthread_mutex_init(&r.lock, NULL);
	r.script = script;
	r.file = file;
	r.defaults = doc_get(root, "defaults");
	r.test = test;
	r.out = open_memstream(&o->text, &n);
	if (r.out) {
		if (open_folder(&r))
			run_case(&r);
		else
			wrong(&r, NULL, "cannot make a folder: %s", strerror(errno));
		if (r.failed)
			put_background(&r);
		fclose(r.out);
	}
	for (unsigned i = 0; i < r.norigins; i++)
		origin_stop(r.origins[i].origin);
	close_folder(&r);
	o->failed = r.failed || !r.out;
	o->name = doc_get(test, "name")->text;
	o->ms = now_ms() - began;
	free(r.log);
	pthread_mutex_destroy(&r.lock);
	arena_fini(&r.arena);
}

static void tap(unsigned number, const struct outcome *o)
{
	struct str rest = str_of(o->text), one;
	printf("%sok %u - %.*s\n", o->failed ? "not " : "", number, STR_ARG(o->name));
	while (o->failed && rest.n) {
		str_cut(rest, '\n', &one, &rest);
		printf("# %.*s\n", STR_ARG(one));
	}
	fflush(stdout);
}

static void put_xml(FILE *f, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '<' || c == '>' || c == '&' || c == '"')
			fprintf(f, "&#%u;", c);
		else if (c >= 0x20 || c == '\n' || c == '\t')
			fputc(c, f);
		else /* XML 1.0 cannot hold it */
			fprintf(f, "\\x%02x", c);
	}
}

static bool junit(const char *path, const char *script, const struct outcome *all, unsigned n)
{
	FILE *f = fopen(path, "we");
	unsigned failed = 0;
	uint64_t ms = 0;
	if (!f) {
		fprintf(stderr, "postern test: cannot write %s: %m\n", path);
		return false;
	}
	for (unsigned i = 0; i < n; i++) {
		failed += all[i].failed;
		ms += all[i].ms;
	}
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"", f);
	put_xml(f, str_of(script));
	fprintf(f, "\" tests=\"%u\" failures=\"%u\" time=\"%.3f\">\n", n, failed,
		(double)ms / 1000);
	for (unsigned i = 0; i < n; i++) {
		struct str first, rest;
		fputs("<testcase classname=\"", f);
		put_xml(f, str_of(script));
		fputs("\" name=\"", f);
		put_xml(f, all[i].name);
		fprintf(f, "\" time=\"%.3f\"", (double)all[i].ms / 1000);
		if (!all[i].failed) {
			fputs("/>\n", f);
			continue;
		}
		str_cut(str_of(all[i].text), '\n', &first, &rest);
		fputs(">\n<failure message=\"", f);
		put_xml(f, first);
		fputs("\">", f);
		put_xml(f, str_of(all[i].text));
		fputs("</failure>\n</testcase>\n", f);
	}
	fputs("</testsuite>\n</testsuites>\n", f);
	return fclose(f) == 0;
}

static const struct doc *read_cases(struct arena *a, const char *file)
{
	struct diags d;
	diags_init(&d);
	struct doc *root = doc_from_file(a, &d, file);
	const struct doc *cases = doc_get(root, "cases");
	static const char *const keys[] = {"defaults", "cases", NULL};
	if (root) {
		know(&d, root, keys, "a file of cases");
		if (!cases || cases->kind != DOC_LIST || cases->n == 0)
			diag_add(&d, DIAG_ERROR, root, "cases is missing: a list of maps");
		if (doc_get(root, "defaults"))
			check_case(&d, doc_get(root, "defaults"), true);
		doc_each (c, cases)
			check_case(&d, c, false);
	}
	bool ok = root && d.errors == 0;
	diags_print(&d, stderr);
	diags_fini(&d);
	return ok ? root : NULL;
}

static int run_all(const char *script, const char *file, const char *only, const char *report)
{
	struct arena a;
	unsigned n = 0, failed = 0;
	arena_init(&a, SIZE_MAX);
	const struct doc *root = read_cases(&a, file), *cases = doc_get(root, "cases");
	char *full = realpath(script, NULL);
	if (root && !full)
		fprintf(stderr, "postern test: %s: %m\n", script);
	struct outcome *all = root && full ? calloc(cases->n, sizeof *all) : NULL;
	if (!all) {
		free(full);
		arena_fini(&a);
		return 2;
	}
	unsigned chosen = 0;
	doc_each (c, cases)
		chosen += !only || str_find(doc_get(c, "name")->text, str_of(only)) >= 0;
	printf("TAP version 13\n1..%u\n", chosen);
	doc_each (c, cases) {
		if (only && str_find(doc_get(c, "name")->text, str_of(only)) < 0)
			continue;
		one_case(full, file, root, c, &all[n]);
		failed += all[n].failed;
		tap(n + 1, &all[n]);
		n++;
	}
	printf("# %u passed, %u failed\n", n - failed, failed);
	bool written = !report || junit(report, script, all, n);
	for (unsigned i = 0; i < n; i++)
		free(all[i].text);
	free(all);
	free(full);
	arena_fini(&a);
	arena_trim();
	return failed ? 1 : written ? 0 : 2;
}

int testverb(int argc, char **argv)
{
	const char *names[2] = {NULL, NULL}, *only = NULL, *report = NULL;
	unsigned n = 0;
	bool bad = false;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--junit") == 0 && i + 1 < argc)
			report = argv[++i];
		else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
			only = argv[++i];
		else if (argv[i][0] == '-' || n == 2)
			bad = true;
		else
			names[n++] = argv[i];
	}
	if (bad || n != 2) {
		fputs("usage: postern test SCRIPT.lua CASES.yaml [--only TEXT] [--junit FILE]\n",
		      stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	return run_all(names[0], names[1], only, report);
}

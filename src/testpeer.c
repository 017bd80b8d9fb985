/* src/testpeer.c */
#include "testpeer.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 1 << 20, CONNECTIONS = 128, DELAY_MAX_MS = 60000 };

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int unix_address(const char *path, struct sockaddr_un *sa)
{
	*sa = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof sa->sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(sa->sun_path, path);
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

void peer_message_free(struct peer_message *m)
{
	if (m)
		free(m->text);
	free(m);
}

/* --- reading --- */

/* What has come over one connection and was not yet used. */
struct wire {
	int fd, stop_fd; /* stop_fd: readable when all is over; -1: none */
	char *p;
	size_t n, cap;
	uint64_t deadline_ms;
	const char *why; /* nothing more comes */
};

static bool wire_fill(struct wire *w)
{
	struct pollfd fds[2] = {{.fd = w->fd, .events = POLLIN},
				{.fd = w->stop_fd, .events = POLLIN}};
	uint64_t now = now_ms();
	int left = w->deadline_ms > now ? (int)(w->deadline_ms - now) : 0;
	if (w->n == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 16384;
		char *p = cap <= 2 * (size_t)PEER_BODY ? realloc(w->p, cap) : NULL;
		if (!p) {
			w->why = "it is too large";
			return false;
		}
		w->p = p;
		w->cap = cap;
	}
	int ready = poll(fds, 2, left);
	if (ready <= 0 || fds[1].revents) {
		w->why = "it did not come in time";
		return false;
	}
	ssize_t got = recv(w->fd, w->p + w->n, w->cap - w->n, 0);
	if (got <= 0) {
		w->why = got == 0 ? "the connection was closed" : "the connection was reset";
		return false;
	}
	w->n += (size_t)got;
	return true;
}

/* Offset behind the next CRLF at or after `at`, or 0. */
static size_t wire_line(struct wire *w, size_t at)
{
	size_t from = at;
	for (;;) {
		char *e = w->n > from ? memchr(w->p + from, '\n', w->n - from) : NULL;
		if (e)
			return (size_t)(e - w->p) + 1;
		from = w->n;
		if (w->n - at > HEAD_MAX || !wire_fill(w))
			return 0;
	}
}

/* Places within a wire whose buffer may still move: offsets, made strings at the end. */
struct place {
	size_t at, n;
};
struct reading {
	struct place name[2][PEER_FIELDS], value[2][PEER_FIELDS]; /* [1]: trailers */
	unsigned n[2];
	size_t at; /* in the wire */
	char *body;
	size_t nbody, cap_body;
};

static bool read_fields(struct wire *w, struct reading *r, int which)
{
	for (;;) {
		size_t from = r->at, to = wire_line(w, from), end = to;
		if (!to)
			return false;
		while (end > from && (w->p[end - 1] == '\n' || w->p[end - 1] == '\r'))
			end--;
		r->at = to;
		if (end == from)
			return true;
		char *colon = memchr(w->p + from, ':', end - from);
		if (!colon || r->n[which] == PEER_FIELDS) {
			w->why = "its head makes no sense";
			return false;
		}
		size_t c = (size_t)(colon - w->p), v = c + 1;
		while (v < end && (w->p[v] == ' ' || w->p[v] == '\t'))
			v++;
		while (end > v && (w->p[end - 1] == ' ' || w->p[end - 1] == '\t'))
			end--;
		r->name[which][r->n[which]] = (struct place){from, c - from};
		r->value[which][r->n[which]++] = (struct place){v, end - v};
	}
}

static struct str field_of(const struct wire *w, const struct reading *r, const char *name)
{
	for (unsigned i = 0; i < r->n[0]; i++)
		if (str_ieq((struct str){w->p + r->name[0][i].at, r->name[0][i].n}, str_of(name)))
			return (struct str){w->p + r->value[0][i].at, r->value[0][i].n};
	return (struct str){NULL, 0};
}

static bool body_add(struct wire *w, struct reading *r, size_t n)
{
	while (w->n - r->at < n)
		if (!wire_fill(w))
			break;
	size_t have = w->n - r->at < n ? w->n - r->at : n;
	if (r->nbody + have > r->cap_body) {
		size_t cap = (r->nbody + have) * 2;
		char *p = cap <= 2 * (size_t)PEER_BODY ? realloc(r->body, cap) : NULL;
		if (!p) {
			w->why = "it is too large";
			return false;
		}
		r->body = p;
		r->cap_body = cap;
	}
	if (have)
		memcpy(r->body + r->nbody, w->p + r->at, have);
	r->nbody += have;
	r->at += have;
	return have == n;
}

static bool read_chunked(struct wire *w, struct reading *r)
{
	for (;;) {
		size_t to = wire_line(w, r->at);
		if (!to)
			return false;
		unsigned long n = strtoul(w->p + r->at, NULL, 16);
		r->at = to;
		if (n == 0)
			return read_fields(w, r, 1);
		if (n > PEER_BODY || !body_add(w, r, n) || !(r->at = wire_line(w, r->at)))
			return false;
	}
}

/* The body by RFC 9112 6.3. */
static bool read_body(struct wire *w, struct reading *r, bool answer, bool none)
{
	struct str coding = field_of(w, r, "transfer-encoding"),
		   length = field_of(w, r, "content-length");
	uint64_t n;
	if (none)
		return true;
	if (coding.p)
		return read_chunked(w, r);
	if (length.p)
		return str_u64(length, &n) && n <= PEER_BODY && body_add(w, r, n);
	if (!answer)
		return true;
	while (wire_fill(w))
		;
	return body_add(w, r, w->n - r->at) &&
	       str_eq(str_of(w->why), STR("the connection was closed"));
}

static void give_fields(struct peer_fields *to, const struct reading *r, int which,
			const char *base)
{
	to->n = r->n[which];
	for (unsigned i = 0; i < to->n; i++) {
		to->f[i].name = (struct str){base + r->name[which][i].at, r->name[which][i].n};
		to->f[i].value = (struct str){base + r->value[which][i].at, r->value[which][i].n};
	}
}

static struct peer_message *make_message(struct wire *w, struct reading *r, struct place line,
					 bool answer)
{
	struct peer_message *m = calloc(1, sizeof *m);
	char *text = malloc(r->at + r->nbody + 1);
	if (!m || !text) {
		free(m);
		free(text);
		return NULL;
	}
	memcpy(text, w->p, r->at);
	if (r->nbody)
		memcpy(text + r->at, r->body, r->nbody);
	m->text = text;
	m->first = (struct str){text + line.at, line.n};
	m->body = (struct str){text + r->at, r->nbody};
	give_fields(&m->fields, r, 0, text);
	give_fields(&m->trailers, r, 1, text);
	struct str rest, version;
	str_cut(m->first, ' ', &m->method, &rest);
	str_cut(rest, ' ', &m->path, &version);
	if (answer) {
		m->status = (unsigned)strtoul(m->path.p ? m->path.p : "", NULL, 10);
		m->method = m->path = (struct str){"", 0};
	}
	return m;
}

/* The next message of the connection. no_body: an answer to HEAD. NULL: w->why. */
static struct peer_message *read_message(struct wire *w, bool answer, bool no_body)
{
	struct reading *r = calloc(1, sizeof *r);
	struct peer_message *m = NULL;
	unsigned status = 0;
	struct place line;
	if (!r)
		return NULL;
	do { /* interim answers are passed over */
		size_t from = r->at, to = wire_line(w, from);
		if (!to)
			goto out;
		line = (struct place){from,
				      to - from - (to - from > 1 && w->p[to - 2] == '\r' ? 2 : 1)};
		r->at = to;
		r->n[0] = 0;
		if (!read_fields(w, r, 0))
			goto out;
		char code[4] = "";
		if (answer && line.n > 12)
			memcpy(code, w->p + from + 9, 3);
		status = (unsigned)strtoul(code, NULL, 10);
	} while (answer && status >= 100 && status < 200 && status != 101);
	bool none = no_body || (answer && (status == 204 || status == 304 || status == 101));
	bool whole = read_body(w, r, answer, none);
	m = make_message(w, r, line, answer);
	if (m)
		m->whole = whole;
	memmove(w->p, w->p + r->at, w->n - r->at);
	w->n -= r->at;
out:
	free(r->body);
	free(r);
	return m;
}

/* --- writing --- */

static bool write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
		if (w <= 0)
			return false;
		p += w;
		n -= (size_t)w;
	}
	return true;
}

void peer_headers(const struct doc *d, void (*each)(void *arg, struct str name, struct str value),
		  void *arg)
{
	doc_each (e, d) {
		if (d->kind == DOC_LIST && e->kind == DOC_LIST && e->n == 2)
			each(arg, e->first->text, e->first->next->text);
		else if (d->kind == DOC_LIST) /* {name: value} */
			peer_headers(e, each, arg);
		else if (e->kind == DOC_LIST)
			doc_each (v, e)
				each(arg, e->key, v->text);
		else
			each(arg, e->key, e->text);
	}
}

struct has {
	const char *name;
	bool found;
};
static void look(void *arg, struct str name, struct str value)
{
	struct has *h = arg;
	h->found |= str_ieq(name, str_of(h->name));
}
static bool has_header(const struct doc *d, const char *name)
{
	struct has h = {name, false};
	peer_headers(d, look, &h);
	return h.found;
}

static void put_field(void *f, struct str name, struct str value)
{
	fprintf(f, "%.*s: %.*s\r\n", STR_ARG(name), STR_ARG(value));
}

static void put_chunk(FILE *f, struct str s)
{
	if (!s.n)
		return;
	fprintf(f, "%zx\r\n", s.n);
	fwrite(s.p, 1, s.n, f);
	fputs("\r\n", f);
}

static uint64_t delay_of(const struct doc *d, const char *key)
{
	const struct doc *v = doc_get(d, key);
	uint64_t ms = 0;
	return v && str_u64(v->text, &ms) ? (ms < DELAY_MAX_MS ? ms : DELAY_MAX_MS) : 0;
}

/* Fields and framing behind the start line in f. *chunked: as it was framed. */
static void put_head(FILE *f, const struct doc *d, bool body_due, bool *chunked)
{
	const struct doc *body = doc_get(d, "body"), *chunks = doc_get(d, "chunks");
	*chunked = chunks || doc_get(d, "trailers");
	peer_headers(doc_get(d, "headers"), put_field, f);
	if (*chunked)
		fputs("Transfer-Encoding: chunked\r\n", f);
	else if ((body_due || (body && body->text.n)) &&
		 !has_header(doc_get(d, "headers"), "content-length"))
		fprintf(f, "Content-Length: %zu\r\n", body ? body->text.n : (size_t)0);
	fputs("\r\n", f);
}

static void put_body(FILE *f, const struct doc *d, bool chunked)
{
	const struct doc *body = doc_get(d, "body"), *chunks = doc_get(d, "chunks");
	if (!chunked) {
		if (body)
			fwrite(body->text.p, 1, body->text.n, f);
		return;
	}
	if (body)
		put_chunk(f, body->text);
	doc_each (c, chunks)
		put_chunk(f, c->text);
	fputs("0\r\n", f);
	peer_headers(doc_get(d, "trailers"), put_field, f);
	fputs("\r\n", f);
}

/* --- the client --- */

static bool put_request(FILE *f, const struct doc *d, bool *head)
{
	struct str method = STR("GET"), path = STR("/"), host = STR("example.com"), rest;
	const struct doc *v, *line = d->kind == DOC_MAP ? doc_get(d, "request") : d;
	bool chunked;
	if (line)
		str_cut(line->text, ' ', &method, &path);
	if ((v = doc_get(d, "method")))
		method = v->text;
	if ((v = doc_get(d, "path")))
		path = v->text;
	if ((v = doc_get(d, "host")))
		host = v->text;
	str_cut(path, ' ', &path, &rest);
	*head = str_eq(method, STR("HEAD"));
	fprintf(f, "%.*s %.*s HTTP/1.1\r\n", STR_ARG(method), STR_ARG(path));
	if (!has_header(doc_get(d, "headers"), "host"))
		fprintf(f, "Host: %.*s\r\n", STR_ARG(host));
	put_head(f, d, false, &chunked);
	put_body(f, d, chunked);
	return true;
}

struct peer_message *peer_ask(const char *path, const struct doc *d, unsigned timeout_ms,
			      const char **why)
{
	struct sockaddr_un sa;
	struct wire w = {
		.fd = unix_address(path, &sa), .stop_fd = -1, .deadline_ms = now_ms() + timeout_ms};
	struct peer_message *m = NULL;
	char *text = NULL;
	size_t n = 0;
	bool head = false;
	*why = "";
	if (w.fd < 0 || connect(w.fd, (struct sockaddr *)&sa, sizeof sa)) {
		*why = "the gateway does not listen";
	} else {
		FILE *f = open_memstream(&text, &n);
		if (f) {
			put_request(f, d, &head);
			fclose(f);
			write_all(w.fd, text, n); /* an early answer may come all the same */
			m = read_message(&w, true, head);
		}
		if (!m)
			*why = w.why ? w.why : "no memory";
	}
	if (w.fd >= 0)
		close(w.fd);
	free(text);
	free(w.p);
	return m;
}

bool peer_listens(const char *path)
{
	struct sockaddr_un sa;
	int fd = unix_address(path, &sa);
	bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0;
	if (fd >= 0)
		close(fd);
	return yes;
}

/* --- origins --- */

struct origin {
	const struct doc *script;
	int listen_fd, stop[2];
	pthread_t thread;
	pthread_mutex_t lock;
	struct peer_message *first, **last;
	unsigned n;
	bool used[1024]; /* answers given, by their place in the script */
	struct served {
		struct origin *o;
		int fd;
		pthread_t thread;
	} * served[CONNECTIONS];
	unsigned nserved;
};

static bool wanted(const struct doc *match, const struct peer_message *m)
{
	const struct doc *method = doc_get(match, "method"), *path = doc_get(match, "path");
	return (!method || str_eq(method->text, m->method)) &&
	       (!path || str_eq(path->text, m->path));
}

/* The first answer that fits and was not given yet; the last that fits is given again and again.
 * Lock held. */
static const struct doc *choose(struct origin *o, const struct peer_message *m)
{
	const struct doc *last = NULL;
	unsigned i = 0;
	if (o->script->kind != DOC_LIST)
		return o->script;
	doc_each (a, o->script) {
		unsigned at = i++;
		const struct doc *match = doc_get(a, "match");
		if (match && !wanted(match, m))
			continue;
		last = a;
		if (at < sizeof o->used && !o->used[at]) {
			o->used[at] = true;
			return a;
		}
	}
	return last;
}

/* False: the test is over. */
static bool pause_ms(struct origin *o, uint64_t ms)
{
	struct pollfd p = {.fd = o->stop[0], .events = POLLIN};
	return ms == 0 || poll(&p, 1, (int)ms) == 0;
}

/* False: the connection ends here. */
static bool answer(struct served *s, const struct doc *a, const struct peer_message *m)
{
	struct str fail = doc_get(a, "fail") ? doc_get(a, "fail")->text : (struct str){"", 0};
	const struct doc *status = doc_get(a, "status");
	char *text = NULL;
	size_t n = 0;
	bool chunked;
	if (!pause_ms(s->o, delay_of(a, "delay_ms")))
		return false;
	if (str_eq(fail, STR("hang")))
		return pause_ms(s->o, DELAY_MAX_MS) && false;
	if (str_eq(fail, STR("close")))
		return false;
	FILE *f = open_memstream(&text, &n);
	if (!f)
		return false;
	unsigned code = status ? (unsigned)strtoul(status->text.p, NULL, 10) : 200;
	bool bodiless = str_eq(m->method, STR("HEAD")) || code == 204 || code == 304;
	fprintf(f, "HTTP/1.1 %u %s\r\n", code, code == 200 ? "OK" : "Scripted");
	put_head(f, a, code != 204 && code != 304, &chunked);
	fclose(f);
	bool ok = write_all(s->fd, text, n) && pause_ms(s->o, delay_of(a, "body_delay_ms"));
	free(text);
	text = NULL;
	if (!ok || bodiless)
		return ok;
	if (!(f = open_memstream(&text, &n)))
		return false;
	put_body(f, a, chunked);
	fclose(f);
	if (str_eq(fail, STR("cut"))) { /* half of the body, then the end */
		write_all(s->fd, text, n / 2);
		ok = false;
	} else {
		ok = write_all(s->fd, text, n);
	}
	free(text);
	return ok;
}

static void *serve(void *arg)
{
	struct served *s = arg;
	struct origin *o = s->o;
	struct wire w = {.fd = s->fd, .stop_fd = o->stop[0], .deadline_ms = UINT64_MAX};
	bool go_on = true;
	while (go_on) {
		w.deadline_ms = now_ms() + DELAY_MAX_MS;
		struct peer_message *m = read_message(&w, false, false);
		if (!m)
			break;
		pthread_mutex_lock(&o->lock);
		*o->last = m;
		o->last = &m->next;
		o->n++;
		const struct doc *a = choose(o, m);
		pthread_mutex_unlock(&o->lock);
		go_on = m->whole && a && answer(s, a, m);
	}
	free(w.p);
	close(s->fd);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct origin *o = arg;
	struct pollfd fds[2] = {{.fd = o->listen_fd, .events = POLLIN},
				{.fd = o->stop[0], .events = POLLIN}};
	while (o->nserved < CONNECTIONS && poll(fds, 2, -1) > 0 && !fds[1].revents) {
		int fd = accept4(o->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		struct served *s = fd >= 0 ? calloc(1, sizeof *s) : NULL;
		if (!s) {
			if (fd >= 0)
				close(fd);
			continue;
		}
		s->o = o;
		s->fd = fd;
		if (pthread_create(&s->thread, NULL, serve, s)) {
			close(fd);
			free(s);
			continue;
		}
		o->served[o->nserved++] = s;
	}
	return NULL;
}

struct origin *origin_start(const char *path, const struct doc *script)
{
	struct sockaddr_un sa;
	struct origin *o = calloc(1, sizeof *o);
	if (!o)
		return NULL;
	o->script = script;
	o->last = &o->first;
	o->stop[0] = o->stop[1] = -1;
	pthread_mutex_init(&o->lock, NULL);
	o->listen_fd = unix_address(path, &sa);
	if (o->listen_fd < 0 || bind(o->listen_fd, (struct sockaddr *)&sa, sizeof sa) ||
	    listen(o->listen_fd, 128) || pipe(o->stop) ||
	    pthread_create(&o->thread, NULL, accept_all, o)) {
		int err = errno;
		if (o->listen_fd >= 0)
			close(o->listen_fd);
		for (int i = 0; i < 2; i++)
			if (o->stop[i] >= 0)
				close(o->stop[i]);
		free(o);
		errno = err;
		return NULL;
	}
	return o;
}

unsigned origin_requests(struct origin *o, struct peer_message **out, unsigned n)
{
	pthread_mutex_lock(&o->lock);
	struct peer_message *m = o->first;
	for (unsigned i = 0; i < n && m; i++, m = m->next)
		out[i] = m;
	unsigned all = o->n;
	pthread_mutex_unlock(&o->lock);
	return all;
}

void origin_stop(struct origin *o)
{
	if (!o)
		return;
	close(o->stop[1]); /* everyone's end of the pipe becomes readable */
	pthread_join(o->thread, NULL);
	for (unsigned i = 0; i < o->nserved; i++) {
		pthread_join(o->served[i]->thread, NULL);
		free(o->served[i]);
	}
	close(o->listen_fd);
	close(o->stop[0]);
	while (o->first) {
		struct peer_message *m = o->first;
		o->first = m->next;
		peer_message_free(m);
	}
	pthread_mutex_destroy(&o->lock);
	free(o);
}

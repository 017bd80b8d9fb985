/* src/filters/static/static.c
 *
 * A folder as an origin: the terminal filter postern.filters.http.static.v1.Static. A file goes out
 * piece by piece as the client takes it, so an exchange holds at most what an answer may buffer,
 * however large the file. What nobody on the way looks at goes from the file to the socket, by
 * sendfile(2); the rest is read.
 */
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include "exchange/exchange.h"
#include "filters/filters.h"
#include "filters/static/site.h"
#include "obs/log.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECHECK_US 1000000ull
enum {
	PER_PUMP = 48 * 1024,
	WITH_HEAD = 44 * 1024, /* one write takes it and the head */
	BOUNDARY = 24
};

/* The open root; it may be replaced in the configuration while exchanges still use the old one. */
struct folder {
	unsigned users; /* under site.lock */
	int fd;
	dev_t dev;
	ino_t ino;
};
struct site {
	const char *root;
	struct str index, not_found;
	pthread_mutex_t lock;
	struct folder *folder;
	uint64_t checked_us; /* when root was last seen to be that folder */
};

/* One answer under way. */
struct part {
	struct str before; /* multipart: the part's head; in the exchange's arena */
	uint64_t at, to;
};
struct serving {
	int fd;             /* -1: closed, or file has it */
	struct chunk *file; /* the one part's file, when nobody looks at the bytes; else NULL */
	unsigned part, nparts;
	struct part *parts;
	struct str after; /* multipart: the last boundary */
};

#define NO_PAGE "<!doctype html>\n<title>404 Not Found</title>\n<h1>404 Not Found</h1>\n"

/* --- the folder --- */

static struct folder *folder_open(const char *root)
{
	struct stat st;
	struct folder *f = mem_zalloc(MEM_CONFIG, sizeof *f);
	if (!f) {
		errno = ENOMEM;
		return NULL;
	}
	f->users = 1;
	f->fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->fd < 0 || fstat(f->fd, &st)) {
		int err = errno;
		if (f->fd >= 0)
			close(f->fd);
		mem_free(MEM_CONFIG, f);
		errno = err;
		return NULL;
	}
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	return f;
}

/* Lock held. */
static void folder_unref(struct folder *f)
{
	must(f->users > 0);
	if (--f->users)
		return;
	close(f->fd);
	mem_free(MEM_CONFIG, f);
}

/* The folder that root names now: a site is often published by turning a link. Looked up once a
 * second. */
static struct folder *folder_take(struct site *s, uint64_t now)
{
	struct stat st;
	pthread_mutex_lock(&s->lock);
	if (now >= s->checked_us + RECHECK_US || now < s->checked_us) {
		s->checked_us = now;
		if (stat(s->root, &st) == 0 &&
		    (st.st_dev != s->folder->dev || st.st_ino != s->folder->ino)) {
			struct folder *f = folder_open(s->root);
			if (f) {
				folder_unref(s->folder);
				s->folder = f;
			}
		}
	}
	struct folder *f = s->folder;
	f->users++;
	pthread_mutex_unlock(&s->lock);
	return f;
}

static void folder_give(struct site *s, struct folder *f)
{
	pthread_mutex_lock(&s->lock);
	folder_unref(f);
	pthread_mutex_unlock(&s->lock);
}

/* --- configuration --- */

static bool relative_name(struct str s, char *out)
{
	bool folder;
	char path[SITE_PATH];
	if (s.n == 0 || s.n + 2 > sizeof path || memchr(s.p, '%', s.n))
		return false;
	path[0] = '/';
	memcpy(path + 1, s.p, s.n);
	return site_path((struct str){path, s.n + 1}, out, &folder) > 0 && !folder;
}

static struct str name_field(struct compile *c, const struct doc *cfg, const char *key,
			     struct str absent)
{
	char name[SITE_PATH];
	const struct doc *d = doc_field(cfg, key);
	if (!d || (d->kind == DOC_STRING && d->text.n == 0))
		return absent;
	if (d->kind == DOC_STRING && relative_name(d->text, name))
		return arena_str(c->arena, str_of(name));
	diag_add(c->diags, DIAG_ERROR, d, "%s must be the name of a file below root", key);
	return (struct str){NULL, 0};
}

static void *static_compile(struct compile *c, const struct doc *cfg)
{
	const struct doc *root = doc_field(cfg, "root");
	if (!root || root->kind != DOC_STRING || root->text.n == 0 ||
	    memchr(root->text.p, 0, root->text.n)) {
		diag_add(c->diags, DIAG_ERROR, root ? root : cfg, "root must name a folder");
		return NULL;
	}
	struct site *s = arena_zalloc(c->arena, sizeof *s);
	if (s) {
		s->root = arena_strz(c->arena, root->text);
		s->index = name_field(c, cfg, "index", STR("index.html"));
		s->not_found = name_field(c, cfg, "not_found", STR("404.html"));
	}
	if (!s || !s->root) {
		diag_add(c->diags, DIAG_ERROR, root, "no memory");
		return NULL;
	}
	if (!s->index.p || !s->not_found.p)
		return NULL;
	s->folder = folder_open(s->root);
	if (!s->folder) {
		diag_add(c->diags, DIAG_ERROR, root, "cannot open the folder %s: %s", s->root,
			 strerror(errno));
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void static_free(void *config)
{
	struct site *s = config;
	folder_unref(s->folder);
	pthread_mutex_destroy(&s->lock);
}

/* --- answers --- */

/* A whole answer of ours with a short text. */
static enum verdict answer_text(struct exchange *ex, unsigned status, struct str type,
				struct str text, const char *details)
{
	struct head *h = &ex->resp.head;
	struct chain body = {0};
	struct str len = arena_printf(&ex->arena, "%zu", text.n);
	bool ok = len.p && head_init(h, &ex->arena, true, 12) && head_set_status(h, status) &&
		  head_add_id(h, FIELD_CONTENT_TYPE, type) &&
		  head_add_id(h, FIELD_CONTENT_LENGTH, len);
	if (ok && status == 405)
		ok = head_add_id(h, FIELD_ALLOW, STR("GET, HEAD"));
	if (!ok || !chain_append(&body, NULL, text.p, text.n)) {
		exch_fail(ex, FAILED_MEMORY);
		return ANSWERED;
	}
	exch_answer(ex, &body, details);
	return ANSWERED;
}

static enum verdict failed(struct exchange *ex, int err)
{
	char q[300];
	log_limited(LOG_FILTER, LOG_WARNING, "static", "static: %s: \"%s\"", strerror(err),
		    log_quote(q, sizeof q, ex->path_only));
	exch_reply(ex, 503, STR("overloaded"), "static_file_error", "");
	return ANSWERED;
}

/* Reads the next bytes of the current part into some. False: the file is shorter than it was, or
 * cannot be read. */
static bool read_some(struct serving *s, struct chain *some, size_t most)
{
	struct part *p = &s->parts[s->part];
	uint64_t left = p->to - p->at;
	uint32_t cap = left <= CHUNK_SMALL || most <= CHUNK_SMALL ? CHUNK_SMALL : CHUNK_LARGE;
	size_t want = cap < most ? cap : most;
	if (want > left)
		want = (size_t)left;
	struct chunk *c = chunk_new(cap);
	if (!c)
		return false;
	ssize_t n;
	do
		n = pread(s->fd, c->data, want, (off_t)p->at);
	while (n < 0 && errno == EINTR);
	bool ok = n > 0;
	if (ok) {
		c->fill = (uint32_t)n;
		ok = chain_append(some, c, c->data, (size_t)n);
		p->at += (uint64_t)n;
	}
	chunk_unref(c);
	return ok;
}

static void close_file(struct serving *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	chunk_unref(s->file); /* pieces on their way keep it open */
	s->file = NULL;
}

static bool is_open(const struct serving *s)
{
	return s->fd >= 0 || s->file;
}

/* From the second piece on the head is out, and it is known whether anybody looks at the bytes. Short files are not worth it: their first
 * piece leaves with the head. */
static bool passes_unseen(const struct exchange *ex, struct serving *s)
{
	if (s->file)
		return true;
	const struct part *p = s->parts;
	if (s->nparts != 1 || p->to - p->at < LIMIT_SENDFILE || !exch_unseen(ex))
		return false;
	s->file = file_new(s->fd, (off_t)p->at);
	if (s->file)
		s->fd = -1;
	return s->file != NULL;
}

/* The next piece of the file as it is. */
static bool pass_some(struct serving *s, struct chain *some)
{
	struct part *p = s->parts;
	uint64_t left = p->to - p->at;
	size_t n = left < FILE_BYTES ? (size_t)left : FILE_BYTES;
	p->at += n;
	s->part += p->at == p->to;
	return chain_append_file(some, s->file, n);
}

/* Hands on as much as is wanted now, at most PER_PUMP. */
static void feed(struct exchange *ex, const struct filter_cfg *self, struct serving *s)
{
	struct chain some = {0};
	size_t room = exch_answer_room(ex), most = ex->head_sent ? PER_PUMP : WITH_HEAD;
	bool ok = true;
	if (passes_unseen(ex, s)) {
		if (!chain_empty(&ex->resp.out)) /* one at a time: taking it calls for the next */
			return;
		ok = pass_some(s, &some);
		room = 0;
	}
	if (room > most)
		room = most;
	while (ok && s->part < s->nparts && some.n < room) {
		struct part *p = &s->parts[s->part];
		if (p->before.n) { /* copied: what is written may outlive the exchange's arena */
			ok = chain_copy(&some, p->before.p, p->before.n);
			p->before.n = 0;
		} else if (p->at < p->to) {
			ok = read_some(s, &some, room - some.n);
		}
		if (ok && p->at == p->to)
			s->part++;
	}
	bool end = ok && s->part == s->nparts;
	if (end && s->after.n)
		ok = end = chain_copy(&some, s->after.p, s->after.n);
	if (!ok) {
		close_file(s);
		chain_clear(&some);
		exch_answer_broken(ex, FAILED_FILE);
		return;
	}
	if (end)
		close_file(s);
	if (some.n || end)
		exch_answer_data(ex, &some, end, NULL);
	if (!end && exch_answer_room(ex))
		exch_wake(ex, self, LEG_RESPONSE);
}

static bool multipart(struct exchange *ex, struct serving *s, const struct site_range *r,
		      struct str type, uint64_t size, struct str *content_type, uint64_t *length)
{
	char b[BOUNDARY + 1];
	snprintf(b, sizeof b, "%012llx%012llx", (unsigned long long)(random_u64() >> 16),
		 (unsigned long long)(random_u64() >> 16));
	*length = 0;
	for (unsigned i = 0; i < s->nparts; i++) {
		struct part *p = &s->parts[i];
		p->before = arena_printf(&ex->arena,
					 "%s--%s\r\ncontent-type: %.*s\r\ncontent-range: bytes "
					 "%llu-%llu/%llu\r\n\r\n",
					 i ? "\r\n" : "", b, STR_ARG(type),
					 (unsigned long long)r[i].from,
					 (unsigned long long)r[i].to - 1, (unsigned long long)size);
		if (!p->before.p)
			return false;
		*length += p->before.n + (p->to - p->at);
	}
	s->after = arena_printf(&ex->arena, "\r\n--%s--\r\n", b);
	*content_type = arena_printf(&ex->arena, "multipart/byteranges; boundary=%s", b);
	*length += s->after.n;
	return s->after.p && content_type->p;
}

/* What is sent of the file, and how it is called. */
struct plan {
	unsigned status;
	struct str type, range; /* range: Content-Range, .p NULL: none */
	uint64_t length;
	bool validators; /* etag, last-modified */
	struct str etag;
	char date[SITE_DATE];
};

static bool write_head(struct exchange *ex, const struct plan *p)
{
	struct head *h = &ex->resp.head;
	bool ok = head_init(h, &ex->arena, true, 12) && head_set_status(h, p->status);
	if (p->status != 304) {
		struct str len = arena_printf(&ex->arena, "%llu", (unsigned long long)p->length);
		ok = ok && len.p && head_add_id(h, FIELD_CONTENT_TYPE, p->type) &&
		     head_add_id(h, FIELD_CONTENT_LENGTH, len);
	}
	if (p->range.p)
		ok = ok && head_add_id(h, FIELD_CONTENT_RANGE, p->range);
	if (p->validators) {
		struct str date = arena_str(&ex->arena, (struct str){p->date, SITE_DATE});
		ok = ok && date.p && head_add_id(h, FIELD_LAST_MODIFIED, date) &&
		     head_add_id(h, FIELD_ETAG, p->etag) &&
		     head_add_id(h, FIELD_ACCEPT_RANGES, STR("bytes"));
	}
	return ok;
}

/* fd is taken over. */
static enum verdict send_file(struct exchange *ex, const struct filter_cfg *self, int fd,
			      const struct site_range *r, unsigned n, uint64_t size, struct plan *p,
			      const char *details)
{
	struct serving *s = arena_zalloc(&ex->arena, sizeof *s + n * sizeof *s->parts);
	bool ok = s != NULL;
	if (ok) {
		s->fd = fd;
		s->parts = (struct part *)(s + 1);
		s->nparts = n;
		p->length = 0;
		for (unsigned i = 0; i < n; i++) {
			s->parts[i] = (struct part){.at = r[i].from, .to = r[i].to};
			p->length += r[i].to - r[i].from;
		}
		if (n > 1)
			ok = multipart(ex, s, r, p->type, size, &p->type, &p->length);
	}
	if (!ok || !write_head(ex, p)) {
		close(fd);
		exch_fail(ex, FAILED_MEMORY);
		return ANSWERED;
	}
	ex->details = details;
	ex->source = self; /* in a fallback's chain it stands before the router */
	exch_state_set(ex, self, s);
	if (ex->is_head || p->length == 0) {
		close_file(s);
		exch_answer_head(ex, 0);
	} else {
		exch_answer_head(ex, (int64_t)p->length);
		feed(ex, self, s);
	}
	return ANSWERED;
}

static enum verdict answer_missing(struct exchange *ex, const struct filter_cfg *self,
				   struct site *s, struct folder *f)
{
	struct stat st;
	char name[SITE_PATH];
	memcpy(name, s->not_found.p, s->not_found.n);
	name[s->not_found.n] = 0;
	int fd = site_open(f->fd, name);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		struct site_range all = {0, (uint64_t)st.st_size};
		struct plan p = {.status = 404, .type = site_type(s->not_found)};
		return send_file(ex, self, fd, &all, 1, all.to, &p, "static_not_found");
	}
	if (fd >= 0)
		close(fd);
	return answer_text(ex, 404, STR("text/html; charset=utf-8"), STR(NO_PAGE),
			   "static_not_found");
}

static struct str all_of(struct exchange *ex, enum field_id id)
{
	if (!head_has(&ex->req.head, id))
		return (struct str){NULL, 0};
	return head_joined(&ex->req.head, (struct str){name_infos[id].name, name_infos[id].n}, ", ",
			   &ex->arena);
}

static void read_conditions(struct exchange *ex, struct site_conditions *c)
{
	const struct head *h = &ex->req.head;
	*c = (struct site_conditions){
		.if_match = all_of(ex, FIELD_IF_MATCH),
		.if_none_match = all_of(ex, FIELD_IF_NONE_MATCH),
		.if_modified_since = head_value(h, FIELD_IF_MODIFIED_SINCE),
		.if_unmodified_since = head_value(h, FIELD_IF_UNMODIFIED_SINCE),
		.if_range = head_value(h, FIELD_IF_RANGE),
	};
}

/* The one Range field of a GET, or .p NULL. */
static struct str range_of(const struct exchange *ex)
{
	const struct head *h = &ex->req.head;
	struct field *f = h->method == METHOD_GET ? head_get(h, FIELD_RANGE) : NULL;
	if (!f || head_find_next(h, f, STR("range")))
		return (struct str){NULL, 0};
	return field_value(f);
}

/* A regular file, open: taken over. */
static enum verdict answer_file(struct exchange *ex, const struct filter_cfg *self, int fd,
				const struct stat *st, struct str name)
{
	uint64_t size = (uint64_t)st->st_size;
	struct site_range ranges[SITE_RANGES] = {{0, size}};
	struct site_conditions conditions;
	struct site_validators v = {.now = (int64_t)(loop_wall_us(ex->env->loop) / 1000000)};
	struct plan p = {.status = 200, .type = site_type(name), .validators = true};
	int n = 1;
	v.modified = st->st_mtim.tv_sec < v.now ? st->st_mtim.tv_sec
						: v.now; /* 8.8.2.1: not later than Date */
	site_date(v.modified, p.date);
	p.etag = v.etag = arena_printf(&ex->arena, "\"%llx-%llx-%llx\"",
				       (unsigned long long)st->st_ino, (unsigned long long)size,
				       (unsigned long long)st->st_mtim.tv_sec * 1000000000ull +
					       (unsigned long long)st->st_mtim.tv_nsec);
	if (!v.etag.p) {
		close(fd);
		exch_fail(ex, FAILED_MEMORY);
		return ANSWERED;
	}
	read_conditions(ex, &conditions);
	switch (site_evaluate(&conditions, &v)) {
	case SITE_FAILED:
		close(fd);
		return answer_text(ex, 412, STR("text/plain"), STR("Precondition Failed"),
				   "static_precondition_failed");
	case SITE_NOT_MODIFIED:
		close(fd);
		p.status = 304;
		if (!write_head(ex, &p))
			exch_fail(ex, FAILED_MEMORY);
		else
			exch_answer(ex, NULL, "static_not_modified");
		return ANSWERED;
	case SITE_SEND: break;
	}
	struct str range = range_of(ex);
	if (range.p && site_range_holds(&conditions, &v))
		n = site_ranges(range, size, ranges);
	else
		range.p = NULL;
	if (n == 0) {
		ranges[0] = (struct site_range){0, size};
		n = 1;
		range.p = NULL;
	}
	if (n < 0) {
		close(fd);
		p.status = 416;
		p.type = STR("text/plain");
		p.range = arena_printf(&ex->arena, "bytes */%llu", (unsigned long long)size);
		if (!p.range.p || !write_head(ex, &p))
			exch_fail(ex, FAILED_MEMORY);
		else
			exch_answer(ex, NULL, "static_range_not_satisfiable");
		return ANSWERED;
	}
	if (range.p) {
		p.status = 206;
		if (n == 1)
			p.range = arena_printf(&ex->arena, "bytes %llu-%llu/%llu",
					       (unsigned long long)ranges[0].from,
					       (unsigned long long)ranges[0].to - 1,
					       (unsigned long long)size);
	}
	return send_file(ex, self, fd, ranges, (unsigned)n, size, &p, "static_file");
}

static enum verdict answer_redirect(struct exchange *ex, struct str name, struct str query)
{
	struct head *h = &ex->resp.head;
	char *out = arena_alloc(&ex->arena, 3 * name.n + query.n + 4);
	bool ok = out && head_init(h, &ex->arena, true, 8) && head_set_status(h, 301);
	if (ok) {
		/* From the decoded name: //host/ or a backslash in the path as sent would lead
		 * elsewhere. */
		size_t n = 0;
		out[n++] = '/';
		n += site_encode(name, out + n);
		out[n++] = '/';
		if (query.p && query.n) {
			out[n++] = '?';
			memcpy(out + n, query.p, query.n);
			n += query.n;
		}
		ok = head_add_id(h, FIELD_LOCATION, (struct str){out, n}) &&
		     head_add_id(h, FIELD_CONTENT_LENGTH, STR("0"));
	}
	if (!ok)
		exch_fail(ex, FAILED_MEMORY);
	else
		exch_answer(ex, NULL, "static_redirect");
	return ANSWERED;
}

static bool is_missing(int err)
{
	/* EXDEV, ELOOP: a link out of the root; EACCES, EPERM: not for everyone's eyes, and no
	 * wiser for saying so */
	return err == ENOENT || err == ENOTDIR || err == ENAMETOOLONG || err == EXDEV ||
	       err == ELOOP || err == EACCES || err == EPERM || err == EINVAL || err == ENXIO ||
	       err == ENODEV;
}

static enum verdict find(struct exchange *ex, const struct filter_cfg *self, struct site *s,
			 struct folder *f)
{
	struct str path, query;
	char name[SITE_PATH];
	bool folder;
	struct stat st;
	str_cut(head_value(&ex->req.head, FIELD_PATH), '?', &path, &query);
	int n = site_path(path, name, &folder);
	if (n < 0)
		return answer_missing(ex, self, s, f);
	if (folder) {
		if ((size_t)n + 2 + s->index.n > sizeof name)
			return answer_missing(ex, self, s, f);
		if (n)
			name[n++] = '/';
		memcpy(name + n, s->index.p, s->index.n);
		n += (int)s->index.n;
		name[n] = 0;
	}
	int fd = site_open(f->fd, name);
	if (fd < 0)
		return is_missing(errno) ? answer_missing(ex, self, s, f) : failed(ex, errno);
	if (fstat(fd, &st)) {
		int err = errno;
		close(fd);
		return failed(ex, err);
	}
	if (S_ISREG(st.st_mode))
		return answer_file(ex, self, fd, &st, (struct str){name, (size_t)n});
	close(fd);
	if (S_ISDIR(st.st_mode) && !folder)
		return answer_redirect(ex, (struct str){name, (size_t)n}, query);
	return answer_missing(ex, self, s, f);
}

static enum verdict static_request(struct exchange *ex, const struct filter_cfg *self)
{
	struct site *s = self->config;
	if (ex->req.head.method != METHOD_GET && ex->req.head.method != METHOD_HEAD)
		return answer_text(ex, 405, STR("text/plain"), STR("Method Not Allowed"),
				   "static_method");
	struct folder *f = folder_take(s, loop_now_us(ex->env->loop));
	enum verdict v = find(ex, self, s, f);
	folder_give(s, f);
	return v;
}

static void static_pump(struct exchange *ex, const struct filter_cfg *self)
{
	struct serving *s = exch_state(ex, self);
	if (s && is_open(s))
		feed(ex, self, s);
}

static void static_end(struct exchange *ex, const struct filter_cfg *self)
{
	struct serving *s = exch_state(ex, self);
	if (s)
		close_file(s);
}

static const char *const urls[] = {"postern.filters.http.static.v1.Static", NULL};
const struct filter_type filter_static = {
	.name = "postern.filters.http.static",
	.type_urls = urls,
	.terminal = true,
	.compile = static_compile,
	.free_config = static_free,
	.request = static_request,
	.pump = static_pump,
	.end = static_end,
};

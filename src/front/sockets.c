/* src/front/sockets.c: listening sockets on the main thread, and their passing on. */
#include "base/mem.h"
#include "base/sockname.h"
#include "front/sockets_int.h"
#include "net/listen.h"
#include "obs/log.h"
#include <string.h>
#include <unistd.h>

enum { INHERITED = 256, LISTEN_BACKLOG = 4096 };

struct entry {
	char address[SOCKNAME_TEXT]; /* as configured: "127.0.0.1:0" stays so */
	char bound[SOCKNAME_TEXT];
	unsigned worker;
	int fd; /* -1: taken over by a later set */
};
struct sockets {
	struct entry *entries;
	unsigned n, cap;
};
static struct {
	char address[SOCKNAME_TEXT];
	int fd;
} inherited[INHERITED];
static unsigned ninherited;

bool sockets_inherit(const char *address, int fd)
{
	if (ninherited == INHERITED || strlen(address) >= SOCKNAME_TEXT)
		return false;
	memcpy(inherited[ninherited].address, address, strlen(address) + 1);
	inherited[ninherited++].fd = fd;
	return true;
}

unsigned sockets_port(const struct address *a)
{
	if (a->sa.sa_family == AF_INET)
		return ntohs(a->in4.sin_port);
	return a->sa.sa_family == AF_INET6 ? ntohs(a->in6.sin6_port) : 0;
}

static struct entry *find(const struct sockets *s, struct str address, unsigned worker)
{
	for (unsigned i = 0; s && i < s->n; i++)
		if (s->entries[i].fd >= 0 && s->entries[i].worker == worker &&
		    str_eq(str_of(s->entries[i].address), address))
			return &s->entries[i];
	return NULL;
}

int sockets_fd(const struct sockets *s, const struct listener_cfg *l, unsigned address,
	       unsigned worker)
{
	struct entry *e = find(s, l->addresses[address].text, worker);
	return e ? e->fd : -1;
}

struct str sockets_address(const struct sockets *s, const struct listener_cfg *l, unsigned address,
			   char out[128])
{
	struct entry *e = find(s, l->addresses[address].text, 0);
	if (!e)
		return (struct str){"", 0};
	memcpy(out, e->bound, SOCKNAME_TEXT);
	return str_of(out);
}

unsigned sockets_count(const struct sockets *s)
{
	return s ? s->n : 0;
}

bool sockets_at(const struct sockets *s, unsigned i, const char **address, int *fd)
{
	*address = s->entries[i].address;
	*fd = s->entries[i].fd;
	return *fd >= 0;
}

static bool add(struct sockets *s, struct str address, unsigned worker, int fd)
{
	if (s->n == s->cap) {
		unsigned cap = s->cap ? s->cap * 2 : 8;
		void *p = mem_realloc(MEM_CONFIG, s->entries, cap * sizeof *s->entries);
		if (!p)
			return false;
		s->entries = p;
		s->cap = cap;
	}
	struct entry *e = &s->entries[s->n++];
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	memset(e, 0, sizeof *e);
	memcpy(e->address, address.p, address.n < SOCKNAME_TEXT ? address.n : SOCKNAME_TEXT - 1);
	e->worker = worker;
	e->fd = fd;
	size_t n = getsockname(fd, (struct sockaddr *)&ss, &len) == 0
			   ? sockname_text((struct sockaddr *)&ss, len, e->bound)
			   : 0;
	e->bound[n < SOCKNAME_TEXT ? n : SOCKNAME_TEXT - 1] = 0;
	return true;
}

static int inherit(struct str address)
{
	for (unsigned i = 0; i < ninherited; i++)
		if (inherited[i].fd >= 0 && str_eq(str_of(inherited[i].address), address)) {
			int fd = inherited[i].fd;
			inherited[i].fd = -1;
			return fd;
		}
	return -1;
}

static int open_one(const struct listener_cfg *l, const struct address *a, uint16_t *port,
		    bool shared, struct failure *f)
{
	struct listen_opts o = {
		.backlog = l->backlog ? l->backlog : LISTEN_BACKLOG,
		.reuse_port = shared && a->sa.sa_family != AF_UNIX,
		.transparent = l->transparent,
		.freebind = l->freebind,
		.defer_accept_s = l->defer_accept,
		.unix_mode = l->mode,
	};
	struct address at = *a;
	if (*port && at.sa.sa_family == AF_INET)
		at.in4.sin_port = htons(*port);
	else if (*port && at.sa.sa_family == AF_INET6)
		at.in6.sin6_port = htons(*port);
	int fd = listen_open(&at.sa, at.len, &o, f);
	if (fd >= 0 && a->sa.sa_family != AF_UNIX && sockets_port(a) == 0) {
		struct address got;
		got.len = sizeof got.any;
		if (getsockname(fd, &got.sa, &got.len) == 0)
			*port = (uint16_t)sockets_port(&got);
	}
	return fd;
}

/* All workers' sockets of one address. unix sockets: one, shared by dup. */
static bool open_address(struct sockets *s, const struct sockets *old, const struct listener_cfg *l,
			 unsigned k, unsigned workers, struct diags *d)
{
	const struct address *a = &l->addresses[k];
	uint16_t port = 0;
	struct failure f = {0};
	for (unsigned w = 0; w < workers; w++) {
		struct entry *e = find(old, a->text, w);
		if (e) {
			if (!add(s, a->text, w, e->fd))
				return false;
			continue;
		}
		int fd = inherit(a->text);
		if (fd < 0 && w > 0 && a->sa.sa_family == AF_UNIX) {
			struct entry *first = find(s, a->text, 0);
			fd = first ? dup(first->fd) : -1;
		} else if (fd < 0) {
			fd = open_one(l, a, &port, true, &f);
		}
		if (fd < 0) {
			/* somebody else's admin listener is no reason not to serve, when it was
			 * not asked for */
			if (l->is_admin) {
				diag_at(d, DIAG_WARNING, l->at, "admin: cannot listen on %.*s: %s",
					STR_ARG(a->text), strerror(f.err));
				return true;
			}
			diag_at(d, DIAG_ERROR, l->at, "cannot listen on %.*s: %s: %s",
				STR_ARG(a->text), f.step ? f.step : "listen", strerror(f.err));
			return false;
		}
		if (!add(s, a->text, w, fd)) {
			close(fd);
			return false;
		}
	}
	return true;
}

static void close_new(struct sockets *s, const struct sockets *old)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct entry *e = find(old, str_of(s->entries[i].address), s->entries[i].worker);
		if (!e || e->fd != s->entries[i].fd)
			close(s->entries[i].fd);
	}
	mem_free(MEM_CONFIG, s->entries);
	mem_free(MEM_CONFIG, s);
}

struct sockets *sockets_open(const struct model *m, unsigned workers, struct sockets *old,
			     struct diags *d)
{
	struct sockets *s = mem_zalloc(MEM_CONFIG, sizeof *s);
	if (!s)
		return NULL;
	for (unsigned i = 0; i < m->nlisteners; i++)
		for (unsigned k = 0; k < m->listeners[i]->naddresses; k++) {
			const struct listener_cfg *l = m->listeners[i];
			unsigned n = !l->bind_to_port ? 0 : l->is_admin ? 1 : workers;
			if (!open_address(s, old, l, k, n, d)) {
				if (!d->errors)
					diag_add(d, DIAG_ERROR, NULL,
						 "no memory for listening sockets");
				close_new(s, old);
				return NULL;
			}
		}
	for (unsigned i = 0; old && i < old->n; i++) {
		struct entry *e = find(s, str_of(old->entries[i].address), old->entries[i].worker);
		if (e && e->fd == old->entries[i].fd)
			old->entries[i].fd = -1; /* taken over */
	}
	return s;
}

void sockets_free(struct sockets *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n; i++)
		if (s->entries[i].fd >= 0)
			close(s->entries[i].fd);
	mem_free(MEM_CONFIG, s->entries);
	mem_free(MEM_CONFIG, s);
}

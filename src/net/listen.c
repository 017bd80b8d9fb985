/* src/net/listen.c */
#include "net/listen.h"
#include "loop/sys.h"
#include "net/conn_int.h"
#include "obs/log.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BACKLOG = 4096,
	ACCEPTS = 64,      /* in one event */
	PAUSE_US = 100000, /* robustness.md 8 */
	LOG_EVERY_US = 1000000,
};

#define OWNER(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/* Listening */

static bool set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* The socket file of a process that is gone: nobody answers. */
static bool stale(const struct sockaddr *sa, socklen_t len)
{
	struct stat st;
	const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)sa;
	if (sa->sa_family != AF_UNIX || len <= offsetof(struct sockaddr_un, sun_path) ||
	    !un->sun_path[0] || stat(un->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	int fd = sys_socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return false;
	bool refused = connect(fd, sa, len) && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static bool options(int fd, int family, const struct listen_opts *o)
{
	if (family != AF_INET && family != AF_INET6)
		return true;
	return set(fd, SOL_SOCKET, SO_REUSEADDR, 1) &&
	       (!o->reuse_port || set(fd, SOL_SOCKET, SO_REUSEPORT, 1)) &&
	       /* inherited by what is accepted: no system call there */
	       set(fd, IPPROTO_TCP, TCP_NODELAY, 1) &&
	       (o->defer_accept_s <= 0 ||
		set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, o->defer_accept_s)) &&
	       (family != AF_INET6 || set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !o->ipv4_compat)) &&
	       (!o->transparent ||
		(family == AF_INET ? set(fd, IPPROTO_IP, IP_TRANSPARENT, 1)
				   : set(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1))) &&
	       (!o->freebind || (family == AF_INET ? set(fd, IPPROTO_IP, IP_FREEBIND, 1)
						   : set(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1)));
}

static bool bind_to(int fd, const struct sockaddr *sa, socklen_t len)
{
	if (bind(fd, sa, len) == 0)
		return true;
	if (errno != EADDRINUSE)
		return false;
	const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)sa;
	if (!stale(sa, len)) {
		errno = EADDRINUSE;
		return false;
	}
	return unlink(un->sun_path) == 0 && bind(fd, sa, len) == 0;
}

int listen_open(const struct sockaddr *sa, socklen_t len, const struct listen_opts *o,
		struct failure *f)
{
	const char *step = "socket";
	int fd = sys_socket(sa->sa_family, SOCK_STREAM, 0);
	if (fd < 0)
		goto fail;
	step = "setsockopt";
	if (!options(fd, sa->sa_family, o))
		goto fail;
	step = "bind";
	if (!bind_to(fd, sa, len))
		goto fail;
	step = "chmod";
	const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)sa;
	if (sa->sa_family == AF_UNIX && o->unix_mode && un->sun_path[0] &&
	    chmod(un->sun_path, o->unix_mode))
		goto fail;
	step = "listen";
	if (listen(fd, o->backlog > 0 ? o->backlog : BACKLOG))
		goto fail;
	return fd;

fail:
	*f = (struct failure){FAILED_LISTEN, errno, step};
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Accepting */

/* Of this thread. The reserve is an open descriptor that is given back to the process while accepting
 * pauses, so that what must go on (a log file, an origin connection) still finds one. */
static _Thread_local struct {
	struct acceptor *starved[64]; /* without descriptors; those beyond wait for their timer */
	unsigned n_starved, n_started;
	int reserve; /* 0: none */
	uint64_t logged_us;
} thread;

static void take_reserve(void)
{
	if (thread.reserve > 0)
		return;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	thread.reserve = fd > 0 ? fd : 0;
}

static void drop_reserve(void)
{
	if (thread.reserve > 0)
		close(thread.reserve);
	thread.reserve = 0;
}

static void interest(struct acceptor *a)
{
	watch_set(a->loop, &a->watch, a->paused || timer_armed(&a->pause) ? 0 : WATCH_READ);
}

static void fed(struct acceptor *a)
{
	for (unsigned i = 0; i < thread.n_starved; i++) {
		if (thread.starved[i] == a) {
			thread.starved[i] = thread.starved[--thread.n_starved];
			break;
		}
	}
	timer_cancel(a->loop, &a->pause);
}

static void starve(struct acceptor *a, int err)
{
	uint64_t now = loop_now_us(a->loop);
	if (!thread.logged_us || now - thread.logged_us >= LOG_EVERY_US) {
		thread.logged_us = now ? now : 1;
		log_line(LOG_CONN, LOG_WARNING, "accept: %s; not accepting for %u ms",
			 strerror(err), PAUSE_US / 1000);
	}
	drop_reserve();
	if (thread.n_starved < sizeof thread.starved / sizeof *thread.starved)
		thread.starved[thread.n_starved++] = a;
	timer_arm(a->loop, &a->pause, PAUSE_US);
	interest(a);
}

static void pause_over(struct timer *t)
{
	struct acceptor *a = OWNER(t, struct acceptor, pause);
	fed(a);
	take_reserve();
	interest(a);
}

void acceptor_room(struct loop *l)
{
	if (__builtin_expect(thread.n_starved == 0, 1))
		return;
	for (unsigned i = thread.n_starved; i-- > 0;) {
		struct acceptor *a = thread.starved[i];
		if (a->loop != l)
			continue;
		fed(a);
		interest(a);
	}
}

static void on_ready(struct watch *w, unsigned events)
{
	struct acceptor *a = OWNER(w, struct acceptor, watch);
	/* got may pause or stop us, and after a pause it may start us anew. */
	for (int i = 0; i < ACCEPTS && (w->interest & WATCH_READ); i++) {
		union {
			struct sockaddr_storage any;
			struct sockaddr sa;
			union sock_name n;
		} peer;
		socklen_t len = sizeof peer;
		int fd = sys_accept(a->fd, &peer.sa, &len);
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
			    errno == ENOMEM)
				starve(a, errno);
			if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO)
				continue;
			return;
		}
		if (peer.sa.sa_family == AF_INET6) {
			sock_name_unmap(&peer.n);
			if (peer.sa.sa_family == AF_INET)
				len = sizeof(struct sockaddr_in);
		}
		a->got(a, fd, &peer.sa, len);
	}
}

bool acceptor_start(struct acceptor *a, struct loop *l, int fd,
		    void (*got)(struct acceptor *, int, const struct sockaddr *, socklen_t))
{
	*a = (struct acceptor){.loop = l, .fd = fd, .got = got};
	a->watch.ready = on_ready;
	a->pause.fire = pause_over;
	if (!watch_add(l, &a->watch, fd, WATCH_READ)) {
		a->loop = NULL;
		return false;
	}
	thread.n_started++;
	take_reserve();
	return true;
}

void acceptor_pause(struct acceptor *a, bool paused)
{
	if (!a->loop)
		return;
	a->paused = paused;
	interest(a);
}

void acceptor_stop(struct acceptor *a)
{
	if (!a->loop)
		return;
	fed(a);
	watch_del(a->loop, &a->watch);
	a->loop = NULL;
	if (--thread.n_started == 0)
		drop_reserve();
}

/* src/net/listen.h
 *
 * Listening sockets and accepting from them.
 */
#pragma once
#include "base/failure.h"
#include "loop/loop.h"
#include "net/conn.h"

struct listen_opts {
	int backlog; /* 0: 4096, bounded by the kernel */
	bool reuse_port, transparent, freebind;
	bool ipv4_compat;   /* an IPv6 wildcard takes IPv4 too */
	int defer_accept_s; /* 0: off */
	unsigned unix_mode; /* of a unix socket's file, 0: default */
};
/* Returns a listening descriptor, the caller's to close, or -1 with *f filled in. TCP_NODELAY is set on it and inherited. A stale
 * unix socket file that nobody listens on is replaced. */
int listen_open(const struct sockaddr *sa, socklen_t len, const struct listen_opts *o,
		struct failure *f);

/* Accepts for one worker. On EMFILE and the like the listener leaves the poll set for 100 ms (robustness.md 8), one log line per
 * second; a reserve descriptor is kept. */
struct acceptor {
	struct watch watch;
	struct loop *loop;
	struct timer pause;
	int fd; /* not owned */
	void (*got)(struct acceptor *a, int fd, const struct sockaddr *peer, socklen_t len);
	bool paused;
};
/* got owns fd. peer lives during the call; an IPv4 address mapped into IPv6 comes as IPv4.
 * False: no memory. */
bool acceptor_start(struct acceptor *a, struct loop *l, int fd,
		    void (*got)(struct acceptor *, int, const struct sockaddr *, socklen_t));
void acceptor_pause(struct acceptor *a, bool paused);
void acceptor_stop(struct acceptor *a);
/* A descriptor was closed: acceptors of this loop that ran out of them may try again at once.
 * conn_close calls it. */
void acceptor_room(struct loop *l);

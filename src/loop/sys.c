/* src/loop/sys.c */
#include "loop/sys.h"

static int plain_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	return accept4(fd, sa, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int plain_socket(int family, int type, int protocol)
{
	return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

#if POSTERN_SYS_HOOKS
struct sys_hooks sys_hooks;

ssize_t sys_recv(int fd, void *p, size_t n)
{
	return sys_hooks.recv ? sys_hooks.recv(fd, p, n) : recv(fd, p, n, 0);
}

ssize_t sys_send(int fd, const void *p, size_t n, int flags)
{
	return sys_hooks.send ? sys_hooks.send(fd, p, n, flags)
			      : send(fd, p, n, MSG_NOSIGNAL | flags);
}

ssize_t sys_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return sys_hooks.sendmsg ? sys_hooks.sendmsg(fd, m, flags)
				 : sendmsg(fd, m, MSG_NOSIGNAL | flags);
}

ssize_t sys_sendfile(int fd, int from, off_t *at, size_t n)
{
	return sys_hooks.sendfile ? sys_hooks.sendfile(fd, from, at, n) : sendfile(fd, from, at, n);
}

int sys_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	return sys_hooks.accept ? sys_hooks.accept(fd, sa, len) : plain_accept(fd, sa, len);
}

int sys_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return sys_hooks.connect ? sys_hooks.connect(fd, sa, len) : connect(fd, sa, len);
}

int sys_socket(int family, int type, int protocol)
{
	return sys_hooks.socket ? sys_hooks.socket(family, type, protocol)
				: plain_socket(family, type, protocol);
}
#else
int sys_accept(int fd, struct sockaddr *sa, socklen_t *len)
{
	return plain_accept(fd, sa, len);
}

int sys_socket(int family, int type, int protocol)
{
	return plain_socket(family, type, protocol);
}
#endif

/* src/loop/sys.h
 *
 * The socket calls, replaceable in test builds (-DPOSTERN_SYS_HOOKS=1): short reads and writes, EAGAIN,
 * resets, refusals at call n. Plain calls in release builds. All descriptors are CLOEXEC and non-blocking.
 */
#pragma once
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#if POSTERN_SYS_HOOKS
struct sys_hooks {
	ssize_t (*recv)(int, void *, size_t);
	ssize_t (*send)(int, const void *, size_t, int);
	ssize_t (*sendmsg)(int, const struct msghdr *, int);
	ssize_t (*sendfile)(int, int, off_t *, size_t);
	int (*accept)(int, struct sockaddr *, socklen_t *);
	int (*connect)(int, const struct sockaddr *, socklen_t);
	int (*socket)(int, int, int);
};
extern struct sys_hooks sys_hooks; /* NULL members: the real call */
ssize_t sys_recv(int fd, void *p, size_t n);
/* flags: 0 or MSG_MORE. */
ssize_t sys_send(int fd, const void *p, size_t n, int flags);
ssize_t sys_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t sys_sendfile(int fd, int from, off_t *at, size_t n);
int sys_accept(int fd, struct sockaddr *sa, socklen_t *len);
int sys_connect(int fd, const struct sockaddr *sa, socklen_t len);
int sys_socket(int family, int type, int protocol);
#else
/* By syscall(): libc's own are cancellation points, whose book-keeping costs more instructions
 * than the rest of the call does in user space. */
static inline ssize_t sys_recv(int fd, void *p, size_t n)
{
	return syscall(SYS_recvfrom, fd, p, n, 0, NULL, NULL);
}
static inline ssize_t sys_send(int fd, const void *p, size_t n, int flags)
{
	return syscall(SYS_sendto, fd, p, n, MSG_NOSIGNAL | flags, NULL, 0);
}
static inline ssize_t sys_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return syscall(SYS_sendmsg, fd, m, MSG_NOSIGNAL | flags);
}
static inline ssize_t sys_sendfile(int fd, int from, off_t *at, size_t n)
{
	return sendfile(fd, from, at, n);
}
int sys_accept(int fd, struct sockaddr *sa, socklen_t *len); /* accept4(NONBLOCK | CLOEXEC) */
static inline int sys_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	return connect(fd, sa, len);
}
int sys_socket(int family, int type, int protocol); /* | NONBLOCK | CLOEXEC */
#endif

/* bench/origin.c
 *
 * An origin for benches: epoll, one thread, keep-alive, answers by the first letters of the path.
 *
 *   origin NAME [PORT]      prints the port it listens on
 *
 * /hit 200 with 1 KiB, /big 200 with 1 MiB, /miss 404 from "primary" and 200 from any other name.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { IN_MAX = 16384, BIG = 1 << 20 };

struct conn {
	int fd;
	size_t have;
	char in[IN_MAX + 1];
	const char *out; /* what is left of the answer being sent */
	size_t left;
	bool armed; /* EPOLLOUT is on */
};

struct answer {
	char *bytes;
	size_t n;
};

static struct answer hit, big, miss;
static int ep;

static struct answer make(const char *status, size_t length)
{
	struct answer a;
	a.bytes = malloc(1024 + length);
	if (!a.bytes)
		exit(1);
	a.n = (size_t)sprintf(
		a.bytes,
		"HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %zu\r\n"
		"ETag: \"5f3c-61a2b3c4d5e6f\"\r\nLast-Modified: Sat, 01 Jan 2022 00:00:00 GMT\r\n"
		"Cache-Control: public, max-age=300\r\nAccept-Ranges: bytes\r\nVary: "
		"Accept-Encoding\r\n"
		"Date: Sat, 01 Jan 2022 00:00:00 GMT\r\n\r\n",
		status, length);
	memset(a.bytes + a.n, 'x', length);
	a.n += length;
	return a;
}

static void gone(struct conn *c)
{
	close(c->fd);
	free(c);
}

/* Sends what is left; false when the connection is gone. */
static bool push(struct conn *c)
{
	while (c->left) {
		ssize_t n = send(c->fd, c->out, c->left, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN) {
			gone(c);
			return false;
		}
		if (n < 0)
			break;
		c->out += n;
		c->left -= (size_t)n;
	}
	if (c->armed != (c->left > 0)) {
		c->armed = c->left > 0;
		struct epoll_event e = {.events = c->armed ? EPOLLIN | EPOLLOUT : EPOLLIN,
					.data.ptr = c};
		epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
	}
	return true;
}

/* Answers complete heads one after another; bodies of requests are not expected. */
static void serve(struct conn *c)
{
	while (!c->left) {
		c->in[c->have] = 0;
		char *end = strstr(c->in, "\r\n\r\n");
		if (!end)
			break;
		const char *path = strchr(c->in, ' ');
		const struct answer *a = &miss;
		if (path && strncmp(path, " /hit", 5) == 0)
			a = &hit;
		else if (path && strncmp(path, " /big", 5) == 0)
			a = &big;
		c->have -= (size_t)(end + 4 - c->in);
		memmove(c->in, end + 4, c->have);
		c->out = a->bytes;
		c->left = a->n;
		if (!push(c))
			return;
	}
}

static void ready(struct conn *c, unsigned events)
{
	if ((events & EPOLLOUT) && !push(c))
		return;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = recv(c->fd, c->in + c->have, IN_MAX - c->have, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			gone(c);
			return;
		}
		c->have += n > 0 ? (size_t)n : 0;
	}
	serve(c);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* nothing is left when the bench is killed */
	hit = make("200 OK", 1024);
	big = make("200 OK", BIG);
	miss = strcmp(argv[1], "primary") == 0 ? make("404 Not Found", 1287) : make("200 OK", 2048);
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {.sin_family = AF_INET};
	socklen_t len = sizeof sa;
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sa.sin_port = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 0));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&sa, sizeof sa) || listen(listener, 1024) ||
	    getsockname(listener, (struct sockaddr *)&sa, &len)) {
		perror("listen");
		return 1;
	}
	printf("%d\n", ntohs(sa.sin_port));
	fflush(stdout);
	ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		struct epoll_event ev[256];
		int n = epoll_wait(ep, ev, 256, -1);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr) {
				ready(ev[i].data.ptr, ev[i].events);
				continue;
			}
			int fd;
			while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
			       0) {
				struct conn *c = calloc(1, sizeof *c);
				if (!c) {
					close(fd);
					continue;
				}
				c->fd = fd;
				struct epoll_event in = {.events = EPOLLIN, .data.ptr = c};
				epoll_ctl(ep, EPOLL_CTL_ADD, fd, &in);
			}
		}
	}
}

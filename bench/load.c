/* bench/load.c
 *
 * A closed-loop HTTP/1.1 client: CONNS connections, each with one request out at a time, for SECONDS. Every
 * answer is checked: status, length of the body by its framing. Prints one line of JSON.
 *
 *   load PORT CONNS SECONDS PATH STATUS LENGTH keep|close
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 8192, BUCKETS = 100000 };

struct client {
	int fd;
	size_t sent;
	char head[HEAD_MAX + 1];
	size_t have; /* bytes of the head so far */
	bool in_body;
	bool chunked;
	long long
		left; /* of the body, or of the chunk with its CR LF; chunked: 0 means a size line is due */
	long long got; /* body bytes */
	char line[32]; /* a chunk's size line or a trailer line */
	unsigned nline;
	bool last; /* the last chunk was seen */
	int status;
	uint64_t began;
};

static char request[1024];
static size_t nrequest;
static struct sockaddr_in to;
static int want_status, ep;
static long long want_length;
static bool keep;
static uint64_t done, wrong, broken;
static uint32_t latency[BUCKETS]; /* microseconds */

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void start(struct client *c)
{
	c->sent = c->have = 0;
	c->in_body = c->chunked = c->last = false;
	c->left = c->got = 0;
	c->nline = 0;
	c->status = 0;
	c->began = now_us();
	ssize_t n = send(c->fd, request, nrequest, MSG_NOSIGNAL);
	if (n > 0)
		c->sent = (size_t)n;
}

static void dial(struct client *c)
{
	int one = 1;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	if (connect(c->fd, (struct sockaddr *)&to, sizeof to))
		die("connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e))
		die("epoll_ctl");
	start(c);
}

static void redial(struct client *c)
{
	close(c->fd);
	dial(c);
}

static void finish(struct client *c)
{
	uint64_t us = now_us() - c->began;
	latency[us < BUCKETS ? us : BUCKETS - 1]++;
	done++;
	if (c->status != want_status || (want_length >= 0 && c->got != want_length))
		wrong++;
	if (keep)
		start(c);
	else
		redial(c);
}

/* The framing fields of a complete head. */
static void read_head(struct client *c)
{
	c->in_body = true;
	c->status = strncmp(c->head, "HTTP/1.1 ", 9) == 0 ? atoi(c->head + 9) : 0;
	c->left = 0;
	for (char *line = strstr(c->head, "\r\n"); line && line[2] != '\r';
	     line = strstr(line + 2, "\r\n")) {
		if (strncasecmp(line + 2, "content-length:", 15) == 0)
			c->left = atoll(line + 17);
		else if (strncasecmp(line + 2, "transfer-encoding: chunked", 26) == 0)
			c->chunked = true;
	}
}

/* Takes body bytes; true when the answer is complete. */
static bool take_body(struct client *c, const char *p, size_t n)
{
	if (!c->chunked) {
		c->got += (long long)n;
		c->left -= (long long)n;
		return c->left <= 0;
	}
	while (n) {
		if (c->left > 0) {
			size_t part = (long long)n < c->left ? n : (size_t)c->left;
			long long data = c->left - 2; /* without CR LF */
			c->got += data <= 0 ? 0 : (long long)part < data ? (long long)part : data;
			c->left -= (long long)part;
			p += part;
			n -= part;
			continue;
		}
		char ch = *p++;
		n--;
		if (ch != '\n') {
			if (c->nline < sizeof c->line - 1)
				c->line[c->nline++] = ch;
			continue;
		}
		c->line[c->nline] = 0;
		bool empty = c->nline == 0 || c->line[0] == '\r';
		c->nline = 0;
		if (c->last && empty)
			return true;
		if (!c->last) {
			long long size = strtoll(c->line, NULL, 16);
			c->last = size == 0;
			c->left = size ? size + 2 : 0;
		}
	}
	return false;
}

static void readable(struct client *c)
{
	static char buf[262144];
	ssize_t n = recv(c->fd, buf, sizeof buf, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		broken++;
		redial(c);
		return;
	}
	const char *p = buf;
	if (!c->in_body) {
		size_t room = HEAD_MAX - c->have, part = (size_t)n < room ? (size_t)n : room;
		size_t before = c->have;
		memcpy(c->head + c->have, p, part);
		c->have += part;
		c->head[c->have] = 0;
		char *end = strstr(c->head, "\r\n\r\n");
		if (!end) {
			if (part == room) {
				broken++;
				redial(c);
			}
			return;
		}
		size_t head = (size_t)(end - c->head) + 4 - before;
		p += head;
		n -= (ssize_t)head;
		end[4] = 0;
		read_head(c);
		if (!c->chunked && c->left == 0) {
			finish(c);
			return;
		}
	}
	if (n && take_body(c, p, (size_t)n))
		finish(c);
}

static unsigned percentile(double q)
{
	uint64_t want = (uint64_t)((double)done * q), seen = 0;
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += latency[i];
		if (seen > want)
			return i;
	}
	return BUCKETS;
}

int main(int argc, char **argv)
{
	if (argc != 8) {
		fprintf(stderr, "usage: load PORT CONNS SECONDS PATH STATUS LENGTH keep|close\n");
		return 2;
	}
	int conns = atoi(argv[2]);
	double seconds = atof(argv[3]);
	to = (struct sockaddr_in){.sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(argv[1]))};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	want_status = atoi(argv[5]);
	want_length = atoll(argv[6]);
	keep = strcmp(argv[7], "keep") == 0;
	nrequest = (size_t)snprintf(
		request, sizeof request,
		"GET %s HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux "
		"x86_64; rv:128.0) "
		"Gecko/20100101 Firefox/128.0\r\nAccept: "
		"text/html,application/xhtml+xml,*/*;q=0.8\r\n"
		"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"
		"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
		"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n%s\r\n",
		argv[4], keep ? "" : "Connection: close\r\n");
	ep = epoll_create1(EPOLL_CLOEXEC);
	struct client *clients = calloc((size_t)conns, sizeof *clients);
	if (ep < 0 || !clients)
		die("start");
	for (int i = 0; i < conns; i++)
		dial(&clients[i]);
	uint64_t begin = now_us(), end = begin + (uint64_t)(seconds * 1e6);
	while (now_us() < end) {
		struct epoll_event ev[256];
		int n = epoll_wait(ep, ev, 256, 100);
		for (int i = 0; i < n; i++)
			readable(ev[i].data.ptr);
	}
	printf("{\"requests\": %llu, \"wrong\": %llu, \"broken\": %llu, \"seconds\": %.4f, "
	       "\"p50\": %u, \"p99\": %u}\n",
	       (unsigned long long)done, (unsigned long long)wrong, (unsigned long long)broken,
	       (double)(now_us() - begin) / 1e6, percentile(0.5), percentile(0.99));
	return 0;
}

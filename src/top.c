/* src/top.c: postern top, the migration list in a terminal. */
#include "base/str.h"
#include "pages.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MOST = 4 * 1024 * 1024 };

static int dial_unix(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a.sun_path)
		return -1;
	memcpy(a.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static int dial(const char *admin)
{
	char host[256];
	struct addrinfo *all, hints = {.ai_socktype = SOCK_STREAM};
	const char *colon = strrchr(admin, ':');
	int fd = -1;
	if (strncmp(admin, "unix:", 5) == 0)
		return dial_unix(admin + 5);
	if (!colon || (size_t)(colon - admin) >= sizeof host)
		return -1;
	size_t n = (size_t)(colon - admin);
	if (n > 1 && admin[0] == '[' && admin[n - 1] == ']') {
		admin++;
		n -= 2;
	}
	memcpy(host, admin, n);
	host[n] = 0;
	if (getaddrinfo(host, colon + 1, &hints, &all))
		return -1;
	for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(all);
	return fd;
}

/* The body of the answer, malloc'd; NULL: none. */
static char *fetch(const char *admin, const char *target)
{
	char q[512], *b = malloc(ANSWER_MOST + 1), *body = NULL;
	struct timeval limit = {5, 0};
	size_t n = 0;
	ssize_t got = 0;
	int fd = b ? dial(admin) : -1;
	int k = snprintf(q, sizeof q, "GET %s HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n",
			 target);
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		if (send(fd, q, (size_t)k, MSG_NOSIGNAL) == k)
			while (n < ANSWER_MOST && (got = recv(fd, b + n, ANSWER_MOST - n, 0)) > 0)
				n += (size_t)got;
		close(fd);
	}
	if (b)
		b[n] = 0;
	if (b && got == 0 && n > 12 && memcmp(b, "HTTP/1.1 200", 12) == 0)
		body = strstr(b, "\r\n\r\n");
	body = body ? strdup(body + 4) : NULL;
	free(b);
	return body;
}

/* "path",count,over,status,last */
static void row(char *line)
{
	char *path = line + 1, *end = strrchr(line, '"');
	unsigned long long count, over, last;
	unsigned status;
	if (*line != '"' || end == line ||
	    sscanf(end + 1, ",%llu,%llu,%u,%llu", &count, &over, &status, &last) != 4)
		return;
	*end = 0;
	for (char *c = path; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	printf("%10llu%c %5u  %s\n", count, over ? '~' : ' ', status, path);
}

static bool list(const char *admin, const char *title, const char *target)
{
	char *body = fetch(admin, target), *rest = body, *line;
	unsigned n = 0;
	if (!body) {
		fprintf(stderr, "postern: no answer from the admin listener at %s (see --admin)\n",
			admin);
		return false;
	}
	printf("%s\n", title);
	while ((line = strsep(&rest, "\n")))
		if (*line == '"') {
			row(line);
			n++;
		}
	if (!n)
		puts("      none");
	free(body);
	return true;
}

int pages_top(const char *admin)
{
	if (!list(admin, "served by the fallback (requests, status, path):",
		  "/fallback/top?n=50&format=csv"))
		return 1;
	return list(admin, "\non neither site:", "/fallback/top?n=50&format=csv&kind=both_miss")
		       ? 0
		       : 1;
}

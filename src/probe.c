/* src/probe.c: oneline_probe. Plain connections only, two seconds each; nothing that is asked changes anything: OPTIONS is what a browser
 * would ask, HEAD and GET a path that nobody has. */
#include "oneline.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define NOWHERE "/.well-known/postern-probe"

struct probe {
	char host[256], port[8], name[256];
	bool reached;
};

/* "http://[NAME@]HOST[:PORT]" was checked before. */
static bool target_of(const char *url, const char *host, struct probe *p)
{
	struct str rest = str_of(url), name = {NULL, 0}, port = {NULL, 0};
	if (!str_starts(rest, STR("http://")))
		return false;
	rest = str_from(rest, 7);
	if (rest.n && rest.p[rest.n - 1] == '/')
		rest.n--;
	if (memchr(rest.p, '@', rest.n))
		str_cut(rest, '@', &name, &rest);
	if (rest.n && rest.p[0] == '[') {
		const char *end = memchr(rest.p, ']', rest.n);
		port = str_from(rest, (size_t)(end - rest.p) + 2);
		rest = (struct str){rest.p + 1, (size_t)(end - rest.p) - 1};
	} else {
		str_cut(rest, ':', &rest, &port);
	}
	if (!name.p)
		name = host ? str_of(host) : rest;
	if (rest.n >= sizeof p->host || name.n >= sizeof p->name || port.n >= sizeof p->port)
		return false;
	memcpy(p->host, rest.p, rest.n);
	memcpy(p->name, name.p, name.n);
	memcpy(p->port, port.n ? port.p : "80", port.n ? port.n : 2);
	return true;
}

static int dial(const struct probe *p)
{
	struct addrinfo *all, hints = {.ai_socktype = SOCK_STREAM};
	struct timeval limit = {2, 0};
	int fd = -1;
	if (getaddrinfo(p->host, p->port, &hints, &all))
		return -1;
	for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
		if (connect(fd, a->ai_addr, a->ai_addrlen)) {
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(all);
	return fd;
}

/* The status it answers with; 0: none. */
static unsigned ask(struct probe *p, const char *method)
{
	char b[1024];
	int fd = dial(p), n = snprintf(b, sizeof b, "%s " NOWHERE " HTTP/1.1\r\nHost: %s\r\nUser-Agent: postern-probe\r\nConnection: close\r\n%s\r\n", method,
				       p->name, strcmp(method, "POST") == 0 ? "Content-Length: 0\r\n" : "");
	unsigned status = 0;
	if (fd < 0)
		return 0;
	p->reached = true;
	if (send(fd, b, (size_t)n, MSG_NOSIGNAL) == n) {
		size_t have = 0;
		ssize_t got;
		while (have < 12 && (got = recv(fd, b + have, sizeof b - 1 - have, 0)) > 0)
			have += (size_t)got;
		b[have] = 0;
		if (have >= 12 && memcmp(b, "HTTP/1.", 7) == 0)
			status = (unsigned)strtoul(b + 9, NULL, 10);
	}
	close(fd);
	return status;
}

static void tell_primary(const struct oneline *o)
{
	struct probe p = {0};
	if (!strstr(o->site, "://") || !target_of(o->site, o->host, &p))
		return;
	unsigned get = ask(&p, "GET");
	if (!p.reached) {
		fprintf(stderr, "postern: primary %s cannot be reached: visitors get 503 until it can\n", o->site);
		return;
	}
	if (get == 0)
		fprintf(stderr, "postern: primary %s does not answer HTTP\n", o->site);
	else if (get == 403)
		fprintf(stderr, "postern: primary answers 403 to a path that does not exist: add 403 to trigger (preset: s3_website), or its misses stay 403\n");
	else if (get != 404)
		fprintf(stderr, "postern: primary answers %u to a path that does not exist: only 404 asks the fallback\n", get);
	unsigned options = o->dynamic ? 0 : ask(&p, "OPTIONS");
	if (options)
		fprintf(stderr, "postern: primary answers %u to OPTIONS: other methods than GET and HEAD go to the fallback\n", options);
}

static void tell_fallback(const struct oneline *o, const char *url)
{
	struct probe p = {0};
	if (!target_of(url, o->host, &p))
		return;
	unsigned get = ask(&p, "GET");
	if (!p.reached)
		fprintf(stderr, "postern: fallback %s cannot be reached: what the primary lacks is its 404 page until it can\n", url);
	else if (get == 0)
		fprintf(stderr, "postern: fallback %s does not answer HTTP\n", url);
	else if (get >= 300 && get < 400)
		fprintf(stderr, "postern: fallback answers %u to a path that does not exist: it may want another Host (%s was asked for; see host_rewrite)\n", get, p.name);
	else if (get != 404)
		fprintf(stderr, "postern: fallback answers %u to a path that does not exist: the primary's 404 page will not be seen\n", get);
}

static void *probe(void *arg)
{
	const struct oneline *o = arg;
	tell_primary(o);
	for (unsigned i = 0; i < o->nfallbacks; i++)
		tell_fallback(o, o->fallbacks[i]);
	return NULL;
}

void oneline_probe(const struct oneline *o)
{
	pthread_t t;
	pthread_attr_t attr;
	if (!o->given || o->no_probe)
		return;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &attr, probe, (void *)(uintptr_t)o))
		fprintf(stderr, "postern: no thread for the probe\n");
	pthread_attr_destroy(&attr);
}

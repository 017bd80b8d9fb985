/* src/upstream/origin_test.h: what tests of calls, and of filters that make calls, share: a clock that stands still, dice that fall the same way
 * again, places on this machine to connect to, and clusters of them. */
#pragma once
#pragma GCC diagnostic ignored "-Wunused-function" /* no test needs all of it */
#include "base/must.h"
#include "model/limits.h"
#include "model/model.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t virtual_us; /* time stands still unless the test lets it pass */

static uint64_t read_virtual(void *arg)
{
	return virtual_us;
}

/* 0 .. n - 1. Repeatable from *state, which a test prints when it fails. */
static unsigned dice_of(uint64_t *state, unsigned n)
{
	*state += 0x9e3779b97f4a7c15u;
	uint64_t z = *state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (unsigned)((z ^ z >> 31) % n);
}

struct listening {
	int fd;
	struct sockaddr_in addr;
	char text[64];
};

static struct listening bind_local(bool listens)
{
	struct listening s = {
		.addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
	socklen_t len = sizeof s.addr;
	s.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	must(s.fd >= 0 && bind(s.fd, (struct sockaddr *)&s.addr, len) == 0);
	must((!listens || listen(s.fd, 128) == 0) &&
	     getsockname(s.fd, (struct sockaddr *)&s.addr, &len) == 0);
	snprintf(s.text, sizeof s.text, "127.0.0.1:%d", ntohs(s.addr.sin_port));
	return s;
}

static struct listening listen_local(void)
{
	return bind_local(true);
}

/* A port that refuses: bound, not listening. */
static struct listening refusing(void)
{
	return bind_local(false);
}

/* Of one endpoint each place, with the configuration's defaults; added to the model. */
static struct cluster_cfg *cluster_new(struct model *m, const char *name,
				       const struct listening *const *at, unsigned n)
{
	struct cluster_cfg *c = arena_zalloc(&m->arena, sizeof *c);
	must(c);
	c->name = arena_str(&m->arena, str_of(name));
	c->index = m->nclusters;
	c->endpoints = arena_zalloc(&m->arena, (n + 1) * sizeof *c->endpoints);
	c->nendpoints = n;
	c->npriorities = 1;
	c->connect_timeout_us = 5000000;
	c->idle_timeout_us = LIMIT_UPSTREAM_IDLE_US;
	c->limits = h1_default_limits;
	for (int i = 0; i < 2; i++)
		c->breakers[i] = (struct breaker){1024, 1024, 1024, 3, false, 0, 0};
	c->choice_count = 2;
	c->ring_min = 1024;
	c->ring_max = 8388608;
	c->healthy_panic = 50;
	c->overprovisioning = 140;
	c->dns_refresh_us = 5000000;
	for (unsigned i = 0; i < n; i++) {
		struct endpoint_cfg *e = &c->endpoints[i];
		memcpy(&e->addr.in4, &at[i]->addr, sizeof at[i]->addr);
		e->addr.len = sizeof at[i]->addr;
		e->addr.text = arena_str(&m->arena, str_of(at[i]->text));
		e->addr.port = ntohs(at[i]->addr.sin_port);
		e->weight = 1;
	}
	struct cluster_cfg **more =
		arena_alloc(&m->arena, (m->nclusters + 1) * sizeof(struct cluster_cfg *));
	must(more);
	if (m->nclusters)
		memcpy(more, m->clusters, m->nclusters * sizeof(struct cluster_cfg *));
	more[m->nclusters++] = c;
	m->clusters = more;
	must(map_put(&m->clusters_by_name, c->name, c));
	return c;
}

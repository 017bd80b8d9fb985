/* src/filters/fallback/replay.c */
#include "filters/fallback/replay.h"
#include "obs/log.h"
#include "obs/stats.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PIECES = 16 };

void replay_init(struct replay *r, size_t memory_most, uint64_t spool_most, const char *directory,
		 stat_id gauge)
{
	*r = (struct replay){.memory_most = memory_most,
			     .spool_most = spool_most,
			     .directory = directory,
			     .gauge = gauge,
			     .fd = -1};
}

void replay_fini(struct replay *r)
{
	chain_clear(&r->memory);
	if (r->fd >= 0) {
		stat_sub(r->gauge, r->total);
		close(r->fd);
		r->fd = -1;
	}
}

static const char *folder(const struct replay *r)
{
	if (r->directory && *r->directory)
		return r->directory;
	const char *t = getenv("TMPDIR");
	return t && *t ? t : "/tmp";
}

static int open_file(const struct replay *r)
{
	char name[4096];
	int fd = open(folder(r), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (snprintf(name, sizeof name, "%s/postern-XXXXXX", folder(r)) >= (int)sizeof name)
		return -1;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

static bool write_all(int fd, const struct chain *bytes, uint64_t at)
{
	struct iovec iov[PIECES];
	struct chain left = {0};
	bool ok = chain_share(&left, bytes);
	while (ok && left.n) {
		size_t n;
		int k = chain_iov(&left, iov, PIECES, &n);
		ssize_t put = pwritev(fd, iov, k, (off_t)at);
		if (put < 0 && errno == EINTR)
			continue;
		ok = put > 0;
		if (ok) {
			chain_skip(&left, (size_t)put);
			at += (uint64_t)put;
		}
	}
	chain_clear(&left);
	return ok;
}

static bool to_file(struct replay *r)
{
	int fd = open_file(r);
	if (fd < 0 || !write_all(fd, &r->memory, 0)) {
		log_limited(LOG_FILTER, LOG_WARNING, "fallback spool",
			    "fallback: cannot keep a request's body in %s: %s", folder(r),
			    strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	chain_clear(&r->memory);
	r->fd = fd;
	stat_add(r->gauge, r->total);
	return true;
}

static bool copy(struct chain *to, const struct chain *from)
{
	for (const struct piece *q = from->first; q; q = q->next)
		if (!chain_copy(to, q->p, q->n))
			return false;
	return true;
}

bool replay_add(struct replay *r, const struct chain *bytes)
{
	uint64_t sum = r->total + bytes->n;
	if (bytes->n == 0)
		return true;
	if (r->overflow)
		return false;
	/* a copy: slices of what came would pin the chunks it came in */
	if (r->fd < 0 && sum <= r->memory_most) {
		r->overflow = !copy(&r->memory, bytes);
		r->total = r->overflow ? r->total : sum;
		return !r->overflow;
	}
	if (sum > r->spool_most || (r->fd < 0 && !to_file(r)) ||
	    !write_all(r->fd, bytes, r->total)) {
		r->overflow = true;
		return false;
	}
	stat_add(r->gauge, bytes->n);
	r->total = sum;
	return true;
}

bool replay_read(struct replay *r, size_t n, struct chain *out)
{
	uint64_t left = replay_left(r);
	if (n > left)
		n = (size_t)left;
	while (n) {
		uint32_t cap = n <= CHUNK_SMALL ? CHUNK_SMALL : CHUNK_LARGE;
		struct chunk *k = chunk_new(cap);
		if (!k)
			return false;
		size_t want = n < cap ? n : cap;
		ssize_t got = (ssize_t)want;
		if (r->fd < 0) {
			chain_read(&r->memory, (size_t)r->read, k->data, want);
		} else {
			do
				got = pread(r->fd, k->data, want, (off_t)r->read);
			while (got < 0 && errno == EINTR);
		}
		bool ok = got > 0 && chain_append(out, k, k->data, (size_t)got);
		if (ok) {
			k->fill = (uint32_t)got;
			r->read += (uint64_t)got;
			n -= (size_t)got;
		}
		chunk_unref(k);
		if (!ok)
			return false;
	}
	return true;
}

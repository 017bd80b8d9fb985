/* src/base/chain.c */
#include "base/chain.h"
#include "base/mem.h"
#include "base/must.h"
#include "base/pressure.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Built with -DARENA_EMULATE=1 nothing is cached, so that ASan sees a use after the last unref. */
#if ARENA_EMULATE
enum { SMALL_CACHED = 0, LARGE_CACHED = 0, PIECES_CACHED = 0 };
#else
enum { SMALL_CACHED = 256, LARGE_CACHED = 64, PIECES_CACHED = 2048 };
#endif

enum own { OWN_EXACT, OWN_SMALL, OWN_LARGE, OWNS, OWN_PIPE = OWNS, OWN_FILE };

/* What a pooled chunk takes beyond its cap: with malloc's own word the starts lie cap + 320 bytes
 * apart, so that chunks in use do not all fall into the same cache sets. */
enum { STRIDE = 320 - 16 };

static _Thread_local struct {
	struct chunk *first; /* linked through data */
	unsigned n;
} chunks[OWNS];
static _Thread_local struct {
	struct piece *first;
	unsigned n;
} pieces;

/* What the data of a chunk that stands for a pipe holds. cap and fill are 0: there is nothing to
 * be read or written there. */
struct pipe {
	int read, write;
	size_t n;           /* bytes in it */
	struct chunk *next; /* spare ones */
};
static _Thread_local struct {
	struct chunk *spare;
	unsigned made;
} pipes;

/* The same for a file. */
struct file {
	int fd;
	off_t at; /* of the first byte that has not gone */
};

static struct pipe *pipe_of(const struct chunk *c)
{
	return (struct pipe *)(void *)(uintptr_t)c->data;
}

struct chunk *pipe_new(void)
{
	struct chunk *c = pipes.spare;
	if (c) {
		pipes.spare = pipe_of(c)->next;
		c->refs = 1;
		return c;
	}
	int fd[2];
	if (pipes.made == PIPES)
		return NULL;
	c = mem_zalloc(MEM_BUFFER, sizeof *c + sizeof(struct pipe));
	if (!c)
		return NULL;
	if (pipe2(fd, O_NONBLOCK | O_CLOEXEC)) {
		mem_free(MEM_BUFFER, c);
		return NULL;
	}
	/* refused beyond the user's share: then it is a small one */
	fcntl(fd[1], F_SETPIPE_SZ, PIPE_BYTES);
	*pipe_of(c) = (struct pipe){.read = fd[0], .write = fd[1]};
	c->own = OWN_PIPE;
	c->refs = 1;
	pipes.made++;
	pressure_descriptors(2);
	return c;
}

static void pipe_close(struct chunk *c)
{
	close(pipe_of(c)->read);
	close(pipe_of(c)->write);
	mem_free(MEM_BUFFER, c);
	pipes.made--;
	pressure_descriptors(-2);
}

static void pipe_free(struct chunk *c)
{
	if (pipe_of(c)->n) { /* what is left in it must never reach anybody */
		pipe_close(c);
		return;
	}
	pipe_of(c)->next = pipes.spare;
	pipes.spare = c;
}

int pipe_write_end(const struct chunk *pipe)
{
	return pipe_of(pipe)->write;
}

static struct file *file_of(const struct chunk *c)
{
	return (struct file *)(void *)(uintptr_t)c->data;
}

struct chunk *file_new(int fd, off_t at)
{
	struct chunk *c = mem_zalloc(MEM_BUFFER, sizeof *c + sizeof(struct file));
	if (!c)
		return NULL;
	*file_of(c) = (struct file){fd, at};
	c->own = OWN_FILE;
	c->refs = 1;
	return c;
}

static void file_free(struct chunk *c)
{
	close(file_of(c)->fd);
	mem_free(MEM_BUFFER, c);
}

static struct chunk *chunk_link(const struct chunk *c)
{
	struct chunk *next;
	memcpy(&next, c->data, sizeof next);
	return next;
}

struct chunk *chunk_new(uint32_t cap)
{
	enum own own = cap == CHUNK_LARGE ? OWN_LARGE : cap == CHUNK_SMALL ? OWN_SMALL : OWN_EXACT;
	struct chunk *c = chunks[own].first;
	if (c) {
		chunks[own].first = chunk_link(c);
		chunks[own].n--;
	} else {
		size_t more = own == OWN_EXACT ? sizeof *c + CHUNK_SLACK : STRIDE;
		c = mem_alloc(MEM_BUFFER, cap + more);
		if (!c)
			return NULL;
		c->cap = cap;
		c->own = own;
		memset(c->data + cap, 0, CHUNK_SLACK);
	}
	c->refs = 1;
	c->fill = 0;
	return c;
}

void chunk_free_(struct chunk *c)
{
	static const unsigned most[OWNS] = {0, SMALL_CACHED, LARGE_CACHED};
	if (__builtin_expect(c->own >= OWN_PIPE, 0)) {
		if (c->own == OWN_PIPE)
			pipe_free(c);
		else
			file_free(c);
		return;
	}
	if (chunks[c->own].n >= most[c->own]) {
		mem_free(MEM_BUFFER, c);
		return;
	}
	memcpy(c->data, &chunks[c->own].first, sizeof c);
	chunks[c->own].first = c;
	chunks[c->own].n++;
}

static struct piece *piece_new(struct chunk *chunk, const char *p, size_t n)
{
	struct piece *q = pieces.first;
	if (q) {
		pieces.first = q->next;
		pieces.n--;
	} else if (!(q = mem_alloc(MEM_BUFFER, sizeof *q))) {
		return NULL;
	}
	*q = (struct piece){NULL, chunk ? chunk_ref(chunk) : NULL, p, n};
	return q;
}

static void piece_free(struct piece *q)
{
	chunk_unref(q->chunk);
	if (pieces.n + 1 > PIECES_CACHED) {
		mem_free(MEM_BUFFER, q);
		return;
	}
	q->next = pieces.first;
	pieces.first = q;
	pieces.n++;
}

static void link_last(struct chain *c, struct piece *q)
{
	if (c->last)
		c->last->next = q;
	else
		c->first = q;
	c->last = q;
	c->n += q->n;
}

static struct piece *unlink_first(struct chain *c)
{
	struct piece *q = c->first;
	c->first = q->next;
	if (!c->first)
		c->last = NULL;
	c->n -= q->n;
	q->next = NULL;
	return q;
}

bool chain_append(struct chain *c, struct chunk *chunk, const char *p, size_t n)
{
	struct piece *last = c->last;
	if (n == 0)
		return true;
	if (last && chunk && last->chunk == chunk && p && last->p + last->n == p) {
		last->n += n;
		c->n += n;
		return true;
	}
	struct piece *q = piece_new(chunk, p, n);
	if (!q)
		return false;
	link_last(c, q);
	return true;
}

bool chain_append_pipe(struct chain *c, struct chunk *pipe, size_t n)
{
	must(pipe->own == OWN_PIPE);
	pipe_of(pipe)->n += n;
	return chain_append(c, pipe, NULL, n);
}

bool chain_append_file(struct chain *c, struct chunk *file, size_t n)
{
	must(file->own == OWN_FILE);
	return chain_append(c, file, NULL, n);
}

/* The bytes of q are not in memory. */
static bool is_elsewhere(const struct piece *q)
{
	return q->chunk && q->chunk->own >= OWN_PIPE;
}

static bool begins_in(const struct chain *c, enum own own)
{
	return c->first && c->first->chunk && c->first->chunk->own == own;
}

int chain_pipe(const struct chain *c)
{
	return begins_in(c, OWN_PIPE) ? pipe_of(c->first->chunk)->read : -1;
}

int chain_file(const struct chain *c, off_t *at)
{
	if (!begins_in(c, OWN_FILE))
		return -1;
	*at = file_of(c->first->chunk)->at;
	return file_of(c->first->chunk)->fd;
}

void chain_passed(struct chain *c, size_t n)
{
	struct piece *q = c->first;
	must(q && is_elsewhere(q) && n <= q->n);
	if (q->chunk->own == OWN_PIPE) {
		must(n <= pipe_of(q->chunk)->n);
		pipe_of(q->chunk)->n -= n;
	} else {
		file_of(q->chunk)->at += (off_t)n;
	}
	q->n -= n;
	c->n -= n;
	if (q->n == 0)
		piece_free(unlink_first(c));
}

bool chain_fetch(struct chain *c)
{
	off_t at;
	int fd = chain_file(c, &at);
	must(fd >= 0);
	struct chunk *k = chunk_new(CHUNK_LARGE);
	struct piece *q = k ? piece_new(k, k->data, 0) : NULL;
	ssize_t n = -1;
	if (q) {
		do
			n = pread(fd, k->data, c->first->n < k->cap ? c->first->n : k->cap, at);
		while (n < 0 && errno == EINTR);
	}
	if (n > 0) {
		k->fill = (uint32_t)n;
		chain_passed(c, (size_t)n);
		q->n = (size_t)n;
		q->next = c->first;
		c->first = q;
		if (!c->last)
			c->last = q;
		c->n += (size_t)n;
	} else if (q) {
		piece_free(q);
	}
	chunk_unref(k);
	return n > 0;
}

/* Bytes that may be written behind the last piece: only when nobody else holds its chunk. */
static size_t tail_room(const struct chain *c)
{
	const struct piece *q = c->last;
	if (!q || !q->chunk || q->chunk->refs != 1 || is_elsewhere(q))
		return 0;
	return (size_t)(q->chunk->data + q->chunk->cap - (q->p + q->n));
}

bool chain_copy(struct chain *c, const void *p, size_t n)
{
	const char *from = p;
	size_t room = tail_room(c);
	struct chain more = {0};
	if (room > n)
		room = n;
	for (size_t at = room; at < n;) {
		struct chunk *k = chunk_new(n - at <= CHUNK_SMALL ? CHUNK_SMALL : CHUNK_LARGE);
		size_t take = k && k->cap < n - at ? k->cap : n - at;
		bool ok = k && chain_append(&more, k, k->data, take);
		if (ok) {
			memcpy(k->data, from + at, take);
			k->fill = (uint32_t)take;
		}
		chunk_unref(k);
		if (!ok) {
			chain_clear(&more);
			return false;
		}
		at += take;
	}
	if (room) {
		struct piece *q = c->last;
		char *to = q->chunk->data + (q->p - q->chunk->data) + q->n;
		memcpy(to, from, room);
		q->n += room;
		c->n += room;
		q->chunk->fill = (uint32_t)(to + room - q->chunk->data);
	}
	chain_move(c, &more);
	return true;
}

void chain_move(struct chain *dst, struct chain *src)
{
	if (!src->first)
		return;
	if (dst->last)
		dst->last->next = src->first;
	else
		dst->first = src->first;
	dst->last = src->last;
	dst->n += src->n;
	*src = (struct chain){0};
}

bool chain_split(struct chain *dst, struct chain *src, size_t n)
{
	must(n <= src->n);
	if (n == src->n) {
		chain_move(dst, src);
		return true;
	}
	struct piece *cut = src->first;
	size_t rest = n; /* bytes wanted of cut */
	while (rest >= cut->n) {
		rest -= cut->n;
		cut = cut->next;
	}
	struct piece *part = NULL;
	if (rest && !(part = piece_new(cut->chunk, cut->p, rest)))
		return false;
	while (src->first != cut)
		link_last(dst, unlink_first(src));
	if (part) {
		link_last(dst, part);
		if (cut->p)
			cut->p += rest;
		cut->n -= rest;
		src->n -= rest;
	}
	return true;
}

void chain_skip(struct chain *c, size_t n)
{
	must(n <= c->n);
	while (n) {
		struct piece *q = c->first;
		if (n < q->n) {
			q->p += n;
			q->n -= n;
			c->n -= n;
			return;
		}
		n -= q->n;
		piece_free(unlink_first(c));
	}
}

bool chain_share(struct chain *dst, const struct chain *src)
{
	struct chain more = {0};
	for (const struct piece *q = src->first; q; q = q->next) {
		if (!chain_append(&more, q->chunk, q->p, q->n)) {
			chain_clear(&more);
			return false;
		}
	}
	chain_move(dst, &more);
	return true;
}

int chain_iov(const struct chain *c, struct iovec *iov, int max, size_t *bytes)
{
	int n = 0;
	*bytes = 0;
	for (const struct piece *q = c->first; q && n < max && !is_elsewhere(q); q = q->next) {
		iov[n++] = (struct iovec){(void *)(uintptr_t)q->p, q->n};
		*bytes += q->n;
	}
	return n;
}

void chain_read(const struct chain *c, size_t at, void *out, size_t n)
{
	char *to = out;
	must(at <= c->n && n <= c->n - at);
	for (const struct piece *q = c->first; n; q = q->next) {
		if (at >= q->n) {
			at -= q->n;
			continue;
		}
		size_t take = q->n - at < n ? q->n - at : n;
		must(q->p);
		memcpy(to, q->p + at, take);
		to += take;
		n -= take;
		at = 0;
	}
}

bool chain_flat(struct chain *c, struct str *out)
{
	if (c->n == 0) {
		*out = (struct str){"", 0};
		return true;
	}
	if (c->first != c->last) {
		if (c->n > UINT32_MAX / 2)
			return false;
		uint32_t n = (uint32_t)c->n;
		struct chunk *k = chunk_new(n <= CHUNK_SMALL   ? CHUNK_SMALL
					    : n <= CHUNK_LARGE ? CHUNK_LARGE
							       : n);
		struct chain flat = {0};
		bool ok = k && chain_append(&flat, k, k->data, n);
		if (ok) {
			chain_read(c, 0, k->data, n);
			k->fill = n;
			chain_clear(c);
			*c = flat;
		}
		chunk_unref(k);
		if (!ok)
			return false;
	}
	*out = (struct str){c->first->p, c->first->n};
	return true;
}

void chain_clear_(struct chain *c)
{
	while (c->first)
		piece_free(unlink_first(c));
}

void chain_trim(void)
{
	for (int i = 0; i < OWNS; i++) {
		while (chunks[i].first) {
			struct chunk *c = chunks[i].first;
			chunks[i].first = chunk_link(c);
			mem_free(MEM_BUFFER, c);
		}
		chunks[i].n = 0;
	}
	while (pipes.spare) {
		struct chunk *c = pipes.spare;
		pipes.spare = pipe_of(c)->next;
		pipe_close(c);
	}
	while (pieces.first) {
		struct piece *q = pieces.first;
		pieces.first = q->next;
		mem_free(MEM_BUFFER, q);
	}
	pieces.n = 0;
}

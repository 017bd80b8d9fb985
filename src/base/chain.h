/* src/base/chain.h
 *
 * Received or produced bytes on their way: counted chunks and lists of slices into them. A chunk and
 * a chain belong to one worker thread; counts are not atomic. Chunks of two sizes come from a per-
 * thread LIFO stack (request-path.md 4).
 */
#pragma once
#include "base/str.h"
#include <sys/uio.h>

enum { CHUNK_SMALL = 8 * 1024, CHUNK_LARGE = 48 * 1024, CHUNK_SLACK = 16 };

struct chunk {
	uint32_t refs;
	uint32_t cap;  /* bytes of data; CHUNK_SLACK readable bytes follow it */
	uint32_t fill; /* bytes written so far by the one who fills it */
	uint32_t own;  /* chain.c */
	char data[];
};

/* cap is CHUNK_SMALL, CHUNK_LARGE or any other size (then malloc'd exactly). refs = 1. NULL: no
 * memory. */
struct chunk *chunk_new(uint32_t cap);
static inline struct chunk *chunk_ref(struct chunk *c)
{
	c->refs++;
	return c;
}
void chunk_free_(struct chunk *c);
static inline void chunk_unref(struct chunk *c)
{
	if (c && --c->refs == 0)
		chunk_free_(c);
}

struct piece {
	struct piece *next;
	struct chunk *chunk; /* counted; NULL: bytes that outlive the chain (static text) */
	const char *p;
	size_t n;
};
struct chain {
	struct piece *first, *last;
	size_t n; /* bytes in all */
};

/* Bytes that never come to user space: they lie in a kernel pipe or in a file, which a chunk stands for, and go on by splice(2) or
 * sendfile(2). Their piece has p NULL and n bytes; only moving, splitting, clearing, chain_pipe and chain_file may be done to it. Who lets
 * them into a chain knows that nobody will look inside. */
enum { PIPE_BYTES = 512 * 1024, PIPES = 64 /* of a thread, in use and spare */ };
enum { FILE_BYTES = 512 * 1024 /* of a file at a time: what one call may send */ };
/* An empty pipe. NULL: too many, or no descriptor or memory: copy instead. */
struct chunk *pipe_new(void);
int pipe_write_end(const struct chunk *pipe);
/* n bytes were spliced into the pipe: a piece for them. False: no memory. */
bool chain_append_pipe(struct chain *c, struct chunk *pipe, size_t n);
/* A regular file from at on, read in order. Takes fd over. NULL: no memory, fd stays the caller's. */
struct chunk *file_new(int fd, off_t at);
/* A piece for the file's next n bytes, which it may turn out not to have. False: no memory. */
bool chain_append_file(struct chain *c, struct chunk *file, size_t n);

static inline bool chain_empty(const struct chain *c)
{
	return c->n == 0;
}
/* Appends n bytes at p inside chunk, taking a reference. False: no memory, nothing changed. n =
 * 0 is a no-op. */
bool chain_append(struct chain *c, struct chunk *chunk, const char *p, size_t n);
/* Copies the bytes into chunks of its own (filling the last piece's own free tail first). */
bool chain_copy(struct chain *c, const void *p, size_t n);
/* Moves all of src behind dst; src is empty afterwards. Cannot fail. */
void chain_move(struct chain *dst, struct chain *src);
/* Moves the first n bytes (n <= src->n) of src behind dst; a piece in two shares its chunk. */
bool chain_split(struct chain *dst, struct chain *src, size_t n);
/* Drops the first n bytes. */
void chain_skip(struct chain *c, size_t n);
/* Shares (no copy of bytes) all of src behind dst. False: no memory, dst unchanged. */
bool chain_share(struct chain *dst, const struct chain *src);
/* Fills at most max iovecs with the first pieces; returns how many; *bytes their sum. */
int chain_iov(const struct chain *c, struct iovec *iov, int max, size_t *bytes);
/* The end to splice from when the first bytes lie in a pipe (the first piece's n of them), else
 * -1. chain_iov stops before such a piece. */
int chain_pipe(const struct chain *c);
/* The file that holds the first bytes (the first piece's n of them) and where they begin, else
 * -1. chain_iov stops there too. */
int chain_file(const struct chain *c, off_t *at);
/* n bytes of that pipe or file have gone. */
void chain_passed(struct chain *c, size_t n);
/* Reads some of the bytes that chain_file tells of, so that they lie in memory as others do. False: the file ends before them or cannot be
 * read, or no memory: c is as it was. */
bool chain_fetch(struct chain *c);
/* Copies [at, at + n) out, at + n <= c->n. */
void chain_read(const struct chain *c, size_t at, void *out, size_t n);
/* All bytes as one contiguous run: the only piece as it is, else the pieces are merged into one chunk
 * in place. False: no memory. */
bool chain_flat(struct chain *c, struct str *out);
void chain_clear_(struct chain *c);
static inline void chain_clear(struct chain *c)
{
	if (c->first)
		chain_clear_(c);
}
/* Frees this thread's cached chunks, pieces and pipes. */
void chain_trim(void);

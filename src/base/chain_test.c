/* src/base/chain_test.c: chains against plain byte arrays, with and without memory. */
#include "base/chain.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/must.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST = 400000 };

struct both {
	struct chain c;
	unsigned char *bytes; /* what c should hold */
	size_t n;
};

static unsigned char source[MOST];
static const char fixed[] = "static text that outlives every chain";

static void check(const struct both *b)
{
	size_t n = 0;
	must(b->c.n == b->n);
	must((b->c.first == NULL) == (b->n == 0) && (b->c.last == NULL) == (b->n == 0));
	for (const struct piece *q = b->c.first; q; q = q->next) {
		must(q->n > 0 && memcmp(q->p, b->bytes + n, q->n) == 0);
		must(!q->chunk ||
		     (q->p >= q->chunk->data && q->p + q->n <= q->chunk->data + q->chunk->cap &&
		      q->chunk->refs));
		must(q->next || q == b->c.last);
		n += q->n;
	}
	must(n == b->n);
}

static size_t pick(size_t below)
{
	size_t n = random_u64() % 3 ? random_u64() % 40 : random_u64() % 60000;
	return n % below;
}

/* One random deed on a, b; a failed one must have changed nothing. long: one case for each verb. */
static void deed(struct both *a, struct both *b)
{
	unsigned char *at = source + random_u64() % 1000;
	size_t n = pick(60000), k = n <= b->n ? n : b->n;
	if (a->n + b->n + 60000 > MOST) {
		chain_clear(&a->c);
		a->n = 0;
		return;
	}
	switch (random_u64() % 9) {
	case 0:
		if (chain_copy(&a->c, at, n)) {
			memcpy(a->bytes + a->n, at, n);
			a->n += n;
		}
		break;
	case 1: {
		struct chunk *c = chunk_new(random_u64() % 2 ? CHUNK_SMALL : CHUNK_LARGE);
		if (!c)
			break;
		n %= c->cap + 1;
		memcpy(c->data, at, n);
		c->fill = (uint32_t)n;
		size_t cut = n / 3; /* twice, so that neighbours in a chunk meet */
		if (chain_append(&a->c, c, c->data, cut)) {
			memcpy(a->bytes + a->n, at, cut);
			a->n += cut;
			if (chain_append(&a->c, c, c->data + cut, n - cut)) {
				memcpy(a->bytes + a->n, at + cut, n - cut);
				a->n += n - cut;
			}
		}
		chunk_unref(c);
		break;
	}
	case 2:
		if (chain_append(&a->c, NULL, fixed, sizeof fixed)) {
			memcpy(a->bytes + a->n, fixed, sizeof fixed);
			a->n += sizeof fixed;
		}
		break;
	case 3:
		chain_move(&a->c, &b->c);
		memcpy(a->bytes + a->n, b->bytes, b->n);
		a->n += b->n;
		b->n = 0;
		break;
	case 4:
		if (chain_split(&a->c, &b->c, k)) {
			memcpy(a->bytes + a->n, b->bytes, k);
			a->n += k;
			memmove(b->bytes, b->bytes + k, b->n - k);
			b->n -= k;
		}
		break;
	case 5:
		chain_skip(&b->c, k);
		memmove(b->bytes, b->bytes + k, b->n - k);
		b->n -= k;
		break;
	case 6:
		if (chain_share(&a->c, &b->c)) {
			memcpy(a->bytes + a->n, b->bytes, b->n);
			a->n += b->n;
		}
		break;
	case 7: {
		struct str flat;
		if (chain_flat(&a->c, &flat))
			must(flat.n == a->n && memcmp(flat.p, a->bytes, a->n) == 0);
		break;
	}
	default: {
		static unsigned char out[MOST];
		chain_read(&b->c, b->n - k, out, k);
		must(memcmp(out, b->bytes + b->n - k, k) == 0);
	}
	}
}

static void random_deeds(bool failing)
{
	static unsigned char one[MOST], two[MOST];
	struct both a = {.bytes = one}, b = {.bytes = two};
	for (int i = 0; i < 20000; i++) {
		if (failing && i % 3 == 0) {
			chain_trim();
			mem_fail_nth(1 + random_u64() % 6);
		}
		if (random_u64() % 2)
			deed(&a, &b);
		else
			deed(&b, &a);
		mem_fail_nth(0);
		check(&a);
		check(&b);
	}
	chain_clear(&a.c);
	chain_clear(&b.c);
	chain_trim();
	struct mem_totals t;
	mem_read_totals(&t);
	must(t.bytes[MEM_BUFFER] == 0);
}

static void copies_fill_what_is_free(void)
{
	struct chain c = {0};
	for (int i = 0; i < 800; i++)
		must(chain_copy(&c, "0123456789", 10));
	must(c.first == c.last && c.n == 8000);
	struct chain other = {0};
	must(chain_share(&other, &c)); /* now shared: it must not be written to */
	must(chain_copy(&c, "x", 1));
	must(c.first != c.last && other.n == 8000);
	struct iovec iov[4];
	size_t bytes;
	must(chain_iov(&c, iov, 4, &bytes) == 2 && bytes == 8001);
	must(chain_iov(&c, iov, 1, &bytes) == 1 && bytes == 8000);
	chain_clear(&c);
	chain_clear(&other);
}

static void copies_end_where_chunks_do(void)
{
	static const size_t ends[] = {CHUNK_SMALL, CHUNK_LARGE, CHUNK_LARGE + CHUNK_SMALL,
				      2 * CHUNK_LARGE};
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		for (size_t n = ends[i] - 1; n <= ends[i] + 1; n++) {
			struct chain c = {0};
			must(chain_copy(&c, source, n) && c.n == n);
			check(&(struct both){c, source, n});
			chain_clear(&c);
		}
	}
}

static void steady_state_takes_no_memory(void)
{
#if !ARENA_EMULATE
	struct mem_totals before = {0}, after;
	for (int i = 0; i < 100; i++) {
		struct chain c = {0};
		if (i == 1)
			mem_read_totals(&before);
		for (int k = 0; k < 20; k++) {
			struct chunk *s = chunk_new(CHUNK_SMALL), *l = chunk_new(CHUNK_LARGE);
			must(chain_append(&c, s, s->data, s->cap) &&
			     chain_append(&c, l, l->data, 9));
			chunk_unref(s);
			chunk_unref(l);
		}
		chain_clear(&c);
	}
	mem_read_totals(&after);
	must(after.calls == before.calls);
#endif
}

/* Bytes in a kernel pipe keep their place among others, and a pipe that was not emptied is never
 * used again. */
static void pipes_keep_order_and_leftovers(void)
{
	struct chain c = {0}, rest = {0};
	struct iovec iov[4];
	size_t bytes;
	char b[8];
	struct chunk *p = pipe_new();
	must(p && write(pipe_write_end(p), "abcdef", 6) == 6);
	must(chain_copy(&c, "12", 2) && chain_append_pipe(&c, p, 6) && chain_copy(&c, "34", 2));
	chunk_unref(p);
	must(c.n == 10 && chain_pipe(&c) < 0 && chain_iov(&c, iov, 4, &bytes) == 1 && bytes == 2);
	chain_skip(&c, 2);
	must(chain_split(&rest, &c, 3) && rest.n == 3 && c.n == 5);
	must(read(chain_pipe(&rest), b, 3) == 3 && !memcmp(b, "abc", 3));
	chain_passed(&rest, 3);
	must(chain_empty(&rest) && read(chain_pipe(&c), b, 3) == 3 && !memcmp(b, "def", 3));
	chain_passed(&c, 3);
	must(chain_pipe(&c) < 0 && c.n == 2);
	chain_clear(&c);
	struct chunk *again = pipe_new();
	must(again == p); /* empty: kept */
	must(write(pipe_write_end(again), "x", 1) == 1 && chain_append_pipe(&c, again, 1));
	int end = pipe_write_end(again);
	chunk_unref(again);
	chain_clear(&c);
	must(write(end, "y", 1) < 0); /* closed */
	struct chunk *all[PIPES + 1];
	unsigned n = 0;
	while (n < PIPES + 1 && (all[n] = pipe_new()))
		n++;
	must(n == PIPES);
	while (n)
		chunk_unref(all[--n]);
}

/* So do the bytes of a file; what is fetched of them takes their place. */
static void files_keep_order(void)
{
	enum { LENGTH = CHUNK_LARGE + 100 };
	struct chain c = {0}, rest = {0};
	struct iovec iov[4];
	size_t bytes;
	off_t at;
	char name[] = "/tmp/postern-chain-XXXXXX", b[8];
	int fd = mkstemp(name);
	must(fd >= 0 && unlink(name) == 0 && ftruncate(fd, 3 + LENGTH) == 0);
	must(pwrite(fd, "abcdef", 6, 0) == 6);
	struct chunk *f = file_new(fd, 3);
	must(f && chain_copy(&c, "12", 2) && chain_append_file(&c, f, 4) &&
	     chain_append_file(&c, f, LENGTH) && chain_copy(&c, "34", 2));
	chunk_unref(f);
	must(chain_file(&c, &at) < 0 && chain_iov(&c, iov, 4, &bytes) == 1 && bytes == 2);
	chain_skip(&c, 2);
	must(chain_file(&c, &at) == fd && at == 3 && chain_pipe(&c) < 0);
	must(chain_iov(&c, iov, 4, &bytes) == 0 && bytes == 0);
	must(chain_split(&rest, &c, 1) && chain_file(&rest, &at) == fd && at == 3);
	chain_passed(&rest, 1);
	must(chain_empty(&rest) && chain_file(&c, &at) == fd && at == 4);

	size_t all = c.n;
	must(chain_fetch(&c) && c.n == all && chain_file(&c, &at) < 0); /* the first piece */
	must(chain_iov(&c, iov, 4, &bytes) == 1 && bytes == 3 && !memcmp(iov->iov_base, "ef", 3));
	chain_skip(&c, 3);
	must(chain_file(&c, &at) == fd && at == 7);
	must(chain_fetch(&c) && c.n == LENGTH + 2); /* of the second, as much as a chunk takes */
	must(chain_iov(&c, iov, 4, &bytes) == 1 && bytes == CHUNK_LARGE);
	chain_skip(&c, CHUNK_LARGE);
	must(chain_file(&c, &at) == fd && at == 7 + CHUNK_LARGE && c.n == 102);
	chain_passed(&c, 96);
	must(!chain_fetch(&c) && c.n == 6); /* the file has ended */
	must(chain_split(&rest, &c, 4) && !chain_fetch(&rest) && rest.n == 4);
	must(fcntl(fd, F_GETFD) >= 0);
	chain_clear(&rest);
	must(fcntl(fd, F_GETFD) < 0); /* with its last piece */
	chain_read(&c, 0, b, 2);
	must(!memcmp(b, "34", 2));
	chain_clear(&c);
}

int main(void)
{
	files_keep_order();
	pipes_keep_order_and_leftovers();
	for (size_t i = 0; i < sizeof source; i++)
		source[i] = (unsigned char)(random_u64() >> 56);
	copies_fill_what_is_free();
	copies_end_where_chunks_do();
	random_deeds(false);
	random_deeds(true);
	steady_state_takes_no_memory();
	struct chunk *c = chunk_new(1);
	c->data[c->cap + CHUNK_SLACK - 1] = 1; /* the slack is ours */
	chunk_unref(c);
	chunk_unref(NULL);
	chain_trim();
	return 0;
}

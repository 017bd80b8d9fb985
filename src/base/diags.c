/* src/base/diags.c */
#include "base/diags.h"
#include "base/mem.h"
#include "base/must.h"
#include <stdlib.h>

enum { KEPT = 200 }; /* of each level */

void diags_init(struct diags *d)
{
	*d = (struct diags){0};
	arena_init(&d->arena, 4 << 20);
}

void diags_fini(struct diags *d)
{
	arena_fini(&d->arena);
	diags_init(d);
}

static void add(struct diags *d, enum diag_level level, struct doc_place at,
		const struct doc *where, const char *fmt, va_list ap)
{
	unsigned *n = level == DIAG_ERROR     ? &d->errors
		      : level == DIAG_WARNING ? &d->warnings
					      : &d->notices;
	d->hintable = NULL;
	if ((*n)++ >= KEPT)
		return;
	struct diag *g = arena_zalloc(&d->arena, sizeof *g);
	if (!g)
		return; /* counted all the same: an error stays an error */
	g->level = level;
	g->at = at;
	g->path = where ? doc_path(&d->arena, where) : STR("");
	g->text = arena_vprintf(&d->arena, fmt, ap);
	g->hint = STR("");
	if (!g->path.p)
		g->path = STR("");
	if (!g->text.p)
		g->text = STR("(no memory for the message)");
	if (d->last)
		d->last->next = g;
	else
		d->first = g;
	d->last = d->hintable = g;
}

void diag_add(struct diags *d, enum diag_level level, const struct doc *where, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	add(d, level, where ? where->at : (struct doc_place){0}, where, fmt, ap);
	va_end(ap);
}

void diag_at(struct diags *d, enum diag_level level, struct doc_place at, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	add(d, level, at, NULL, fmt, ap);
	va_end(ap);
}

void diag_hint(struct diags *d, const char *fmt, ...)
{
	va_list ap;
	if (!d->hintable)
		return;
	va_start(ap, fmt);
	struct str text = arena_vprintf(&d->arena, fmt, ap);
	va_end(ap);
	if (text.n && !memchr(text.p, ' ', text.n))
		text = arena_printf(&d->arena, "did you mean \"%.*s\"?", STR_ARG(text));
	if (text.p)
		d->hintable->hint = text;
}

const char *diag_nearest(struct str word, const char *const *names)
{
	unsigned cap = word.n < 3 ? 1 : (unsigned)(word.n / 3);
	const char *best = NULL;
	for (; *names; names++) {
		unsigned n = str_distance(word, str_of(*names), cap);
		if (n <= cap && (!best || n < cap)) {
			best = *names;
			cap = n;
		}
	}
	return best;
}

static int by_place(const void *a, const void *b)
{
	const struct diag *x = *(const struct diag *const *)a, *y = *(const struct diag *const *)b;
	int r = strcmp(x->at.file ? x->at.file : "", y->at.file ? y->at.file : "");
	if (r == 0)
		r = (x->at.line > y->at.line) - (x->at.line < y->at.line);
	if (r == 0)
		r = (x->at.column > y->at.column) - (x->at.column < y->at.column);
	return r;
}

/* Keys and values of the file come through here: no control byte reaches the terminal. */
static void put(struct str s, FILE *out)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char ch = (unsigned char)s.p[i];
		if (ch < 0x20 || ch == 0x7f)
			fprintf(out, "\\x%02x", ch);
		else
			putc(ch, out);
	}
}

static void print_one(const struct diag *g, FILE *out)
{
	static const char *const names[] = {"error", "warning", "notice"};
	if (g->at.file)
		put(str_of(g->at.file), out);
	if (g->at.file && g->at.line)
		fprintf(out, ":%u:%u", g->at.line, g->at.column);
	fprintf(out, "%s%s: ", g->at.file ? ": " : "", names[g->level]);
	put(g->path, out);
	if (g->path.n)
		fputs(": ", out);
	put(g->text, out);
	if (g->hint.n) {
		fputs(" (", out);
		put(g->hint, out);
		putc(')', out);
	}
	putc('\n', out);
}

static void print_rest(unsigned n, const char *what, FILE *out)
{
	if (n > KEPT)
		fprintf(out, "... and %u more %s\n", n - KEPT, what);
}

void diags_print(const struct diags *d, FILE *out)
{
	size_t n = 0;
	for (const struct diag *g = d->first; g; g = g->next)
		n++;
	const struct diag **order =
		n ? mem_alloc(MEM_CONFIG, n * sizeof(const struct diag *)) : NULL;
	if (order) {
		size_t i = 0;
		for (const struct diag *g = d->first; g; g = g->next)
			order[i++] = g;
		qsort(order, n, sizeof *order, by_place); /* glibc's merges: stable */
		for (i = 0; i < n; i++)
			print_one(order[i], out);
		mem_free(MEM_CONFIG, order);
	} else {
		for (const struct diag *g = d->first; g; g = g->next)
			print_one(g, out);
	}
	print_rest(d->errors, "errors", out);
	print_rest(d->warnings, "warnings", out);
	print_rest(d->notices, "notices", out);
}

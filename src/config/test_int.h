/* src/config/test_int.h: what the tests of this room share. */
#pragma once
#include "base/mem.h"
#include "base/must.h"
#include "config/config.h"
#include <stdio.h>
#include <stdlib.h>

/* doc_to_json without its line breaks. free() it. */
static inline char *test_json(const struct doc *d, bool mask)
{
	char *p = NULL;
	size_t n = 0, to = 0;
	must(doc_to_json(d, &p, &n, mask));
	char *out = malloc(n + 1);
	must(out != NULL);
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n')
			while (i + 1 < n && p[i + 1] == ' ')
				i++;
		else
			out[to++] = p[i];
	}
	out[to] = 0;
	free(p);
	return out;
}

/* "LEVEL LINE:COLUMN PATH: TEXT (HINT)" for each, in the order given, lines joined by "\n".
 * free() it. */
static inline char *test_diags(const struct diags *d)
{
	char *out = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&out, &n);
	must(f != NULL);
	for (const struct diag *g = d->first; g; g = g->next) {
		fprintf(f, "%s%c %u:%u", g == d->first ? "" : "\n", "EWN"[g->level], g -> at.line,
			g->at.column);
		if (g->path.n)
			fprintf(f, " %.*s", STR_ARG(g->path));
		fprintf(f, ": %.*s", STR_ARG(g->text));
		if (g->hint.n)
			fprintf(f, " (%.*s)", STR_ARG(g->hint));
	}
	fclose(f);
	must(out != NULL);
	return out;
}

static inline void test_same(const char *story, const char *got, const char *wanted)
{
	if (strcmp(got, wanted) != 0) {
		fprintf(stderr, "%s\n  got:    %s\n  wanted: %s\n", story, got, wanted);
		must(!"the same");
	}
}

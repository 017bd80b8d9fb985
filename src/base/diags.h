/* src/base/diags.h
 *
 * What the operator is told about a configuration, all at once: errors refuse it, warnings and
 * notices do not.
 */
#pragma once
#include "base/doc.h"
#include <stdio.h>

enum diag_level { DIAG_ERROR, DIAG_WARNING, DIAG_NOTICE };
struct diag {
	struct diag *next;
	enum diag_level level;
	struct doc_place at;
	struct str path; /* doc_path, may be empty */
	struct str text;
	struct str hint; /* "did you mean …", may be empty */
};
struct diags {
	struct arena arena;
	struct diag *first, *last;
	struct diag *hintable; /* the one diag_hint adds to; NULL when the last was not kept */
	unsigned errors, warnings, notices;
};

void diags_init(struct diags *d);
void diags_fini(struct diags *d);
/* where may be NULL. The place, path come from it. At most 200 of each level are kept, the
 * rest counted. */
void diag_add(struct diags *d, enum diag_level level, const struct doc *where, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void diag_at(struct diags *d, enum diag_level level, struct doc_place at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Adds a hint to the last diag: the whole text, or a single word X, which becomes did you mean
 * "X"? */
void diag_hint(struct diags *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The nearest of names (NULL-terminated) to word within a third of its length, or NULL. */
const char *diag_nearest(struct str word, const char *const *names);
/* "FILE:LINE:COLUMN: error: PATH: TEXT (HINT)", one per line, in the order of their places. */
void diags_print(const struct diags *d, FILE *out);

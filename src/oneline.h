/* src/oneline.h: without YAML (spec/fallback.md 23): the bootstrap that --static, --fallback and
 * their like stand for. */
#pragma once
#include "base/str.h"
#include <stdio.h>

enum { ONELINE_FALLBACKS = 8, ONELINE_OVERRIDES = 32, ONELINE_LISTENS = 16 };
struct oneline {
	const char *site; /* URL or folder of --static, URL of --primary */
	bool dynamic;     /* --primary */
	const char *fallbacks[ONELINE_FALLBACKS];
	const char *overrides[ONELINE_OVERRIDES];
	const char *listens[ONELINE_LISTENS];
	unsigned nfallbacks, noverrides, nlistens;
	const char *fallback_ca, *host, *cert, *key;
	bool no_probe;
	bool given; /* any of them */
};
/* One of the options. -1: none of ours; 0: a message was printed to standard error. */
int oneline_take(struct oneline *o, const char *name, const char *arg);
/* The bootstrap's text, malloc'd. NULL: a message was printed to standard error. */
char *oneline_yaml(const struct oneline *o, size_t *n);
struct config_source;
struct filter_type;
/* Asks both origins once, in a thread of its own with a loop of that index, and tells on
 * standard error what will follow from what they say. */
void oneline_probe(const struct oneline *o, const struct config_source *source,
		   const struct filter_type *const *types, unsigned index);
/* Waits for that thread, which ends soon. */
void oneline_probe_end(void);

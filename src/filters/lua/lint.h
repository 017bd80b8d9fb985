/* src/filters/lua/lint.h
 *
 * Reads a script without running it and tells what it will lose or what Envoy would refuse. It knows tokens and blocks, not Lua's
 * meaning: what it says is likely, so nothing it finds refuses a configuration. Pure; works on any bytes.
 */
#pragma once
#include "base/arena.h"
#include "base/diags.h"

struct compile;

struct lint_env {
	bool (*cluster_known)(void *arg, struct str name);
	const char *const *clusters; /* NULL-terminated, for suggestions */
	/* line and column from 1. hint may be empty. */
	void (*say)(void *arg, enum diag_level level, uint32_t line, uint32_t column,
		    const char *text, const char *hint);
	void *arg;
};
/* scratch: for tokens and texts, may be dropped afterwards. */
void lint_script(struct str source, struct arena *scratch, const struct lint_env *env);
/* Envoy's LuaJIT takes a break in the middle of a block, Debian's does not: `do break end` is understood by both. Gives source
 * itself when there is none to change, or no memory. Lines stay the same. */
struct str lint_breaks(struct str source, struct arena *a);
/* What check does with the script configured at d: source, from the file path (.p NULL: it stands in d). Findings go to c->diags. */
void lint_check(struct compile *c, const struct doc *d, struct str source, struct str path);

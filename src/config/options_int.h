/* src/config/options_int.h
 *
 * postern's own options: runtime keys postern.NAME of static layers (design.md 3), and --set on the command line.
 */
#pragma once
#include "config/read.h"

/* bootstrap: its layered_runtime is read; NULL: none. sets: "postern.NAME=VALUE", applied last. Mistakes are reported, what is
 * not mentioned has its default in *out. */
void options_read(struct reader *r, const struct doc *bootstrap, const struct str *sets,
		  unsigned nsets, struct options *out);

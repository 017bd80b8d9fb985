/* src/pages.h: admin pages of what the admin room cannot see. */
#pragma once
#include "admin/admin.h"

extern const struct admin_page pages[];

/* postern top: asks a running postern's admin listener and prints both lists. The process's exit
 * status. */
int pages_top(const char *admin);

/* src/pages.h: admin pages of what the admin room cannot see. */
#pragma once
#include "admin/admin.h"

extern const struct admin_page pages[];

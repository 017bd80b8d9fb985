/* src/filters/filters.h: the kinds of filter there are, and no more. */
#pragma once
#include "model/filter.h"

extern const struct filter_type filter_router, filter_lua, filter_static, filter_fallback,
	filter_set_metadata, filter_set_filter_state;

/* src/base/stat_id.h: the number of a registered statistic (obs/stats.h), for structures that
 * only keep it. 0: none. */
#pragma once
#include <stdint.h>
typedef uint32_t stat_id;

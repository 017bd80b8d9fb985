/* src/obs/log.h
 *
 * The process log, one line per event, in Envoy's form:
 *   [2026-11-24 06:49:46.123][12345][warning][upstream] text
 * to standard error (or --log-path). Control bytes in the text are written as \xNN, so nothing can forge a
 * line. Never blocks: a full pipe drops lines and counts them. Per (component, site) and second at most 10
 * lines per thread of those logged by log_limited, then one "N suppressed" line.
 */
#pragma once
#include "base/str.h"
#include <stdint.h>

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_CRITICAL, LOG_OFF };
/* Envoy's component names where it has them. */
enum log_part {
	LOG_MAIN,
	LOG_CONFIG,
	LOG_CONN,
	LOG_HTTP,
	LOG_ROUTER,
	LOG_UPSTREAM,
	LOG_LUA,
	LOG_ADMIN,
	LOG_FILTER,
	LOG_RUNTIME,
	LOG_PARTS
};

extern unsigned char log_levels[LOG_PARTS]; /* read racily, changed by admin */
#define log_on(part, level) __builtin_expect((level) >= log_levels[part], 0)

/* stderr by default. False: path cannot be opened. */
bool log_open(const char *path);
bool log_reopen(void);
/* "info", "warn", "warning", "err", "error", …; -1: unknown. */
int log_level_of(struct str name);
const char *log_level_name(enum log_level l);
int log_part_of(struct str name);
const char *log_part_name(enum log_part p);
void log_set_level(enum log_level l);

void log_line_(enum log_part part, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Writes text as it is but for control bytes; any length; no rate limit (script logs). */
void log_text(enum log_part part, enum log_level level, struct str prefix, struct str text);
#define log_line(part, level, ...)                           \
	do {                                                 \
		if (log_on(part, level))                     \
			log_line_(part, level, __VA_ARGS__); \
	} while (0)
/* As log_line with the rate limit; what identifies the fault (static text, or script position). */
void log_limited_(enum log_part part, enum log_level level, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
#define log_limited(part, level, what, ...)                           \
	do {                                                          \
		if (log_on(part, level))                              \
			log_limited_(part, level, what, __VA_ARGS__); \
	} while (0)
/* Writes this thread's waiting "N suppressed" lines of past seconds; sink_flush_thread calls it. */
void log_settle(void);
uint64_t log_dropped(void);

/* Quotes peer data for a log line: outside 0x20..0x7e, '"' and '\' become \xNN; at most 256 bytes of s. out holds
 * cap bytes, NUL-terminated. */
const char *log_quote(char *out, size_t cap, struct str s);

/* src/obs/sink.h
 *
 * Where access logs go: a file or standard output, shared by all workers. Lines are gathered in a per-thread
 * buffer of 64 KiB and written when full, after sink_flush (about once a second and at exit). Never blocks for
 * long: O_APPEND writes of whole lines; a failed write drops and counts.
 */
#pragma once
#include "base/str.h"
#include <stdint.h>

struct sink;
/* path: a file, "/dev/stdout" or "/dev/stderr". The same path gives the same sink (counted).
 * NULL: errno. */
struct sink *sink_open(const char *path);
struct sink *sink_ref(struct sink *s);
void sink_unref(struct sink *s);
/* A pointer to room for n bytes in this thread's buffer, or NULL (n > 64 KiB or no memory); sink_commit says how
 * many were used. */
char *sink_room(struct sink *s, size_t n);
void sink_commit(struct sink *s, size_t n);
void sink_write(struct sink *s, struct str line);
/* This thread's buffers of all sinks. */
void sink_flush_thread(void);
/* After log rotation: all sinks reopen their files. */
void sink_reopen_all(void);
/* Lines lost since the start, all threads. */
uint64_t sink_dropped(void);

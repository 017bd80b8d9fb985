/* src/base/must.h
 *
 * must(): a promise of our own code. Compiled into every build. A broken one prints the condition,
 * place and what the thread was working on, then aborts; the supervisor starts a new process.
 */
#pragma once

#define must(cond)                                            \
	do {                                                  \
		if (__builtin_expect(!(cond), 0))             \
			must_fail(#cond, __FILE__, __LINE__); \
	} while (0)

_Noreturn void must_fail(const char *cond, const char *file, int line);

/* What this thread is working on, shown in the report: print(arg, fd) writes plain text with
 * write(2). Set to NULL when nothing is. The caller keeps arg alive while it is set. */
void must_about(void (*print)(const void *arg, int fd), const void *arg);

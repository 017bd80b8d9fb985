/* src/base/must.c: no stdio, no memory: the process may be in any state when this runs. */
#include "base/must.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Thread_local struct {
	void (*print)(const void *arg, int fd);
	const void *arg;
} about;

static void say(const char *text)
{
	ssize_t done = write(STDERR_FILENO, text, strlen(text));
	(void)done; /* nobody is left to tell */
}

void must_about(void (*print)(const void *arg, int fd), const void *arg)
{
	about.print = print;
	about.arg = arg;
}

_Noreturn void must_fail(const char *cond, const char *file, int line)
{
	char digits[12], *p = digits + sizeof digits;
	*--p = 0;
	for (unsigned n = (unsigned)line; p == digits + sizeof digits - 1 || n; n /= 10)
		*--p = (char)('0' + n % 10);
	say("postern: broken promise: must(");
	say(cond);
	say(") at ");
	say(file);
	say(":");
	say(p);
	say("\n");
	if (about.print) {
		void (*print)(const void *, int) = about.print;
		about.print = NULL; /* should it break a promise itself: once is enough */
		say("postern: while working on: ");
		print(about.arg, STDERR_FILENO);
		say("\n");
	}
	abort();
}

/* src/base/must_test.c: what a broken promise leaves behind. */
#include "base/failure.h"
#include "base/must.h"
#include "base/str.h"
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void print(const void *arg, int fd)
{
	dprintf(fd, "exchange %d", *(const int *)arg);
	must(arg == NULL); /* breaking one more promise here must not loop */
}

int main(void)
{
	int out[2], number = 7, status;
	char text[1000];
	must(pipe(out) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(out[1], STDERR_FILENO);
		must_about(print, &number);
		must(number == 8);
		_exit(0);
	}
	must(waitpid(pid, &status, 0) == pid);
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	close(out[1]);
	ssize_t n = read(out[0], text, sizeof text);
	must(n > 0);
	struct str s = {text, (size_t)n};
	must(str_find(s, STR("must(number == 8) at ")) >= 0);
	must(str_find(s, STR("must_test.c:")) >= 0);
	must(str_find(s, STR("while working on: exchange 7")) >= 0);
	for (int i = 1; i < FAILURE_KINDS; i++)
		must(failure_infos[i].name && failure_infos[i].details[0]);
	must(failure_infos[FAILED_TIMEOUT].status == 504);
	return 0;
}

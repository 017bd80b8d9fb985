/* src/control/supervise.c */
#include "control/supervise.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 256, ADDRESS = 128, RESTART_MS = 50, SOON_MS = 1000, SLOW_MS = 1000 };

static struct {
	char address[ADDRESS];
	int fd;
} kept[KEPT];
static unsigned nkept;

static bool send_message(int channel, const char *address, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {(void *)(uintptr_t)address, strlen(address) + 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd >= 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof control.bytes;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	return sendmsg(channel, &m, MSG_NOSIGNAL) >= 0;
}

bool supervise_keep(int channel, const char *address, int fd)
{
	return channel >= 0 && send_message(channel, address, fd);
}

bool supervise_clear(int channel)
{
	return channel >= 0 && send_message(channel, "", -1);
}

static void receive(int channel)
{
	for (;;) {
		char address[ADDRESS];
		union {
			char bytes[CMSG_SPACE(sizeof(int))];
			struct cmsghdr align;
		} control;
		struct iovec iov = {address, sizeof address};
		struct msghdr m = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = control.bytes,
				   .msg_controllen = sizeof control.bytes};
		ssize_t n = recvmsg(channel, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n <= 0)
			return;
		address[sizeof address - 1] = 0;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		if (!address[0]) {
			while (nkept)
				close(kept[--nkept].fd);
			continue;
		}
		if (!c || c->cmsg_type != SCM_RIGHTS)
			continue;
		int fd;
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
		if (nkept == KEPT) {
			close(fd);
			continue;
		}
		memcpy(kept[nkept].address, address, sizeof address);
		kept[nkept++].fd = fd;
	}
}

static long now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&ts, NULL);
}

/* Until the child ends; its wait status. *stopping: we were told to stop. */
static int attend(pid_t child, int channel, int signals, bool *stopping)
{
	struct pollfd fds[2] = {{.fd = signals, .events = POLLIN},
				{.fd = channel, .events = POLLIN}};
	for (;;) {
		int status;
		if (poll(fds, 2, 1000) < 0 && errno != EINTR)
			sleep_ms(100);
		if (fds[1].revents & POLLIN)
			receive(channel);
		if (fds[1].revents & (POLLHUP | POLLERR))
			fds[1].fd = -1;
		struct signalfd_siginfo si;
		while (read(signals, &si, sizeof si) == sizeof si) {
			if (si.ssi_signo == SIGCHLD)
				continue;
			if (si.ssi_signo != SIGHUP)
				*stopping = true;
			kill(child, (int)si.ssi_signo);
		}
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
	}
}

int supervise(int *channel, bool (*inherit)(const char *address, int fd))
{
	sigset_t set, old;
	sigemptyset(&set);
	static const int passed[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1};
	for (unsigned i = 0; i < sizeof passed / sizeof *passed; i++)
		sigaddset(&set, passed[i]);
	sigprocmask(SIG_BLOCK, &set, &old);
	int signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	bool stopping = false;
	for (;;) {
		int pair[2];
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
			perror("postern: supervisor");
			return 1;
		}
		long began = now_ms();
		pid_t parent = getpid(), child = fork();
		if (child < 0) {
			perror("postern: fork");
			return 1;
		}
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			close(signals);
			close(pair[0]);
			sigprocmask(SIG_SETMASK, &old, NULL);
			for (unsigned i = 0; i < nkept; i++)
				inherit(kept[i].address, kept[i].fd);
			*channel = pair[1];
			return -1;
		}
		close(pair[1]);
		int status = attend(child, pair[0], signals, &stopping);
		receive(pair[0]);
		close(pair[0]);
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		if (stopping)
			return 128 + WTERMSIG(status);
		fprintf(stderr,
			"postern: the worker process died by signal %d (%s); starting it again\n",
			WTERMSIG(status), strsignal(WTERMSIG(status)));
		sleep_ms(now_ms() - began < SOON_MS ? SLOW_MS : RESTART_MS);
	}
}

/* src/filters/static/site_open.c: opens below a folder and nowhere else. */
#include "filters/static/site.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, TRIES = 8 };

/* For kernels (before 5.6) and sandboxes without openat2: folder by folder; no symbolic link is
 * followed. */
static int walk(int root, const char *name)
{
	int dir = root;
	for (;;) {
		const char *slash = strchr(name, '/');
		size_t n = slash ? (size_t)(slash - name) : strlen(name);
		char part[SITE_NAME + 1];
		int fd;
		if (n == 0 || n > SITE_NAME) {
			fd = -1;
			errno = ENAMETOOLONG;
		} else {
			memcpy(part, name, n);
			part[n] = 0;
			fd = openat(dir, part,
				    slash ? O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
					  : OPEN | O_NOFOLLOW);
		}
		if (dir != root) {
			int err = errno;
			close(dir);
			errno = err;
		}
		if (fd < 0 || !slash)
			return fd;
		dir = fd;
		name = slash + 1;
	}
}

int site_open(int root, const char *name)
{
	static atomic_bool missing;
	struct open_how how = {.flags = OPEN, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	if (!atomic_load_explicit(&missing, memory_order_relaxed)) {
		long fd;
		int tries = 0;
		do /* EAGAIN: something was renamed meanwhile */
			fd = syscall(SYS_openat2, root, name, &how, sizeof how);
		while (fd < 0 && (errno == EINTR || errno == EAGAIN) && ++tries < TRIES);
		if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
			return (int)fd;
		if (errno == ENOSYS)
			atomic_store_explicit(&missing, true, memory_order_relaxed);
	}
	return walk(root, name);
}

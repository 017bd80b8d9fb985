/* src/base/pressure.c */
#include "base/pressure.h"
#include "base/mem.h"
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Descriptors that accepting leaves to origin connections and files. */
enum { KEPT = 64 };

static unsigned percent(uint64_t have, uint64_t most)
{
	if (!most)
		return 0;
	return have >= most ? 100 : (unsigned)((double)have * 100 / (double)most);
}

static atomic_int counted;
static int others;
static pthread_once_t once = PTHREAD_ONCE_INIT;

void pressure_descriptors(int n)
{
	atomic_fetch_add_explicit(&counted, n, memory_order_relaxed);
}

static void count_others(void)
{
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		others++;
	if (d)
		closedir(d);
	others -= 3 + atomic_load_explicit(&counted, memory_order_relaxed); /* ".", "..", d */
	if (others < 0)
		others = 0;
}

static unsigned descriptors(void)
{
	struct rlimit r;
	pthread_once(&once, count_others);
	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY)
		return 0;
	int open = others + atomic_load_explicit(&counted, memory_order_relaxed);
	uint64_t have = open > 0 ? (uint64_t)open : 0, most = r.rlim_cur;
	uint64_t kept = most / 16 < KEPT ? most / 16 : KEPT;
	unsigned p = percent(have, most);
	return p < PRESSURE_DEAF && have + kept > most ? PRESSURE_DEAF : p;
}

struct pressure pressure_read(void)
{
	struct pressure p = {.heap_bytes = mem_live(), .heap_limit = mem_limit()};
	p.heap = percent(p.heap_bytes, p.heap_limit);
	p.descriptors = descriptors();
	return p;
}

/* A file that begins with a number; UINT64_MAX: none, or "max". */
static uint64_t number_in(const char *path)
{
	char text[32] = "";
	FILE *f = fopen(path, "re");
	if (!f)
		return UINT64_MAX;
	char *got = fgets(text, sizeof text, f), *end = text;
	fclose(f);
	unsigned long long n = got ? strtoull(text, &end, 10) : 0;
	return end > text ? n : UINT64_MAX;
}

/* The least of the limits of a group and those above it, "/a/b", "/a", "". */
static uint64_t group_limit(const char *root, char *group, const char *file)
{
	uint64_t least = UINT64_MAX;
	for (;;) {
		char path[PATH_MAX];
		int n = snprintf(path, sizeof path, "%s%s/%s", root, group, file);
		uint64_t most = n > 0 && (size_t)n < sizeof path ? number_in(path) : UINT64_MAX;
		if (most < least)
			least = most;
		char *slash = strrchr(group, '/');
		if (!slash)
			return least;
		*slash = 0;
	}
}

/* Lines "ID:CONTROLLERS:/GROUP"; version 2 is the one without controllers. */
static uint64_t cgroup_limit(void)
{
	char line[PATH_MAX];
	uint64_t least = UINT64_MAX;
	FILE *f = fopen("/proc/self/cgroup", "re");
	if (!f)
		return least;
	while (fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		*group++ = 0;
		controllers++;
		uint64_t most = UINT64_MAX;
		if (!*controllers)
			most = group_limit("/sys/fs/cgroup", group, "memory.max");
		else if (strcmp(controllers, "memory") == 0)
			most = group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
		if (most < least)
			least = most;
	}
	fclose(f);
	return least;
}

uint64_t pressure_heap_default(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t ram = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
	uint64_t group = cgroup_limit(), least = group < ram ? group : ram;
	return least == UINT64_MAX ? 0 : least / 4 * 3;
}

/* src/control/control.c */
#include "control/control.h"
#include "base/mem.h"
#include "obs/log.h"
#include "obs/stats.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A writer that replaces several files should be seen once: wait this long after the last
 * change. */
#define SETTLE_US 200000ull

struct watched_file {
	char *path;
	struct timespec mtime;
	off_t size;
	ino_t inode;
};
struct control {
	struct loop *loop;
	const struct config_source *src;
	const struct filter_type *const *types;
	struct control_hooks hooks;
	stat_id reloads, rejected;
	bool watch_files;
	struct watch inotify;
	struct timer settle;
	struct watched_file *files;
	unsigned nfiles;
};

static uint64_t generations;

/* Written by the main thread alone, read by the workers that serve admin pages. */
static struct {
	pthread_mutex_t lock;
	struct control_status now;
} status = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void forget_files(struct control *c)
{
	for (unsigned i = 0; i < c->nfiles; i++)
		mem_free(MEM_CONFIG, c->files[i].path);
	mem_free(MEM_CONFIG, c->files);
	c->files = NULL;
	c->nfiles = 0;
}

static void stamp(struct watched_file *f)
{
	struct stat st;
	if (stat(f->path, &st)) {
		memset(&st, 0, sizeof st);
	}
	f->mtime = st.st_mtim;
	f->size = st.st_size;
	f->inode = st.st_ino;
}

/* Directories are watched, not files: editors and ConfigMaps replace files by renaming. */
static void watch_directory(struct control *c, const char *path)
{
	char dir[4096];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	if (n >= sizeof dir)
		return;
	memcpy(dir, path, n);
	dir[n] = 0;
	if (!slash)
		strcpy(dir, ".");
	else if (n == 0)
		strcpy(dir, "/");
	inotify_add_watch(c->inotify.fd, dir,
			  IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE | IN_CREATE | IN_ONLYDIR);
}

static void remember_files(struct control *c, const struct model *m)
{
	forget_files(c);
	if (!c->watch_files || c->inotify.fd < 0 || m->nwatched == 0)
		return;
	c->files = mem_zalloc(MEM_CONFIG, m->nwatched * sizeof *c->files);
	if (!c->files)
		return;
	for (unsigned i = 0; i < m->nwatched; i++) {
		char *path = mem_strndup(MEM_CONFIG, m->watched[i].p, m->watched[i].n);
		if (!path)
			continue;
		c->files[c->nfiles].path = path;
		stamp(&c->files[c->nfiles]);
		watch_directory(c, path);
		c->nfiles++;
	}
}

static bool files_changed(const struct control *c)
{
	for (unsigned i = 0; i < c->nfiles; i++) {
		struct watched_file now = {.path = c->files[i].path};
		stamp(&now);
		const struct watched_file *old = &c->files[i];
		if (now.size != old->size || now.inode != old->inode ||
		    now.mtime.tv_sec != old->mtime.tv_sec ||
		    now.mtime.tv_nsec != old->mtime.tv_nsec)
			return true;
	}
	return false;
}

static void settled(struct timer *t)
{
	struct control *c = (struct control *)((char *)t - offsetof(struct control, settle));
	if (files_changed(c))
		control_reload(c);
}

static void notified(struct watch *w, unsigned events)
{
	struct control *c = (struct control *)((char *)w - offsetof(struct control, inotify));
	char b[4096];
	while (read(w->fd, b, sizeof b) > 0)
		;
	timer_arm(c->loop, &c->settle, SETTLE_US);
}

static struct model *compile(struct control *c, struct diags *d)
{
	struct model *m = config_compile(c->src, c->types, d);
	if (!m)
		return NULL;
	m->generation = ++generations;
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	m->loaded_at_ms = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	if (c->hooks.prepare(c->hooks.arg, m, d))
		return m;
	model_unref(m);
	return NULL;
}

static void status_published(uint64_t generation)
{
	pthread_mutex_lock(&status.lock);
	status.now.generation = generation;
	pthread_mutex_unlock(&status.lock);
}

/* After a reload; error "": it went well. */
static void status_reloaded(const char *error)
{
	pthread_mutex_lock(&status.lock);
	if (*error)
		status.now.rejected++;
	else
		status.now.reloads++;
	snprintf(status.now.error, sizeof status.now.error, "%s", error);
	pthread_mutex_unlock(&status.lock);
}

static void publish(struct control *c, struct model *m)
{
	status_published(m->generation);
	remember_files(c, m);
	c->hooks.publish(c->hooks.arg, m);
}

static void log_diags(const struct diags *d)
{
	char *text = NULL, *line, *rest;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	if (!f)
		return;
	diags_print(d, f);
	fclose(f);
	for (line = text ? strtok_r(text, "\n", &rest) : NULL; line;
	     line = strtok_r(NULL, "\n", &rest))
		log_line(LOG_CONFIG, strstr(line, ": error: ") ? LOG_ERROR : LOG_WARNING, "%s",
			 line);
	free(text);
}

bool control_reload(struct control *c)
{
	struct diags d;
	diags_init(&d);
	struct model *m = compile(c, &d);
	log_diags(&d);
	if (m) {
		status_reloaded("");
		stat_add(c->reloads, 1);
		log_line(LOG_CONFIG, LOG_INFO, "configuration %llu is in force",
			 (unsigned long long)m->generation);
		publish(c, m);
	} else {
		char error[sizeof status.now.error] = "no memory";
		stat_add(c->rejected, 1);
		const struct diag *first = d.first;
		while (first && first->level != DIAG_ERROR)
			first = first->next;
		if (first)
			snprintf(error, sizeof error, "%s:%u:%u: %.*s",
				 first->at.file ? first->at.file : "", first->at.line,
				 first->at.column, STR_ARG(first->text));
		status_reloaded(error);
		log_line(LOG_CONFIG, LOG_ERROR, "configuration rejected, the old one stays: %s",
			 error);
		for (unsigned i = 0; i < c->nfiles; i++)
			stamp(&c->files[i]); /* not again for the same mistake */
	}
	diags_fini(&d);
	return m != NULL;
}

struct control *control_start(struct loop *l, const struct config_source *src,
			      const struct filter_type *const *types,
			      const struct control_hooks *hooks, bool watch_files, struct diags *d)
{
	struct control *c = mem_zalloc(MEM_CONFIG, sizeof *c);
	if (!c)
		return NULL;
	c->loop = l;
	c->src = src;
	c->types = types;
	c->hooks = *hooks;
	c->watch_files = watch_files;
	c->settle.fire = settled;
	c->inotify.ready = notified;
	c->inotify.fd = -1;
	c->reloads = stat_register(STAT_COUNTER, STR("postern.reload.success"));
	c->rejected = stat_register(STAT_COUNTER, STR("postern.reload.rejected"));
	if (watch_files) {
		int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (fd < 0)
			log_line(LOG_CONFIG, LOG_WARNING, "files are not watched: %s",
				 strerror(errno));
		else if (!watch_add(l, &c->inotify, fd, WATCH_READ))
			close(fd);
		else
			c->inotify.fd = fd;
	}
	struct model *m = compile(c, d);
	if (!m) {
		control_stop(c);
		return NULL;
	}
	publish(c, m);
	return c;
}

void control_status(struct control_status *out)
{
	pthread_mutex_lock(&status.lock);
	*out = status.now;
	pthread_mutex_unlock(&status.lock);
}

void control_stop(struct control *c)
{
	if (!c)
		return;
	timer_cancel(c->loop, &c->settle);
	if (c->inotify.fd >= 0) {
		watch_del(c->loop, &c->inotify);
		close(c->inotify.fd);
	}
	forget_files(c);
	mem_free(MEM_CONFIG, c);
}

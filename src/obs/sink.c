/* src/obs/sink.c */
#include "obs/sink.h"
#include "base/mem.h"
#include "base/must.h"
#include "obs/log.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROOM = 64 * 1024, SINKS = 1024 };

enum form {
	FORM_FILE,  /* one write, however much */
	FORM_PIPE,  /* writes of whole lines up to PIPE_BUF: no other thread's line gets between */
	FORM_SOCKET /* as a pipe, by send() */
};

struct sink {
	char *path;
	int fd;
	enum form form;
	bool poll; /* fd's open file is shared with others and may be blocking: ask before writing */
	unsigned users, buffers; /* atomic; changed under lock */
	unsigned number;         /* in table, and in every thread's list of buffers */
};

struct buffer {
	struct sink *sink; /* counted in sink->buffers */
	size_t n;
	bool begun; /* the last byte written was not a line's end */
	char data[ROOM];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static struct sink *table[SINKS];
static uint64_t dropped; /* atomic; lines */

static _Thread_local struct {
	struct buffer **at; /* by sink->number */
	unsigned n;
} mine;

static void forget_thread(void *unused);

static void start(void)
{
	must(pthread_key_create(&key, forget_thread) == 0);
}

/* Opening */

static bool is_standard(const char *path, int *fd)
{
	*fd = strcmp(path, "/dev/stdout") == 0   ? STDOUT_FILENO
	      : strcmp(path, "/dev/stderr") == 0 ? STDERR_FILENO
						 : -1;
	return *fd >= 0;
}

static bool open_fd(struct sink *s)
{
	const int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int standard;
	struct stat st;
	s->poll = false;
	if (is_standard(s->path, &standard)) {
		/* Opened anew a pipe is ours alone to make non-blocking. Not a file: its place in it is
		 * shared with those who write there too. A socket cannot be opened, nor what another
		 * user owns. */
		s->fd = fstat(standard, &st) || S_ISREG(st.st_mode) ? -1 : open(s->path, flags);
		if (s->fd < 0) {
			s->fd = fcntl(standard, F_DUPFD_CLOEXEC, 3);
			s->poll = true;
		}
	} else {
		s->fd = open(s->path, flags | O_CREAT, 0644);
	}
	if (s->fd < 0)
		return false;
	s->form = FORM_PIPE;
	if (fstat(s->fd, &st) == 0)
		s->form = S_ISREG(st.st_mode)    ? FORM_FILE
			  : S_ISSOCK(st.st_mode) ? FORM_SOCKET
						 : FORM_PIPE;
	return true;
}

static struct sink *sink_new(const char *path, unsigned number)
{
	struct sink *s = mem_zalloc(MEM_OBS, sizeof *s);
	if (!s || !(s->path = mem_strndup(MEM_OBS, path, strlen(path)))) {
		mem_free(MEM_OBS, s);
		errno = ENOMEM;
		return NULL;
	}
	if (!open_fd(s)) {
		int err = errno;
		mem_free(MEM_OBS, s->path);
		mem_free(MEM_OBS, s);
		errno = err;
		return NULL;
	}
	s->number = number;
	return s;
}

struct sink *sink_open(const char *path)
{
	unsigned unused = SINKS;
	struct sink *s = NULL;
	pthread_once(&once, start);
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < SINKS && !s; i++) {
		if (table[i] && strcmp(table[i]->path, path) == 0)
			s = table[i];
		else if (!table[i] && unused == SINKS)
			unused = i;
	}
	if (!s && unused == SINKS)
		errno = EMFILE;
	else if (!s && (s = sink_new(path, unused)))
		table[unused] = s;
	if (s)
		s->users++;
	pthread_mutex_unlock(&lock);
	return s;
}

struct sink *sink_ref(struct sink *s)
{
	pthread_mutex_lock(&lock);
	s->users++;
	pthread_mutex_unlock(&lock);
	return s;
}

/* Lock held. */
static void free_if_unused(struct sink *s)
{
	if (s->users || s->buffers)
		return;
	table[s->number] = NULL;
	close(s->fd);
	mem_free(MEM_OBS, s->path);
	mem_free(MEM_OBS, s);
}

void sink_unref(struct sink *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&lock);
	must(s->users > 0);
	s->users--;
	free_if_unused(s);
	pthread_mutex_unlock(&lock);
}

void sink_reopen_all(void)
{
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < SINKS; i++) {
		struct sink *s = table[i];
		int standard, fd;
		if (!s || is_standard(s->path, &standard) || s->form != FORM_FILE)
			continue;
		fd = open(s->path,
			  O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_CREAT, 0644);
		/* Over the old descriptor: writers in other threads never see a closed one. */
		if (fd < 0 || dup3(fd, s->fd, O_CLOEXEC) < 0)
			log_line(LOG_MAIN, LOG_ERROR, "cannot reopen %s: %s", s->path,
				 strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	pthread_mutex_unlock(&lock);
}

uint64_t sink_dropped(void)
{
	return __atomic_load_n(&dropped, __ATOMIC_RELAXED);
}

/* Writing */

static ssize_t put_some(const struct sink *s, const char *p, size_t n)
{
	struct pollfd ask = {.fd = s->fd, .events = POLLOUT};
	if (s->form == FORM_SOCKET)
		return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (s->poll && s->form == FORM_PIPE &&
	    (poll(&ask, 1, 0) != 1 || !(ask.revents & POLLOUT))) {
		errno = EAGAIN;
		return -1;
	}
	return write(s->fd, p, n);
}

static size_t lines_in(const char *p, size_t n)
{
	size_t lines = 0;
	for (const char *end = p + n; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
		lines++;
	return lines;
}

/* How much of [p, p + n) to write at once: whole lines. */
static size_t portion(const struct sink *s, const char *p, size_t n)
{
	if (s->form == FORM_FILE || n <= PIPE_BUF)
		return n;
	size_t k = PIPE_BUF;
	while (k && p[k - 1] != '\n')
		k--;
	if (k)
		return k;
	const char *end = memchr(p, '\n', n); /* a line longer than that */
	return end ? (size_t)(end - p) + 1 : n;
}

/* Drops what is left and counts it. A line already begun is ended before the next one. */
static void drop(struct buffer *b, size_t from)
{
	size_t lines = lines_in(b->data + from, b->n - from);
	__atomic_add_fetch(&dropped, lines, __ATOMIC_RELAXED);
	b->n = b->begun;
	b->data[0] = '\n';
}

/* must_empty: what cannot be written now is dropped, else it may wait. */
static void write_out(struct buffer *b, bool must_empty)
{
	const struct sink *s = b->sink;
	size_t at = 0;
	while (at < b->n) {
		ssize_t did = put_some(s, b->data + at, portion(s, b->data + at, b->n - at));
		if (did < 0 && errno == EINTR)
			continue;
		if (did > 0) {
			at += (size_t)did;
			b->begun = b->data[at - 1] != '\n';
			continue;
		}
		if (must_empty || did == 0 || errno != EAGAIN) {
			drop(b, at);
			return;
		}
		memmove(b->data, b->data + at, b->n - at);
		b->n -= at;
		return;
	}
	b->n = 0;
}

/* A thread's buffers */

static struct buffer *buffer_new(struct sink *s)
{
	if (s->number >= mine.n) {
		unsigned n = s->number + 8;
		struct buffer **at = mem_realloc(MEM_OBS, mine.at, n * sizeof(struct buffer *));
		if (!at)
			return NULL;
		memset(at + mine.n, 0, (n - mine.n) * sizeof(struct buffer *));
		mine.at = at;
		mine.n = n;
		pthread_setspecific(key, at); /* any value: calls forget_thread at the end */
	}
	struct buffer *b = mem_alloc(MEM_OBS, sizeof *b);
	if (!b)
		return NULL;
	b->sink = s;
	b->n = 0;
	b->begun = false;
	mine.at[s->number] = b;
	pthread_mutex_lock(&lock);
	s->buffers++;
	pthread_mutex_unlock(&lock);
	return b;
}

static void buffer_free(struct buffer *b)
{
	struct sink *s = b->sink;
	mine.at[s->number] = NULL;
	mem_free(MEM_OBS, b);
	pthread_mutex_lock(&lock);
	s->buffers--;
	free_if_unused(s);
	pthread_mutex_unlock(&lock);
}

static struct buffer *buffer_of(struct sink *s)
{
	struct buffer *b = s->number < mine.n ? mine.at[s->number] : NULL;
	return __builtin_expect(b != NULL, 1) ? b : buffer_new(s);
}

char *sink_room(struct sink *s, size_t n)
{
	struct buffer *b = buffer_of(s);
	if (!b || n > ROOM)
		return NULL;
	if (n > ROOM - b->n) {
		write_out(b, true);
		if (n > ROOM - b->n)
			return NULL; /* the end of a broken line takes one byte */
	}
	return b->data + b->n;
}

void sink_commit(struct sink *s, size_t n)
{
	struct buffer *b = buffer_of(s);
	must(b && n <= ROOM - b->n);
	b->n += n;
}

void sink_write(struct sink *s, struct str line)
{
	char *to = sink_room(s, line.n);
	if (!to) {
		__atomic_add_fetch(&dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	if (line.n)
		memcpy(to, line.p, line.n);
	sink_commit(s, line.n);
}

void sink_flush_thread(void)
{
	log_settle();
	for (unsigned i = 0; i < mine.n; i++) {
		struct buffer *b = mine.at[i];
		if (!b)
			continue;
		bool used = __atomic_load_n(&b->sink->users, __ATOMIC_RELAXED) != 0;
		if (b->n)
			write_out(b, !used);
		if (!used)
			buffer_free(b);
	}
}

static void forget_thread(void *unused)
{
	for (unsigned i = 0; i < mine.n; i++) {
		struct buffer *b = mine.at[i];
		if (!b)
			continue;
		write_out(b, true);
		buffer_free(b);
	}
	mem_free(MEM_OBS, mine.at);
	mine.at = NULL;
	mine.n = 0;
}

/* src/obs/log.c */
#include "obs/log.h"
#include "base/hash.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE = 4096,     /* a formatted line; longer ones are cut */
	PER_SECOND = 10, /* lines of one site */
	SITES = 64,      /* remembered per thread */
	HEAD = 128,      /* "[time][thread][level][component] " */
};

unsigned char log_levels[LOG_PARTS] = {LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO,
				       LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO, LOG_INFO};

static const char *const level_names[] = {"trace", "debug",    "info", "warning",
					  "error", "critical", "off"};
static const char *const part_names[LOG_PARTS] = {"main",   "config",   "connection", "http",
						  "router", "upstream", "lua",        "admin",
						  "filter", "runtime"};

static struct {
	pthread_mutex_t lock; /* of what may be a pipe: between asking for room and writing */
	int fd;
	char *path;       /* NULL: standard error */
	bool known, file; /* file: no need to ask for room */
	bool cut;         /* the last line broke off: begin the next with a line end */
	uint64_t dropped; /* atomic */
} out = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

/* Names */

int log_level_of(struct str name)
{
	if (str_ieq(name, STR("warn")))
		return LOG_WARNING;
	if (str_ieq(name, STR("err")))
		return LOG_ERROR;
	for (int i = 0; i <= LOG_OFF; i++)
		if (str_ieq(name, str_of(level_names[i])))
			return i;
	return -1;
}

const char *log_level_name(enum log_level l)
{
	return level_names[l];
}

int log_part_of(struct str name)
{
	for (int i = 0; i < LOG_PARTS; i++)
		if (str_eq(name, str_of(part_names[i])))
			return i;
	return -1;
}

const char *log_part_name(enum log_part p)
{
	return part_names[p];
}

void log_set_level(enum log_level l)
{
	for (int i = 0; i < LOG_PARTS; i++)
		log_levels[i] = (unsigned char)l;
}

/* The file */

static void look_at(int fd)
{
	struct stat st;
	out.file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	out.known = true;
	out.cut = false;
}

static int open_log(const char *path)
{
	/* Not opened anew: one who writes to the same file shares the place in it. */
	if (strcmp(path, "/dev/stderr") == 0 || strcmp(path, "/dev/stdout") == 0)
		return fcntl(path[8] == 'e' ? STDERR_FILENO : STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
}

bool log_open(const char *path)
{
	char *copy = mem_strndup(MEM_OBS, path, strlen(path));
	if (!copy) {
		errno = ENOMEM;
		return false;
	}
	int fd = open_log(path);
	if (fd < 0) {
		int err = errno;
		mem_free(MEM_OBS, copy);
		errno = err;
		return false;
	}
	pthread_mutex_lock(&out.lock);
	if (out.path) {
		close(out.fd);
		mem_free(MEM_OBS, out.path);
	}
	out.fd = fd;
	out.path = copy;
	look_at(fd);
	pthread_mutex_unlock(&out.lock);
	return true;
}

bool log_reopen(void)
{
	bool ok = true;
	pthread_mutex_lock(&out.lock);
	if (out.path) {
		int fd = open_log(out.path);
		ok = fd >= 0;
		if (ok) {
			close(out.fd);
			out.fd = fd;
			look_at(fd);
		}
	}
	pthread_mutex_unlock(&out.lock);
	return ok;
}

/* Writing: lock held */

static bool room(void)
{
	struct pollfd p = {.fd = out.fd, .events = POLLOUT};
	return out.file || (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT));
}

/* False: not all of it went out. A pipe with room for a byte has room for PIPE_BUF. */
static bool put_all(const char *p, size_t n)
{
	bool begun = false;
	while (n) {
		size_t some = out.file || n < PIPE_BUF ? n : PIPE_BUF;
		if (!room())
			break;
		ssize_t did = write(out.fd, p, some);
		if (did < 0 && errno == EINTR)
			continue;
		if (did <= 0)
			break;
		begun = true;
		p += did;
		n -= (size_t)did;
	}
	if (begun)
		out.cut = n != 0;
	return n == 0;
}

static void put_line(const char *p, size_t n)
{
	pthread_mutex_lock(&out.lock);
	if (!out.known)
		look_at(out.fd);
	bool ok = !out.cut || put_all("\n", 1);
	if (!ok || !put_all(p, n))
		__atomic_add_fetch(&out.dropped, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&out.lock);
}

uint64_t log_dropped(void)
{
	return __atomic_load_n(&out.dropped, __ATOMIC_RELAXED);
}

static int thread_number(void)
{
	static _Thread_local int number;
	if (!number)
		number = (int)syscall(SYS_gettid);
	return number;
}

/* At most HEAD bytes. The date, in local time as Envoy's, is made anew once a second. */
static size_t put_head(char *to, enum log_part part, enum log_level level)
{
	static _Thread_local struct {
		time_t second;
		char text[40];
	} date;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != date.second || !date.text[0]) {
		struct tm tm;
		localtime_r(&now.tv_sec, &tm);
		strftime(date.text, sizeof date.text, "%Y-%m-%d %H:%M:%S", &tm);
		date.second = now.tv_sec;
	}
	int n = snprintf(to, HEAD, "[%s.%03d][%d][%s][%s] ", date.text,
			 (int)(now.tv_nsec / 1000000), thread_number(), level_names[level],
			 part_names[part]);
	return n > 0 && n < HEAD ? (size_t)n : 0;
}

static bool is_control(char ch)
{
	return (unsigned char)ch < 0x20 || ch == 0x7f;
}

static char *put_hex(char *to, char ch)
{
	static const char digits[] = "0123456789abcdef";
	to[0] = '\\';
	to[1] = 'x';
	to[2] = digits[(unsigned char)ch >> 4];
	to[3] = digits[ch & 15];
	return to + 4;
}

static size_t written_size(struct str s)
{
	size_t n = s.n;
	for (size_t i = 0; i < s.n; i++)
		n += is_control(s.p[i]) ? 3 : 0;
	return n;
}

/* As much of s as fits before end. */
static char *put_text(char *to, const char *end, struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (end - to < 4)
			break;
		if (is_control(s.p[i]))
			to = put_hex(to, s.p[i]);
		else
			*to++ = s.p[i];
	}
	return to;
}

void log_text(enum log_part part, enum log_level level, struct str prefix, struct str text)
{
	char small[HEAD + LINE + 8], *line = small;
	if (!log_on(part, level))
		return;
	size_t size = HEAD + written_size(prefix) + written_size(text) + 8;
	if (size > sizeof small && !(line = mem_alloc(MEM_OBS, size))) {
		line = small; /* what fits is better than nothing */
		size = sizeof small;
	}
	const char *end = line + size - 1;
	char *to = line + put_head(line, part, level);
	to = put_text(to, end, prefix);
	to = put_text(to, end, text);
	*to++ = '\n';
	put_line(line, (size_t)(to - line));
	if (line != small)
		mem_free(MEM_OBS, line);
}

static __attribute__((format(printf, 3, 0))) void log_va(enum log_part part, enum log_level level,
							 const char *fmt, va_list ap)
{
	char text[LINE];
	int n = vsnprintf(text, sizeof text, fmt, ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof text) {
		n = sizeof text - 1;
		memcpy(text + n - 3, "...", 3);
	}
	log_text(part, level, STR(""), (struct str){text, (size_t)n});
}

void log_line_(enum log_part part, enum log_level level, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	log_va(part, level, fmt, ap);
	va_end(ap);
}

/* The rate limit */

struct site {
	uint64_t hash; /* of part and what; 0: free */
	time_t second;
	unsigned lines, suppressed;
	unsigned char part, level;
	char what[96];
};
static _Thread_local struct site sites[SITES];
static _Thread_local unsigned sites_waiting; /* with suppressed > 0 */

static time_t seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return now.tv_sec;
}

static void tell_suppressed(struct site *s)
{
	if (!s->suppressed)
		return;
	unsigned n = s->suppressed;
	s->suppressed = 0;
	sites_waiting--;
	log_line(s->part, s->level, "%s: %u suppressed", s->what, n);
}

/* Its own entry, else a free one, else the oldest of the four it may have. */
static struct site *site_of(enum log_part part, const char *what)
{
	uint64_t hash = (hash_bytes(what, strlen(what)) + part) | 1;
	struct site *best = NULL;
	for (unsigned i = 0; i < 4; i++) {
		struct site *s = &sites[(hash + i * 2) / 2 % SITES];
		if (s->hash == hash)
			return s;
		if (!best || (best->hash && (!s->hash || s->second < best->second)))
			best = s;
	}
	tell_suppressed(best);
	*best = (struct site){.hash = hash, .part = (unsigned char)part};
	snprintf(best->what, sizeof best->what, "%s", what);
	return best;
}

void log_limited_(enum log_part part, enum log_level level, const char *what, const char *fmt, ...)
{
	struct site *s = site_of(part, what);
	time_t now = seconds();
	if (s->second != now) {
		tell_suppressed(s);
		s->second = now;
		s->lines = 0;
	}
	s->level = (unsigned char)level;
	if (s->lines >= PER_SECOND) {
		sites_waiting += s->suppressed == 0;
		s->suppressed++;
		return;
	}
	s->lines++;
	va_list ap;
	va_start(ap, fmt);
	log_va(part, level, fmt, ap);
	va_end(ap);
}

void log_settle(void)
{
	if (!sites_waiting)
		return;
	time_t now = seconds();
	for (int i = 0; i < SITES; i++)
		if (sites[i].second != now)
			tell_suppressed(&sites[i]);
}

const char *log_quote(char *to, size_t cap, struct str s)
{
	char *at = to;
	const char *end = to + cap;
	if (cap == 0)
		return "";
	for (size_t i = 0; i < s.n && i < 256; i++) {
		char ch = s.p[i];
		bool plain = ch >= 0x20 && ch <= 0x7e && ch != '"' && ch != '\\';
		if (end - at < (plain ? 2 : 5))
			break;
		if (plain)
			*at++ = ch;
		else
			at = put_hex(at, ch);
	}
	*at = 0;
	return to;
}

/* src/obs/log_test.c: what the log says, and what it does when nobody reads. */
#include "base/must.h"
#include "obs/log.h"
#include "obs/sink.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/postern-log-XXXXXX";
static char text[1 << 20];

static const char *path_of(const char *name)
{
	static char path[4][200];
	static int i;
	i = (i + 1) % 4;
	snprintf(path[i], sizeof path[i], "%s/%s", folder, name);
	return path[i];
}

static struct str content(const char *name)
{
	FILE *f = fopen(path_of(name), "r");
	size_t n = f ? fread(text, 1, sizeof text, f) : 0;
	if (f)
		fclose(f);
	return (struct str){text, n};
}

static size_t count(struct str s, const char *what)
{
	size_t n = 0;
	ptrdiff_t at;
	while ((at = str_find(s, str_of(what))) >= 0) {
		n++;
		s = str_from(s, (size_t)at + 1);
	}
	return n;
}

static void lines(void)
{
	char big[20000];
	must(!log_open("/nonexistent/x"));
	must(log_open(path_of("a.log")));
	log_line(LOG_UPSTREAM, LOG_WARNING, "one %d\nforged\x7f", 1);
	log_line(LOG_MAIN, LOG_DEBUG, "not shown");
	struct str s = content("a.log");
	/* [2026-11-24 06:49:46.123][12345][warning][upstream] one 1\x0aforged\x7f */
	must(s.n > 60 && s.p[0] == '[' && s.p[5] == '-' && s.p[11] == ' ' && s.p[20] == '.');
	must(count(s, "][warning][upstream] one 1\\x0aforged\\x7f\n") == 1);
	must(count(s, "\n") == 1);

	memset(big, 'x', sizeof big);
	log_line(LOG_MAIN, LOG_INFO, "%.*s", (int)sizeof big, big); /* cut */
	s = content("a.log");
	must(count(s, "\n") == 2 && s.n < 5000 && str_ends(s, STR("x...\n")));
	log_text(LOG_LUA, LOG_INFO, STR("script log: "), (struct str){big, sizeof big}); /* not */
	s = content("a.log");
	must(count(s, "script log: xxx") == 1 && s.n > 20000);
	log_set_level(LOG_OFF);
	log_text(LOG_LUA, LOG_CRITICAL, STR(""), STR("no"));
	log_set_level(LOG_TRACE);
	must(log_on(LOG_HTTP, LOG_TRACE));
	log_set_level(LOG_INFO);

	must(rename(path_of("a.log"), path_of("b.log")) == 0);
	must(log_reopen());
	log_line(LOG_MAIN, LOG_INFO, "after");
	must(count(content("a.log"), "after") == 1 && count(content("b.log"), "after") == 0);
}

static void names(void)
{
	must(log_level_of(STR("warn")) == LOG_WARNING && log_level_of(STR("error")) == LOG_ERROR);
	must(log_level_of(STR("err")) == LOG_ERROR && log_level_of(STR("off")) == LOG_OFF);
	must(log_level_of(STR("loud")) == -1 && log_part_of(STR("x")) == -1);
	for (int i = 0; i < LOG_PARTS; i++)
		must(log_part_of(str_of(log_part_name(i))) == i);
	for (int i = 0; i <= LOG_OFF; i++)
		must(log_level_of(str_of(log_level_name(i))) == i);
}

static void quotes(void)
{
	char out[64];
	must(str_eq(str_of(log_quote(out, sizeof out, STR("a\"b\\c\r\xff"))),
		    STR("a\\x22b\\x5cc\\x0d\\xff")));
	must(str_eq(str_of(log_quote(out, 6, STR("a\"b"))), STR("a\\x22")));
	must(str_eq(str_of(log_quote(out, 5, STR("a\"b"))), STR("a")));
	must(log_quote(out, 1, STR("a"))[0] == 0);
	char big[1000], all[1100];
	memset(big, 'y', sizeof big);
	must(strlen(log_quote(all, sizeof all, (struct str){big, sizeof big})) == 256);
}

static void limited(void)
{
	struct str s;
	must(log_open(path_of("limited.log")));
	for (int i = 0; i < 1000; i++) {
		log_limited(LOG_HTTP, LOG_WARNING, "detail_one", "detail_one %d", i);
		log_limited(LOG_HTTP, LOG_WARNING, "detail_two", "detail_two %d", i);
	}
	s = content("limited.log");
	size_t one = count(s, "detail_one"), two = count(s, "detail_two");
	must(one >= 10 && one <= 21 && two >= 10 && two <= 21); /* the second may turn once */
	/* Waits for the next second: the limit has no other clock. */
	for (int i = 0; i < 300 && count(content("limited.log"), "detail_one: 9") == 0; i++) {
		usleep(10000);
		sink_flush_thread();
	}
	s = content("limited.log");
	must(count(s, "[http] detail_one: ") >= 1 && count(s, " suppressed\n") >= 2);
	/* More sites than are remembered: still nothing is lost silently or overruns. */
	for (int i = 0; i < 500; i++) {
		char what[200];
		snprintf(what, sizeof what, "%d%0150d", i, 0);
		log_limited(LOG_HTTP, LOG_WARNING, what, "site %d", i);
	}
	must(count(content("limited.log"), "] site ") == 500);
}

static void never_blocks(void)
{
	int ends[2], err = dup(STDERR_FILENO);
	must(pipe(ends) == 0); /* blocking, and nobody reads */
	dup2(ends[1], STDERR_FILENO);
	must(log_open("/dev/stderr"));
	uint64_t before = log_dropped();
	for (int i = 0; i < 3000; i++)
		log_line(LOG_MAIN, LOG_INFO, "line %d with some text so that the pipe fills up", i);
	uint64_t lost = log_dropped() - before;
	dup2(err, STDERR_FILENO);
	must(lost > 0 && lost < 3000);
	must(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
	size_t n = 0;
	for (ssize_t got; (got = read(ends[0], text + n, sizeof text - n)) > 0;)
		n += (size_t)got;
	must(count((struct str){text, n}, "\n") + lost == 3000);
	close(ends[0]);
	log_line(LOG_MAIN, LOG_INFO, "nobody is there");
	must(log_dropped() - before == lost + 1);
	close(ends[1]);
	close(err);
}

static void sinks(void)
{
	struct sink *a = sink_open(path_of("access.log")), *b = sink_open(path_of("access.log"));
	must(a && a == b);
	must(!sink_open("/nonexistent/x") && errno == ENOENT);
	for (int i = 0; i < 20000; i++) {
		char *p = sink_room(a, 40);
		must(p);
		sink_commit(a, (size_t)snprintf(p, 40, "line %d\n", i));
	}
	must(!sink_room(a, 100000));
	sink_flush_thread();
	must(count(content("access.log"), "\n") == 20000);
	must(rename(path_of("access.log"), path_of("access.1")) == 0);
	sink_write(a, STR("later\n"));
	sink_reopen_all();
	sink_flush_thread();
	must(str_eq(content("access.log"), STR("later\n")));
	sink_write(a, STR("last\n"));
	sink_unref(a);
	sink_unref(b); /* the line still waits: the buffer holds the sink */
	sink_flush_thread();
	must(str_eq(content("access.log"), STR("later\nlast\n")));
	a = sink_open(path_of("access.log"));
	must(sink_ref(a) == a);
	sink_unref(a);
	sink_unref(a);
}

static void *write_lines(void *arg)
{
	for (int i = 0; i < 5000; i++)
		sink_write(arg, STR("0123456789 0123456789 0123456789 0123456789\n"));
	return NULL; /* what is left is written when the thread ends */
}

static void sinks_of_threads(void)
{
	struct sink *s = sink_open(path_of("shared.log"));
	pthread_t t[3];
	for (int i = 0; i < 3; i++)
		must(pthread_create(&t[i], NULL, write_lines, s) == 0);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	sink_unref(s);
	struct str all = content("shared.log"), line;
	for (int i = 0; i < 15000; i++) {
		must(str_cut(all, '\n', &line, &all));
		must(line.n == 43 && line.p[0] == '0');
	}
	must(all.n == 0);
}

/* A pipe that is full: whole lines are lost, and what came through is whole. */
static void sink_never_blocks(void)
{
	must(mkfifo(path_of("fifo"), 0600) == 0);
	int end = open(path_of("fifo"), O_RDONLY | O_NONBLOCK);
	struct sink *s = sink_open(path_of("fifo"));
	must(s && end >= 0);
	static char longer[9000];
	memset(longer, 'L', sizeof longer);
	longer[sizeof longer - 1] = '\n';
	uint64_t before = sink_dropped();
	size_t n = 0;
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 400; i++)
			sink_write(s, i % 50 ? STR("0123456789 0123456789 0123456789 0123456789\n")
					     : (struct str){longer, sizeof longer});
		for (ssize_t got = 1; round % 5 == 4 && got > 0;) { /* the reader wakes up */
			got = read(end, text + n, sizeof text - n);
			n += got > 0 ? (size_t)got : 0;
			sink_flush_thread();
		}
	}
	struct str all = {text, n}, line;
	while (str_cut(all, '\n', &line, &all)) {
		bool whole = line.n == (line.p[0] == 'L' ? sizeof longer - 1 : 43);
		must(whole || line.p[0] == 'L');
		must(line.p[0] == '0' || !memchr(line.p, '0', line.n)); /* never two in one */
	}
	must(n > 100000);
	must(sink_dropped() > before);
	sink_unref(s);
	sink_flush_thread();
	close(end);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	must(mkdtemp(folder));
	names();
	quotes();
	lines();
	limited();
	sinks();
	sinks_of_threads();
	sink_never_blocks();
	never_blocks();
	static const char *const files[] = {"a.log",    "b.log",      "limited.log", "access.log",
					    "access.1", "shared.log", "fifo"};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		unlink(path_of(files[i]));
	must(rmdir(folder) == 0);
	return 0;
}

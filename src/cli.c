/* src/cli.c */
#include "cli.h"
#include "obs/log.h"
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADMIN_DEFAULT "127.0.0.1:9901"
enum { OPT_FIRST = 1000, ADMIN_PORT = 9901 };

/* What to do with an option of Envoy's. */
enum treat {
	USED,  /* handled in take() */
	QUIET, /* true of postern anyway, or without effect on anybody */
	NOTICE /* accepted without meaning here: said once */
};
struct option_row {
	const char *name;
	bool arg;
	enum treat treat;
	const char *help; /* shown by --help; NULL: one of Envoy's that changes nothing here */
};
/* All options of Envoy 1.40, and ours. */
static const struct option_row rows[] = {
	{"config-path", true, USED,
	 "-c, --config-path FILE        Envoy v3 bootstrap, YAML or JSON"},
	{"config-yaml", true, USED, "    --config-yaml TEXT        merged over the file"},
	{"static", true, USED,
	 "    --static URL|FOLDER       the primary: an S3 website endpoint, or a folder"},
	{"primary", true, USED,
	 "    --primary URL             the primary: a dynamic origin, asked first whatever the "
	 "method"},
	{"fallback", true, USED,
	 "    --fallback URL            asked for what the primary lacks; "
	 "https://NAME@ADDRESS:PORT; may be repeated"},
	{"fallback-ca", true, USED,
	 "    --fallback-ca FILE        verifies it (default: the system's)"},
	{"override", true, USED,
	 "    --override KIND:NAME=VALUE  query, cookie or header that asks the fallback alone; "
	 "may be repeated"},
	{"host", true, USED,
	 "    --host NAME               the site's name, where an origin is given by address"},
	{"listen", true, USED,
	 "    --listen [tls:][ADDRESS:]PORT  default 80, and tls:443 with a certificate; may be "
	 "repeated"},
	{"cert", true, USED, "    --cert FILE, --key FILE   certificate chain and key"},
	{"key", true, USED, NULL},
	{"no-probe", false, USED,
	 "    --no-probe                does not ask both origins once at the start"},
	{"set", true, USED, "    --set postern.NAME=VALUE  one of postern's own options"},
	{"admin", true, USED,
	 "    --admin ADDRESS:PORT      admin listener (or unix:PATH) where the configuration has "
	 "none"},
	{"no-supervise", false, USED,
	 "    --no-supervise            one process, no parent that restarts it (containers)"},
	{"concurrency", true, USED,
	 "    --concurrency N           worker threads; default: the CPUs this process may use"},
	{"log-level", true, USED,
	 "-l, --log-level LEVEL         trace debug info warning error critical off"},
	{"component-log-level", true, USED,
	 "    --component-log-level C:L,C:L  for one component: main config connection http router "
	 "upstream lua admin"},
	{"log-path", true, USED, "    --log-path FILE           instead of standard error"},
	{"service-cluster", true, USED, "    --service-cluster NAME"},
	{"service-node", true, USED, "    --service-node NAME"},
	{"service-zone", true, USED, "    --service-zone NAME"},
	{"drain-time-s", true, USED, "    --drain-time-s SECONDS    how long SIGTERM waits (10)"},
	{"mode", true, USED, "    --mode serve|validate     validate: as the verb check"},
	{"version", false, USED, "    --version"},
	{"help", false, USED, "-h, --help"},
	{"base-id", true, QUIET, NULL},
	{"use-dynamic-base-id", false, QUIET, NULL},
	{"base-id-path", true, NOTICE, NULL},
	{"skip-hot-restart-on-no-parent", false, QUIET, NULL},
	{"skip-hot-restart-parent-stats", false, QUIET, NULL},
	{"disable-hot-restart", false, QUIET, NULL},
	{"restart-epoch", true, QUIET, NULL},
	{"hot-restart-version", false, NOTICE, NULL},
	{"parent-shutdown-time-s", true, QUIET, NULL},
	{"drain-strategy", true, NOTICE, NULL},
	{"admin-address-path", true, NOTICE, NULL},
	{"allow-unknown-static-fields", false, NOTICE, NULL},
	{"allow-unknown-fields", false, NOTICE, NULL},
	{"reject-unknown-dynamic-fields", false, QUIET, NULL},
	{"ignore-unknown-dynamic-fields", false, QUIET, NULL},
	{"skip-deprecated-logs", false, QUIET, NULL},
	{"local-address-ip-version", true, QUIET, NULL},
	{"log-format", true, NOTICE, NULL},
	{"log-format-escaped", false, QUIET, NULL},
	{"log-format-prefix-with-location", true, QUIET, NULL},
	{"enable-fine-grain-logging", false, NOTICE, NULL},
	{"enable-core-dump", false, QUIET, NULL},
	{"enable-mutex-tracing", false, NOTICE, NULL},
	{"cpuset-threads", false, QUIET, NULL},
	{"file-flush-interval-msec", true, NOTICE, NULL},
	{"file-flush-min-size-kb", true, NOTICE, NULL},
	{"disable-extensions", true, NOTICE, NULL},
	{"bootstrap-version", true, QUIET, NULL},
	{"socket-path", true, QUIET, NULL},
	{"socket-mode", true, QUIET, NULL},
	{"stats-tag", true, NOTICE, NULL},
	{"max-stats", true, QUIET, NULL},
	{"max-obj-name-len", true, QUIET, NULL},
};
enum { ROWS = sizeof rows / sizeof *rows };

void cli_help(void)
{
	puts("postern: an HTTP gateway for sites with a second door\n"
	     "\n"
	     "  postern run   --static URL|FOLDER --fallback URL [--override query:wp=1]\n"
	     "                                    without a configuration file\n"
	     "  postern run   -c FILE [options]   serve, restarted when it fails\n"
	     "  postern check -c FILE [options]   every mistake at once, then exit\n"
	     "  postern convert ...               print the configuration that run's options stand "
	     "for\n"
	     "  postern top   [--admin ADDRESS:PORT]  paths that the fallback still serves, links "
	     "dead on both sites\n"
	     "  postern test SCRIPT.lua CASES.yaml [--only TEXT] [--junit FILE]\n"
	     "                                    cases of a Lua script, with scripted origins\n"
	     "  postern       -c FILE [options]   as envoy: one process in the foreground\n");
	for (unsigned i = 0; i < ROWS; i++)
		if (rows[i].help)
			printf("  %s\n", rows[i].help);
	puts("\nEnvoy's other options are accepted. Signals: SIGTERM drains and exits, SIGHUP "
	     "reloads, SIGUSR1 reopens logs.");
}

static bool number(const char *name, const char *text, unsigned long max, unsigned *out)
{
	uint64_t v;
	if (!str_u64(str_of(text), &v) || v > max) {
		fprintf(stderr, "postern: --%s: \"%s\" is no number from 0 to %lu\n", name, text,
			max);
		return false;
	}
	*out = (unsigned)v;
	return true;
}

static bool level(const char *name, const char *text)
{
	if (log_level_of(str_of(text)) >= 0)
		return true;
	fprintf(stderr,
		"postern: --%s: unknown level \"%s\"; one of trace, debug, info, warning, error, "
		"critical, off\n",
		name, text);
	return false;
}

/* long: one case per option. */
static bool take(struct cli *c, const char *name, char *arg)
{
	struct str n = str_of(name);
	int ours = oneline_take(&c->oneline, name, arg);
	if (ours >= 0)
		return ours;
	if (str_eq(n, STR("config-path"))) {
		c->source.path = arg;
	} else if (str_eq(n, STR("config-yaml"))) {
		c->source.yaml = str_of(arg);
	} else if (str_eq(n, STR("set"))) {
		if (c->source.nsets == sizeof c->sets / sizeof *c->sets) {
			fprintf(stderr, "postern: more than %zu --set options\n",
				sizeof c->sets / sizeof *c->sets);
			return false;
		}
		c->sets[c->source.nsets++] = str_of(arg);
		c->source.sets = c->sets;
	} else if (str_eq(n, STR("admin"))) {
		c->source.admin = arg;
	} else if (str_eq(n, STR("no-supervise"))) {
		c->supervise = false;
	} else if (str_eq(n, STR("concurrency"))) {
		return number(name, arg, 1024, &c->concurrency);
	} else if (str_eq(n, STR("log-level"))) {
		c->log_level = arg;
		return level(name, arg);
	} else if (str_eq(n, STR("component-log-level"))) {
		c->component_log_levels = arg;
	} else if (str_eq(n, STR("log-path"))) {
		c->log_path = arg;
	} else if (str_eq(n, STR("service-cluster"))) {
		c->source.node_cluster = arg;
	} else if (str_eq(n, STR("service-node"))) {
		c->source.node_id = arg;
	} else if (str_eq(n, STR("service-zone"))) {
		c->service_zone = arg;
	} else if (str_eq(n, STR("drain-time-s"))) {
		return number(name, arg, 86400, &c->drain_time_s);
	} else if (str_eq(n, STR("mode"))) {
		if (str_eq(str_of(arg), STR("validate"))) {
			c->verb = VERB_CHECK;
		} else if (!str_eq(str_of(arg), STR("serve"))) {
			fprintf(stderr, "postern: --mode: \"%s\" is neither serve nor validate\n",
				arg);
			return false;
		}
	} else if (str_eq(n, STR("version"))) {
		c->verb = VERB_VERSION;
	} else if (str_eq(n, STR("help"))) {
		c->verb = VERB_HELP;
	}
	return true;
}

static bool verb_of(struct cli *c, const char *word)
{
	struct str w = str_of(word);
	c->envoy_form = false;
	if (str_eq(w, STR("run"))) {
		c->verb = VERB_RUN;
		c->supervise = true;
	} else if (str_eq(w, STR("check"))) {
		c->verb = VERB_CHECK;
	} else if (str_eq(w, STR("convert"))) {
		c->verb = VERB_CONVERT;
	} else if (str_eq(w, STR("top"))) {
		c->verb = VERB_TOP;
	} else if (str_eq(w, STR("version"))) {
		c->verb = VERB_VERSION;
	} else if (str_eq(w, STR("help"))) {
		c->verb = VERB_HELP;
	} else {
		static const char *const verbs[] = {"run",  "check",   "convert", "top",
						    "test", "version", "help",    NULL};
		const char *near = diag_nearest(w, verbs);
		fprintf(stderr, "postern: unknown verb \"%s\"%s%s%s\n", word,
			near ? "; did you mean \"" : "; see --help", near ? near : "",
			near ? "\"?" : "");
		return false;
	}
	return true;
}

/* The admin listener is a convenience here: its port may be taken. */
static void default_admin(struct cli *c)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(ADMIN_PORT),
				.sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1) == 0)
		c->source.admin = ADMIN_DEFAULT;
	else
		fprintf(stderr,
			"postern: " ADMIN_DEFAULT " is taken: no admin pages (see --admin)\n");
	close(fd);
}

static bool read_oneline(struct cli *c)
{
	size_t n;
	if (c->source.path || c->source.yaml.p) {
		fprintf(stderr, "postern: either a configuration file, or --static, --fallback and "
				"their like\n");
		return false;
	}
	/* kept for as long as the process: it is read again at each reload */
	const char *text = oneline_yaml(&c->oneline, &n);
	if (!text)
		return false;
	c->source.yaml = (struct str){text, n};
	if (!c->source.admin && c->verb == VERB_RUN)
		default_admin(c);
	return true;
}

bool cli_parse(struct cli *c, int argc, char **argv)
{
	static struct option longs[ROWS + 1];
	int first = 1, opt;
	memset(c, 0, sizeof *c);
	c->envoy_form = true;
	c->drain_time_s = 10;
	for (unsigned i = 0; i < ROWS; i++)
		longs[i] =
			(struct option){rows[i].name, rows[i].arg ? required_argument : no_argument,
					NULL, OPT_FIRST + (int)i};
	if (argc > 1 && argv[1][0] != '-') {
		if (!verb_of(c, argv[1]))
			return false;
		first = 2;
	}
	argv[first - 1] = argv[0];
	optind = 1;
	while ((opt = getopt_long(argc - first + 1, argv + first - 1, "c:l:h", longs, NULL)) !=
	       -1) {
		const char *name;
		if (opt == '?')
			return false;
		if (opt == 'c')
			name = "config-path";
		else if (opt == 'l')
			name = "log-level";
		else if (opt == 'h')
			name = "help";
		else
			name = rows[opt - OPT_FIRST].name;
		if (opt >= OPT_FIRST && rows[opt - OPT_FIRST].treat == NOTICE)
			fprintf(stderr, "postern: --%s has no effect here\n", name);
		if (!take(c, name, optarg))
			return false;
	}
	if (optind < argc - first + 1) {
		fprintf(stderr, "postern: \"%s\" is not understood; see --help\n",
			argv[first - 1 + optind]);
		return false;
	}
	if (c->oneline.given && !read_oneline(c))
		return false;
	if ((c->verb == VERB_RUN || c->verb == VERB_CHECK || c->verb == VERB_CONVERT) &&
	    !c->source.path && !c->source.yaml.p) {
		fprintf(stderr, "postern: nothing to serve: give -c FILE, or --static and "
				"--fallback (see --help)\n");
		return false;
	}
	return true;
}

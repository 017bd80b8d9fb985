/* src/cli.h: the command line, postern's own form and Envoy's. */
#pragma once
#include "config/config.h"
#include "oneline.h"

enum verb { VERB_RUN, VERB_CHECK, VERB_CONVERT, VERB_TOP, VERB_VERSION, VERB_HELP };
struct cli {
	enum verb verb;
	bool envoy_form; /* no verb given: foreground, never supervised */
	bool supervise;
	bool json_check;
	unsigned concurrency; /* 0: as many as the process may use */
	unsigned drain_time_s;
	const char *log_level, *component_log_levels, *log_path;
	const char *base_id, *service_zone;
	struct config_source source;
	struct str sets[64];
	struct oneline oneline;
};

/* False: a message has been printed to standard error; exit status 2. notices are printed there
 * too. */
bool cli_parse(struct cli *c, int argc, char **argv);
void cli_help(void);

/* src/control/control.h
 *
 * From configuration sources to a published model, again whenever they change: compile, prepare, swap whole or not at all. Runs on the
 * main thread's loop. Knows no workers: hooks carry a model to them.
 */
#pragma once
#include "base/diags.h"
#include "config/config.h"
#include "loop/loop.h"

struct control;
struct control_hooks {
	/* Everything a model needs before workers may see it (TLS, sockets, statistics). False: errors in d; nothing changed. */
	bool (*prepare)(void *arg, struct model *m, struct diags *d);
	/* To all workers. Takes over one reference. */
	void (*publish)(void *arg, struct model *m);
	void *arg;
};
struct control_status {
	uint64_t reloads, rejected; /* since start */
	uint64_t generation;        /* of the published model */
	char error[512];            /* why the last attempt was rejected; "" when it was not */
};

/* Compiles and prepares the first model and publishes it. NULL: errors in d (printed by the caller). src and what it points to live as long as
 * the process. watch_files: a changed file (configuration, certificate, script) reloads by itself. */
struct control *control_start(struct loop *l, const struct config_source *src,
			      const struct filter_type *const *types,
			      const struct control_hooks *hooks, bool watch_files, struct diags *d);
/* Now. False: the old model stays, the reasons are logged and kept in the status. */
bool control_reload(struct control *c);
/* Any thread, any time: of the process. */
void control_status(struct control_status *out);
void control_stop(struct control *c);

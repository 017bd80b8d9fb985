/* src/admin/admin.h
 *
 * The admin pages, served as a terminal filter ("postern.admin") on their own listener. Shows what
 * obs, upstream and control know; changes nothing but drain, log level and the health answer,
 * through the hooks that main registers.
 */
#pragma once
#include "base/cert.h"
#include "control/control.h"
#include "model/filter.h"

extern const struct filter_type filter_admin;

enum admin_state { ADMIN_INITIALIZING, ADMIN_LIVE, ADMIN_DRAINING };
/* Any thread. */
void admin_set_state(enum admin_state s);

enum admin_order { ADMIN_QUIT, ADMIN_DRAIN_LISTENERS, ADMIN_RELOAD };
struct admin_option { /* a command line option, for /server_info */
	const char *name, *value;
	bool plain; /* a number or true, false: written without quotes */
};
struct page; /* admin/page.h */
struct admin_page {
	const char *path, *what;
	bool changes; /* POST only */
	/* get(q, name): a parameter of the query, percent-decoded, .p NULL when absent; texts and a's memory live as long as the page. Returns the
	 * status; *type is JSON's unless set. */
	unsigned (*serve)(struct page *p, struct str (*get)(const void *q, const char *name),
			  const void *q, struct arena *a, struct str *type);
};
/* All may be NULL. Called on the worker that serves the page. */
struct admin_hooks {
	bool (*order)(void *arg,
		      enum admin_order what); /* any thread; carried out later. False: no memory */
	bool (*dump)(void *arg, const struct model *m, char **out,
		     size_t *n); /* config as JSON, free()d by the caller */
	void (*status)(struct control_status *out);
	/* What the certificates of a PEM text say; lists and texts in a. Returns how many, 0 also when a is over. */
	unsigned (*certs)(struct str pem, struct arena *a, struct cert_facts **out);
	/* The address a listener is bound to (a port 0 resolved), "" when unknown. */
	struct str (*address)(void *arg, const struct listener_cfg *l, unsigned address,
			      char out[128]);
	void *arg;
	unsigned workers;
	const struct admin_page *pages;     /* of other rooms; path NULL ends */
	const struct admin_option *options; /* the list is copied (at most 16), the texts are not */
	unsigned noptions;
};
/* Before workers start; hooks are copied. */
void admin_register(const struct admin_hooks *hooks);

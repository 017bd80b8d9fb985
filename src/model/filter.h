/* src/model/filter.h
 *
 * A kind of HTTP filter: a compile half, used by config and while models are made and freed, and a run half, used by
 * exchange. Filters are closed cells: they see the exchange they work on, nobody sees them.
 */
#pragma once
#include "base/diags.h"
#include "base/doc.h"
#include "base/str.h"

struct exchange;
struct chain;
struct model;
struct hcm_cfg;
struct format;
struct schema_hooks;
struct call_discard;

enum verdict {
	GO_ON,   /* done with this; the next filter may have it */
	WAIT,    /* keep it here until exch_wake and resume */
	ANSWERED /* the filter (or the host, for it) answered; request walking ends */
};
enum leg_kind { LEG_REQUEST, LEG_RESPONSE };

/* One filter in one connection manager's chain. */
struct filter_cfg {
	const struct filter_type *type;
	struct str name; /* in the chain; key of per-route configs */
	unsigned index;  /* position, 0 first */
	void *config;    /* type's own, from compile */
	const struct hcm_cfg *hcm;
	struct doc_place at;
};

/* What compile functions may use. */
struct compile {
	struct arena *arena; /* lives as long as the model */
	struct diags *diags;
	struct model *model;       /* being built: clusters are already there */
	const struct hcm_cfg *hcm; /* stat_prefix; NULL for per-route configs */
	struct str filter_name;    /* in the chain; of per-route configs the map key */
	const struct schema_hooks *schema;
};

/* What config does for filters, which cannot see it. */
struct schema_hooks {
	/* A SubstitutionFormatString; NULL: a mistake, reported. */
	struct format *(*format)(struct compile *c, const struct doc *d);
	/* The message in an Any as protobuf reflection shows it: set fields only, names as in the proto, enums as numbers, wrapper
	 * messages as {value}, Struct as {fields}; numbers have no text. NULL: reported. */
	struct doc *(*message)(struct compile *c, const struct doc *any);
};

struct filter_type {
	const char *name; /* "envoy.filters.http.lua" */
	const char *const *
		type_urls; /* without "type.googleapis.com/"; NULL-terminated; [0] the filter's own */
	const char *const *route_urls; /* of per-route messages; NULL: none */
	bool terminal;                 /* router, static(when alone): must be last */

	/* compile half; main thread. cfg is the typed_config map (its "@type" checked), never NULL (an empty map when absent).
	 * Report mistakes with diag_add; return NULL after an error (or when nothing is to be kept). */
	void *(*compile)(struct compile *c, const struct doc *cfg);
	void *(*compile_route)(struct compile *c, const struct doc *cfg);
	/* When the model is whole: what can only be seen then. NULL: nothing. */
	void (*verify)(const struct filter_cfg *self, const struct model *m, struct diags *d);
	/* both kinds; any thread, when no exchange uses the model any more */
	void (*free_config)(void *config);

	/* run half; the worker's thread, phase 3. self: this filter in this exchange; its state in exch_state(). All may be NULL. */
	enum verdict (*request)(struct exchange *ex, const struct filter_cfg *self);
	enum verdict (*response)(struct exchange *ex, const struct filter_cfg *self);
	/* The filter returned WAIT for this leg and exch_wake was called, or the body it gathers is complete. */
	enum verdict (*resume)(struct exchange *ex, const struct filter_cfg *self,
			       enum leg_kind leg);
	/* A batch of body on its way through, for filters that called exch_watch_body. The filter may change *batch. end: nothing
	 * follows (trailers, if any, are in the leg). WAIT: the batch stays here until resume returns GO_ON. */
	enum verdict (*body)(struct exchange *ex, const struct filter_cfg *self, enum leg_kind leg,
			     struct chain *batch, bool end);
	/* router only: room in the call's or client's direction again, request body to take, the client left … */
	void (*pump)(struct exchange *ex, const struct filter_cfg *self);
	/* Instead of end, for a source whose answer another filter replaces (exch_answer_instead): how its rest may be got rid of. NULL: end. */
	void (*lose)(struct exchange *ex, const struct filter_cfg *self,
		     const struct call_discard *how);
	/* Always called once when the exchange ends, for filters whose request or response hook ran. */
	void (*end)(struct exchange *ex, const struct filter_cfg *self);
};

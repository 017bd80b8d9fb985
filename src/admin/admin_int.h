/* src/admin/admin_int.h: what the files of this room share. */
#pragma once
#include "admin/admin.h"
#include "admin/page.h"
#include "base/arena.h"
#include "model/model.h"
#include "obs/stats.h"

/* Registered by main; read-only once workers run. */
extern struct admin_hooks admin_hooks;

/* What a request for an admin page says. */
struct query {
	struct str text; /* behind '?' */
	struct arena *arena;
};
/* The value of a parameter, percent-decoded; .p NULL: absent; "" without a value. */
struct str query_get(const struct query *q, const char *name);
/* Parameters one by one: *at is 0 at first. False: no more. */
bool query_next(const struct query *q, size_t *at, struct str *name, struct str *value);

/* --- stats_page.c --- */
/* A number that is not kept by obs but asked for. */
struct stats_extra {
	const char *name;
	uint64_t value;
};
enum stats_form { STATS_TEXT, STATS_JSON, STATS_PROMETHEUS };
/* filter .p NULL: all. False: err says why (bad expression), or "" for no memory. */
bool stats_page(struct page *p, const struct model *m, enum stats_form form, struct str filter,
		bool used_only, const struct stats_extra *extra, unsigned nextra, char *err,
		size_t cap);

/* --- prom.c --- */
/* Names that stand for themselves in statistics, dots and all: sorted by str_cmp. */
struct prom_known {
	struct str *clusters, *https, *listeners;
	unsigned nclusters, nhttps, nlisteners;
};
enum { PROM_NAME = 512 };
/* The Prometheus name of a statistic and its labels ("a=\"b\",c=\"d\""), as Envoy's tags make them;
 * both NUL-terminated. */
void prom_name(struct str stat, const struct prom_known *k, char name[PROM_NAME],
	       char labels[PROM_NAME]);

/* --- clusters_page.c --- */
void clusters_page(struct page *p, const struct model *m, bool json);

/* --- certs_page.c --- */
/* now: seconds since the epoch. */
void certs_page(struct page *p, const struct model *m, int64_t now);

/* --- home_page.c --- */
void home_page(struct page *p);

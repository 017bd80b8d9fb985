/* src/filters/set_metadata/set_metadata.c
 *
 * envoy.filters.http.set_metadata: writes what its configuration says into the dynamic metadata of each request, plain or typed.
 * A namespace that is there already is left alone (and counted) unless allow_overwrite lets it be merged, or replaced when typed.
 */
#include "exchange/exchange.h"
#include "filters/filters.h"
#include "obs/stats.h"

struct entry {
	struct str ns;
	const struct value *plain, *typed; /* MAPs in the model's arena; NULL: none */
	bool overwrite;
};
struct config {
	struct entry *entries;
	unsigned n;
	stat_id denied;
};

/* --- configuration --- */

static void read_entry(struct compile *c, const struct doc *d, struct entry *e, bool old)
{
	const struct doc *ns = doc_field(d, "metadata_namespace"), *plain = doc_field(d, "value"),
			 *overwrite = doc_field(d, "allow_overwrite"),
			 *typed = old ? NULL : doc_field(d, "typed_value"), *message;
	e->overwrite = old || (overwrite && overwrite->kind == DOC_BOOL && overwrite->boolean);
	if (!ns || ns->kind != DOC_STRING || ns->text.n == 0) {
		/* Envoy passes over the old form without one. */
		diag_add(c->diags, old ? DIAG_WARNING : DIAG_ERROR, ns ? ns : d,
			 "metadata_namespace is missing%s", old ? ": value is not set" : "");
		return;
	}
	e->ns = arena_str(c->arena, ns->text);
	if (plain && typed) { /* as in Envoy */
		diag_add(c->diags, DIAG_WARNING, typed, "stands beside value: only that is set");
		typed = NULL;
	}
	if (!plain && !typed)
		diag_add(c->diags, DIAG_WARNING, d,
			 "neither value nor typed_value: nothing is set");
	if (plain && plain->kind == DOC_MAP)
		e->plain = value_from_doc(c->arena, plain);
	if (typed && typed->kind == DOC_MAP && (message = c->schema->message(c, typed)))
		e->typed = value_from_doc(c->arena, message);
}

static void *compile(struct compile *c, const struct doc *cfg)
{
	const struct doc *list = doc_field(cfg, "metadata"), *old = doc_field(cfg, "value");
	struct config *s = arena_zalloc(c->arena, sizeof *s);
	unsigned most = 1 + (list && list->kind == DOC_LIST ? list->n : 0);
	if (s)
		s->entries = arena_zalloc(c->arena, most * sizeof *s->entries);
	if (!s || !s->entries) {
		diag_add(c->diags, DIAG_ERROR, cfg, "no memory");
		return NULL;
	}
	if (old)
		read_entry(c, cfg, &s->entries[s->n++], true);
	if (list && list->kind == DOC_LIST)
		doc_each (d, list)
			read_entry(c, d, &s->entries[s->n++], false);
	s->denied = stat_registerf(STAT_COUNTER, "http.%.*s.set_metadata.overwrite_denied",
				   STR_ARG(c->hcm->stat_prefix));
	if (c->arena->over)
		diag_add(c->diags, DIAG_ERROR, cfg, "no memory");
	return s;
}

/* --- requests --- */

static bool set_plain(struct exchange *ex, const struct config *s, const struct entry *e)
{
	const struct value *there = metadata_get(&ex->metadata, e->ns);
	if (there && !e->overwrite) {
		stat_add(s->denied, 1);
		return true;
	}
	if (!there && !metadata_namespace(&ex->metadata, &ex->arena, e->ns))
		return false;
	for (const struct value *v = e->plain->list.first; v; v = v->next) {
		struct value *merged = value_merge(&ex->arena, value_get(there, v->key), v);
		if (!merged || !metadata_set(&ex->metadata, &ex->arena, e->ns, v->key, merged))
			return false;
	}
	return true;
}

static bool set_typed(struct exchange *ex, const struct config *s, const struct entry *e)
{
	if (!e->overwrite && metadata_typed(&ex->metadata, e->ns)) {
		stat_add(s->denied, 1);
		return true;
	}
	return metadata_set_typed(&ex->metadata, &ex->arena, e->ns, e->typed);
}

static enum verdict request(struct exchange *ex, const struct filter_cfg *self)
{
	const struct config *s = self->config;
	bool ok = true;
	for (unsigned i = 0; s && i < s->n && ok; i++)
		ok = (!s->entries[i].plain || set_plain(ex, s, &s->entries[i])) &&
		     (!s->entries[i].typed || set_typed(ex, s, &s->entries[i]));
	if (ok)
		return GO_ON;
	exch_fail(ex, FAILED_MEMORY);
	return ANSWERED;
}

static const char *const urls[] = {"envoy.extensions.filters.http.set_metadata.v3.Config", NULL};
const struct filter_type filter_set_metadata = {.name = "envoy.filters.http.set_metadata",
						.type_urls = urls,
						.compile = compile,
						.request = request};

/* src/config/config.c: from the sources of a configuration to a sealed model. */
#include "config/config.h"
#include "config/envoy_int.h"
#include "config/schema.h"

#define BOOTSTRAP "envoy.config.bootstrap.v3.Bootstrap"

/* Moves all children of from behind to's. */
static void take_children(struct doc *to, struct doc *from)
{
	struct doc *next;
	for (struct doc *c = from->first; c; c = next) {
		next = c->next;
		c->next = c->parent = NULL;
		doc_add(to, c->key, c);
	}
	from->first = from->last = NULL;
	from->n = 0;
}

/* The child of to that is the same field: the same key, or its other spelling. */
static struct doc *same_field(const struct doc *to, struct str key)
{
	char z[128];
	struct doc *c = doc_get_str(to, key);
	if (c || key.n >= sizeof z)
		return c;
	memcpy(z, key.p, key.n);
	z[key.n] = 0;
	if ((c = doc_field(to, z)))
		return c;
	for (c = to->first; c; c = c->next) { /* to's is the snake_case one */
		if (c->key.n >= sizeof z)
			continue;
		struct doc alone = {.kind = DOC_MAP}, copy = {.kind = DOC_NULL, .key = key};
		memcpy(z, c->key.p, c->key.n);
		z[c->key.n] = 0;
		alone.first = alone.last = &copy;
		if (doc_field(&alone, z))
			return c;
	}
	return NULL;
}

/* As protobuf merges: maps field by field, lists are appended, the rest is replaced; an Any is
 * one value. */
static void merge(struct doc *to, struct doc *from)
{
	struct doc *next;
	for (struct doc *c = from->first; c; c = next) {
		struct doc *old = same_field(to, c->key), *prev = NULL;
		next = c->next;
		c->next = c->parent = NULL;
		if (!old) {
			doc_add(to, c->key, c);
		} else if (old->kind == DOC_MAP && c->kind == DOC_MAP && !doc_get(c, "@type")) {
			merge(old, c);
		} else if (old->kind == DOC_LIST && c->kind == DOC_LIST) {
			take_children(old, c);
		} else {
			for (struct doc *k = to->first; k != old; k = k->next)
				prev = k;
			c->key = old->key;
			c->parent = to;
			c->next = old->next;
			*(prev ? &prev->next : &to->first) = c;
			if (to->last == old)
				to->last = c;
		}
	}
}

static struct doc *read_sources(const struct config_source *src, struct model *m, struct diags *d)
{
	struct doc *root = NULL, *over = NULL;
	if (src->path) {
		if (!model_watch(m, str_of(src->path)))
			diag_at(d, DIAG_ERROR, (struct doc_place){0}, "out of memory");
		root = doc_from_file(&m->arena, d, src->path);
	}
	if (src->yaml.p) {
		over = doc_from_yaml(&m->arena, d, "--config-yaml", src->yaml);
		if (!over)
			return NULL;
	}
	if ((src->path && !root) || (!src->path && !over)) {
		if (!src->path)
			diag_at(d, DIAG_ERROR, (struct doc_place){0},
				"no configuration: give --config-path or --config-yaml");
		return NULL;
	}
	if (root && over && root->kind == DOC_MAP && over->kind == DOC_MAP)
		merge(root, over);
	return root && !(over && root->kind == DOC_NULL) ? root : over;
}

/* Places name files in the model's memory, which a refused configuration takes with it. */
static void keep_places(struct diags *d)
{
	const char *from = NULL, *to = NULL;
	for (struct diag *g = d->first; g; g = g->next) {
		if (!g->at.file)
			continue;
		if (!from || g->at.file != from) {
			from = g->at.file;
			to = arena_strz(&d->arena, str_of(from));
		}
		g->at.file = to ? to : "";
	}
}

static bool compile(const struct config_source *src, const struct filter_type *const *types,
		    struct model *m, struct diags *d)
{
	struct reader r = {.arena = &m->arena,
			   .diags = d,
			   .model = m,
			   .types = types,
			   .base_dir = src->base_dir};
	struct doc *root = read_sources(src, m, d);
	if (!root)
		return false;
	if (root->kind != DOC_MAP) {
		diag_add(d, DIAG_ERROR, root,
			 "a bootstrap is a map with static_resources, admin and so on");
		return false;
	}
	m->root = root;
	unsigned before = d->errors;
	schema_check(d, root, schema_find(STR(BOOTSTRAP)));
	/* Goes on after mistakes of form: those of meaning are wanted in the same run. */
	envoy_compile(&r, root, src);
	if (m->arena.over && d->errors == before)
		diag_at(d, DIAG_ERROR, (struct doc_place){0}, "out of memory");
	if (d->errors != before)
		return false;
	if (model_seal(m))
		return true;
	diag_at(d, DIAG_ERROR, (struct doc_place){0}, "the configuration does not hold together");
	return false;
}

struct model *config_compile(const struct config_source *src,
			     const struct filter_type *const *types, struct diags *diags)
{
	struct model *m = model_new();
	if (!m) {
		diag_at(diags, DIAG_ERROR, (struct doc_place){0}, "out of memory");
		return NULL;
	}
	m->lint = src->lint;
	bool ok = compile(src, types, m, diags);
	keep_places(diags);
	if (!ok) {
		model_unref(m);
		return NULL;
	}
	return m;
}

/* src/filters/set_filter_state/set_filter_state.c
 *
 * envoy.filters.http.set_filter_state: strings made from the request by a format, kept in the exchange's filter state, where scripts
 * and %FILTER_STATE% find them. Only the object factory envoy.string exists: the others of Envoy steer parts of it by objects.
 */
#include "exchange/exchange.h"
#include "exchange/format.h"
#include "filters/filters.h"
#include "model/format.h"

struct entry {
	struct str key;
	const struct format *format;
	bool read_only, skip_empty;
};
struct config {
	struct entry *entries;
	unsigned n;
};

static bool flag(const struct doc *d, const char *field)
{
	const struct doc *f = doc_field(d, field);
	return f && f->kind == DOC_BOOL && f->boolean;
}

static struct str text(const struct doc *d, const char *field)
{
	const struct doc *f = doc_field(d, field);
	return f && f->kind == DOC_STRING ? f->text : (struct str){"", 0};
}

static void read_entry(struct compile *c, const struct doc *d, struct entry *e)
{
	struct str key = text(d, "object_key"), factory = text(d, "factory_key");
	const struct doc *format = doc_field(d, "format_string");
	if (!key.n)
		diag_add(c->diags, DIAG_ERROR, d, "object_key is missing");
	else if (!str_eq(factory.n ? factory : key, STR("envoy.string"))) {
		struct str f = factory.n ? factory : key;
		diag_add(c->diags, DIAG_ERROR, d, "'%.*s' does not have an object factory",
			 STR_ARG(f));
		diag_hint(c->diags, "postern knows one: factory_key: envoy.string");
	}
	if (!format || format->kind != DOC_MAP)
		diag_add(c->diags, DIAG_ERROR, d, "format_string is missing");
	else
		e->format = c->schema->format(c, format);
	e->key = arena_str(c->arena, key);
	e->read_only = flag(d, "read_only");
	e->skip_empty = flag(d, "skip_if_empty");
}

static void *compile(struct compile *c, const struct doc *cfg)
{
	const struct doc *list = doc_field(cfg, "on_request_headers");
	struct config *s = arena_zalloc(c->arena, sizeof *s);
	if (s && list && list->kind == DOC_LIST && list->n)
		s->entries = arena_zalloc(c->arena, list->n * sizeof *s->entries);
	if (s && s->entries)
		doc_each (d, list)
			read_entry(c, d, &s->entries[s->n++]);
	if (c->arena->over)
		diag_add(c->diags, DIAG_ERROR, cfg, "no memory");
	return s;
}

static bool set(struct exchange *ex, const struct entry *e)
{
	struct str v = format_text(ex, e->format, &ex->arena, true);
	struct state_entry *there = state_find(ex->filter_state, e->key);
	if (!v.p)
		return false;
	if ((e->skip_empty && v.n == 0) || (there && there->read_only))
		return true;
	if (!there) {
		there = arena_zalloc(&ex->arena, sizeof *there);
		if (!there)
			return false;
		there->name = e->key; /* the model outlives the exchange */
		there->next = ex->filter_state;
		ex->filter_state = there;
	}
	there->value = v;
	there->read_only = e->read_only;
	return true;
}

static enum verdict request(struct exchange *ex, const struct filter_cfg *self)
{
	const struct config *s = self->config;
	for (unsigned i = 0; s && i < s->n; i++)
		if (!set(ex, &s->entries[i])) {
			exch_fail(ex, FAILED_MEMORY);
			return ANSWERED;
		}
	return GO_ON;
}

static const char *const urls[] = {"envoy.extensions.filters.http.set_filter_state.v3.Config",
				   NULL};
const struct filter_type filter_set_filter_state = {.name = "envoy.filters.http.set_filter_state",
						    .type_urls = urls,
						    .compile = compile,
						    .request = request};

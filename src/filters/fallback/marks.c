/* src/filters/fallback/marks.c
 *
 * Who is told which answer it was: the field on the answer, dynamic metadata, the lists of paths. (Counters: shared.c; the access log
 * reads exchange.fallback.)
 */
#include "filters/fallback/fallback_int.h"

static void tell_number(struct exchange *ex, struct str key, unsigned n)
{
	struct value *v = value_new(&ex->arena, VALUE_NUMBER);
	if (!v)
		return;
	v->number = n;
	metadata_set(&ex->metadata, &ex->arena, STR("postern.fallback"), key, v);
}

/* Dynamic metadata, where there are filters that could look at it. */
static __attribute__((noinline)) void tell_others(struct exchange *ex)
{
	const struct exch_fallback *f = &ex->fallback;
	struct value *v = value_new(&ex->arena, VALUE_STRING);
	if (!v)
		return;
	v->string = str_of(f->served);
	metadata_set(&ex->metadata, &ex->arena, STR("postern.fallback"), STR("served"), v);
	if (f->primary_status) {
		tell_number(ex, STR("primary_status"), f->primary_status);
		tell_number(ex, STR("primary_ms"), f->primary_ms);
	}
	if (f->status) {
		tell_number(ex, STR("status"), f->status);
		tell_number(ex, STR("ms"), f->ms);
	}
	tell_number(ex, STR("held_bytes"), f->held);
}

__attribute__((noinline)) bool fb_account_more(struct exchange *ex, const struct fb_cfg *cfg,
					       enum served served)
{
	static const char *const marks[SERVED] = {
		"primary",           "fallback", "override", "direct", "primary; both-miss",
		"primary; degraded", "primary"};
	if (fb_has_others(ex))
		tell_others(ex);
	return !cfg->served_by.p ||
	       head_replace(&ex->resp.head, cfg->served_by, str_of(marks[served]));
}

void fb_note_paths(struct fb *fb, enum served served)
{
	struct exchange *ex = fb->ex;
	struct str path, query;
	struct top *t = served == SERVED_FALLBACK    ? fb->cfg->shared->top
			: served == SERVED_BOTH_MISS ? fb->cfg->shared->both
						     : NULL;
	if (!t)
		return;
	str_cut(head_value(fb->client ? fb->client : &ex->req.head, FIELD_PATH), '?', &path,
		&query);
	top_add(t, path, ex->resp.head.status, loop_wall_us(ex->env->loop));
}

/* src/exchange/access_log.c: the line at the end of an exchange. */
#include "exchange/exch_int.h"
#include "exchange/format_int.h"
#include "obs/sink.h"

enum { FIRST_TRY = 2048, LONGEST = 60 * 1024, CUT = 512 };

/* True when the comma list names one of the exchange's flags. */
static bool flag_listed(struct str list, const char *flags)
{
	struct str rest = str_of(flags), one;
	if (str_eq(list, STR("*")))
		return rest.n != 0;
	while (rest.n) {
		str_cut(rest, ',', &one, &rest);
		if (list_has(list, one))
			return true;
	}
	return false;
}

static bool wanted(struct exchange *ex, const struct access_log_cfg *c)
{
	unsigned status = ex->resp.begun ? ex->resp.head.status : 0;
	if (c->status_min && status < c->status_min)
		return false;
	if (c->status_max && status > c->status_max)
		return false;
	if (c->duration_min_us && loop_now_us(ex->env->loop) - ex->began_us < c->duration_min_us)
		return false;
	if (c->errors_only && status < 500 && !*ex->flags)
		return false;
	if (c->response_flags.p && !flag_listed(c->response_flags, ex->flags))
		return false;
	if (c->header && !(ex->req.head.f && field_matches(c->header, &ex->req.head)))
		return false;
	if (c->runtime_of && ex->random % c->runtime_of >= c->runtime_fraction)
		return false;
	return true;
}

static void write_line(struct exchange *ex, const struct access_log_cfg *c)
{
	size_t room = FIRST_TRY, longest = SIZE_MAX;
	bool json = c->format->kind == FORMAT_JSON;
	for (int tries = 0; tries < 3; tries++) {
		char *p = sink_room(c->sink, room + 1); /* and the line's end */
		struct out o;
		if (!p)
			break;
		out_init(&o, p, room, json ? ESCAPE_JSON : ESCAPE_LINE);
		o.longest = longest;
		o.dash = !c->format->omit_empty;
		o.mark_null = json && c->format->omit_empty;
		out_format(&o, ex, c->format);
		size_t n = (size_t)(o.p - p);
		if (!o.lost) {
			if (o.mark_null)
				n = out_drop_nulls(p, n);
			if (c->own_newline)
				p[n++] = '\n';
			sink_commit(c->sink, n);
			return;
		}
		room = n + o.lost;
		if (room > LONGEST) { /* better a line with cut texts than none */
			room = LONGEST;
			longest = CUT;
		}
	}
	sink_write(c->sink, STR("\n"));
}

void access_log_write(struct exchange *ex)
{
	for (unsigned i = 0; i < ex->hcm->nlogs; i++) {
		const struct access_log_cfg *c = &ex->hcm->logs[i];
		if (c->sink && wanted(ex, c))
			write_line(ex, c);
	}
}

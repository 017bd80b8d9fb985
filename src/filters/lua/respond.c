/* src/filters/lua/respond.c: respond() (lua-filter.md 7), and what a head must have when a script
 * lets it go (robustness.md L8). */
#include "filters/lua/lua_int.h"
#include <stdio.h>

/* grpc-message is percent-encoded (gRPC over HTTP/2, Responses). */
static struct str grpc_message(lua_State *L, struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n * 3 + 1), *q = p;
	if (!p)
		obj_no_memory(L);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c >= 0x20 && c < 0x7f && c != '%')
			*q++ = (char)c;
		else
			q += sprintf(q, "%%%02X", c);
	}
	return (struct str){p, (size_t)(q - p)};
}

static unsigned checked_status(lua_State *L, const struct head *h)
{
	struct str s = str_trim(head_value(h, FIELD_STATUS));
	uint64_t n = 0;
	if (s.n > 1 && s.p[0] == '+')
		s = str_from(s, 1);
	if (!s.p || !str_u64(s, &n) || n < 200 || n > 599)
		luaL_error(L, ":status must be between 200-599");
	return (unsigned)n;
}

/* local_reply_config counts such answers among the gateway's own, as Envoy does. */
static void map(lua_State *L, struct run *r, unsigned *status, struct str *body)
{
	struct exchange *ex = r->ex;
	struct str type = {NULL, 0};
	if (!head_set_status(&r->answer, *status))
		obj_no_memory(L);
	ex->resp.head = r->answer;
	ex->details = "lua_response";
	exch_map_reply(ex, status, body, &type);
	r->answer = ex->resp.head;
	if (type.p && !head_set_id(&r->answer, FIELD_CONTENT_TYPE, type))
		obj_no_memory(L);
}

static void fill(lua_State *L, struct run *r, unsigned status, struct str body)
{
	struct head *h = &r->answer;
	struct exchange *ex = r->ex;
	bool ok;
	if ((ex->hcm->nlocal_replies || ex->hcm->local_body) && r->kind == LEG_REQUEST)
		map(L, r, &status, &body);
	if (head_is_grpc(&ex->req.head)) {
		head_remove_id(h, FIELD_CONTENT_TYPE);
		ok = head_set_status(h, 200) &&
		     head_add_id(h, FIELD_CONTENT_TYPE, STR("application/grpc")) &&
		     head_set_id(h, FIELD_GRPC_STATUS, str_of(grpc_status_of(status)));
		if (ok && body.n)
			ok = head_set_id(h, FIELD_GRPC_MESSAGE, grpc_message(L, &ex->arena, body));
		if (!ok)
			obj_no_memory(L);
		return;
	}
	ok = head_set_status(h, status);
	if (body.n == 0)
		head_remove_id(h, FIELD_CONTENT_TYPE);
	else if (!head_has(h, FIELD_CONTENT_TYPE))
		ok = ok && head_add_id(h, FIELD_CONTENT_TYPE, STR("text/plain"));
	if (body.n) { /* what a status or HEAD forbids, exchange leaves out */
		struct str n = obj_decimal(&ex->arena, body.n);
		ok = ok && n.p && head_set_id(h, FIELD_CONTENT_LENGTH, n) &&
		     chain_copy(&r->answer_body, body.p, body.n);
	}
	if (!ok)
		obj_no_memory(L);
}

static bool in_response_allowed(const struct run *r)
{
	const struct policy *p = &((const struct lua_filter *)r->self->config)->policy;
	if (r->route && r->route->policy.respond_in_response >= 0)
		p = &r->route->policy;
	return p->respond_in_response >= 0 ? p->respond_in_response
					   : r->ex->model->options.lua_respond_in_response;
}

int respond_handle(lua_State *L)
{
	struct run *r = run_now;
	obj_arg(L, OBJ_HANDLE);
	if (r->kind == LEG_RESPONSE && !in_response_allowed(r))
		return luaL_error(L, "respond not currently supported in the response path");
	if (r->continued)
		return luaL_error(L, "respond() cannot be called if headers have been continued");
	luaL_checktype(L, 2, LUA_TTABLE);
	struct str body = {"", 0};
	if (!lua_isnoneornil(L, 3))
		body = obj_str(L, 3);
	run_may_yield(L);
	chain_clear(&r->answer_body);
	if (!head_init(&r->answer, &r->ex->arena, true, 12))
		obj_no_memory(L);
	headers_from_table(L, 2, &r->answer, false);
	fill(L, r, checked_status(L, &r->answer), body);
	return run_yield(L, PENDING_RESPOND);
}

void respond_send(struct run *r)
{
	struct exchange *ex = r->ex;
	struct chain body = {0};
	chain_move(&body, &r->answer_body);
	if (r->kind == LEG_REQUEST) {
		ex->resp.head = r->answer;
		exch_answer(ex, &body, "lua_response");
		return;
	}
	/* In the response hook the answer is replaced; it passes no more filters. */
	struct str text = {NULL, 0};
	if (!chain_flat(&body, &text))
		text.n = 0;
	exch_reply(ex, r->answer.status, text, "lua_response", "");
	chain_clear(&body);
	for (unsigned i = r->answer.pseudo; i < r->answer.n; i++) {
		const struct field *f = &r->answer.f[i];
		if (f->id && name_infos[f->id].flags & NAME_FRAMING)
			continue;
		if (f->id == FIELD_CONTENT_TYPE)
			head_set_id(&ex->resp.head, FIELD_CONTENT_TYPE, field_value(f));
		else
			head_add(&ex->resp.head, field_name(f), field_value(f));
	}
}

/* --- heads that scripts have changed: the router and the edge look at what must be there --- */

static bool target_ok(struct str path)
{
	if (path.n == 0 || (path.p[0] != '/' && !str_eq(path, STR("*"))))
		return false;
	for (size_t i = 0; i < path.n; i++) {
		unsigned char c = (unsigned char)path.p[i];
		if (c <= 0x20 || c >= 0x7f || c == '#')
			return false;
	}
	return true;
}

bool respond_request_ok(const struct head *h)
{
	struct str method = head_value(h, FIELD_METHOD);
	return field_name_ok(method) && method.n <= LIMIT_METHOD && h->method != METHOD_CONNECT &&
	       target_ok(head_value(h, FIELD_PATH)) && authority_ok(head_value(h, FIELD_AUTHORITY));
}

static bool too_large(const struct run *r)
{
	const struct h1_limits *lim = &r->ex->hcm->limits;
	const struct head *h = r->head;
	size_t n = 0;
	if ((unsigned)(h->n - h->pseudo) > lim->fields)
		return true;
	for (unsigned i = 0; i < h->n; i++)
		n += h->f[i].name_n + h->f[i].value_n + 4u;
	return n > lim->head;
}

bool respond_check_head(struct run *r)
{
	struct exchange *ex = r->ex;
	if (!r->modified)
		return true;
	if (too_large(r)) {
		exch_reply(ex, 500, STR(""), "lua_headers_too_large", "");
		return false;
	}
	return true;
}

/* src/filters/lua/script.c: the filter's configuration (lua-filter.md 1), and the table of living
 * scripts. */
#include "base/mem.h"
#include "base/must.h"
#include "filters/filters.h"
#include "filters/lua/lint.h"
#include "filters/lua/lua_int.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { SOURCE_MOST = 16 * 1024 * 1024 };

/* --- living scripts: ids are indices, so that a VM finds its copy of a script without a look-up
 * --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct script **living;
static uint32_t nliving;
static uint64_t serials;
atomic_ullong script_epoch;

stat_id script_gauge(void)
{
	return stat_register(STAT_GAUGE, STR("lua.lua_vm_count"));
}

bool script_alive(uint32_t id, uint64_t serial)
{
	pthread_mutex_lock(&lock);
	bool alive = id < nliving && living[id] && living[id]->serial == serial;
	pthread_mutex_unlock(&lock);
	return alive;
}

static void script_unref(const struct script *s)
{
	struct script *w = (struct script *)s;
	pthread_mutex_lock(&lock);
	bool last = atomic_fetch_sub(&w->refs, 1) == 1;
	if (last)
		living[w->id] = NULL;
	pthread_mutex_unlock(&lock);
	if (!last)
		return;
	stat_sub(script_gauge(), 1);
	mem_free(MEM_CONFIG, w);
	atomic_fetch_add(&script_epoch, 1);
}

static bool same_vm(const struct script *a, const struct script *b)
{
	return a->shared_vm_id.n && str_eq(a->shared_vm_id, b->shared_vm_id) &&
	       str_eq(a->source, b->source) && a->libraries == b->libraries;
}

/* One allocation holds the script and its texts. NULL: no memory. */
static struct script *script_make(const struct script *like)
{
	size_t n = sizeof *like + like->source.n + 1 + like->path.n + like->shared_vm_id.n;
	for (unsigned i = 0; i < like->npaths; i++)
		n += like->paths[i].n + sizeof(struct str);
	for (unsigned i = 0; i < like->ncpaths; i++)
		n += like->cpaths[i].n + sizeof(struct str);
	struct script *s = mem_alloc(MEM_CONFIG, n);
	if (!s)
		return NULL;
	*s = *like;
	atomic_init(&s->refs, 1);
	struct str *lists = (struct str *)(s + 1);
	s->paths = lists;
	s->cpaths = lists + like->npaths;
	char *p = (char *)(s->cpaths + like->ncpaths);
#define TAKE(to, from)                                            \
	do {                                                      \
		struct str from_ = (from);                        \
		(to) = (struct str){from_.p ? p : NULL, from_.n}; \
		if (from_.n)                                      \
			memcpy(p, from_.p, from_.n);              \
		p += from_.n;                                     \
	} while (0)
	for (unsigned i = 0; i < like->npaths; i++)
		TAKE(s->paths[i], like->paths[i]);
	for (unsigned i = 0; i < like->ncpaths; i++)
		TAKE(s->cpaths[i], like->cpaths[i]);
	TAKE(s->path, like->path);
	TAKE(s->shared_vm_id, like->shared_vm_id);
	TAKE(s->source, like->source);
	*p = 0;
	s->chunk_name = s->source.p;
	return s;
}

/* The script, counted; a living one when they share a VM. NULL: no memory. */
static const struct script *script_add(const struct script *like)
{
	pthread_mutex_lock(&lock);
	uint32_t id = 0;
	for (uint32_t i = 0; i < nliving && like->shared_vm_id.n; i++)
		if (living[i] && same_vm(living[i], like)) {
			atomic_fetch_add(&living[i]->refs, 1);
			pthread_mutex_unlock(&lock);
			return living[i];
		}
	while (id < nliving && living[id])
		id++;
	struct script *s = script_make(like);
	if (s && id == nliving) {
		uint32_t cap = nliving ? nliving * 2 : 16;
		struct script **t = mem_realloc(MEM_CONFIG, living, cap * sizeof *t);
		if (t) {
			memset(t + nliving, 0, (cap - nliving) * sizeof *t);
			living = t;
			nliving = cap;
		} else {
			mem_free(MEM_CONFIG, s);
			s = NULL;
		}
	}
	if (s) {
		s->id = id;
		s->serial = ++serials;
		living[id] = s;
	}
	pthread_mutex_unlock(&lock);
	if (s)
		stat_add(script_gauge(), 1);
	return s;
}

/* --- reading the configuration --- */

static void bad(struct compile *c, const struct doc *at, const char *text)
{
	diag_add(c->diags, DIAG_ERROR, at, "%s", text);
}

static bool read_file(struct compile *c, const struct doc *at, struct str path, struct str *out)
{
	char *z = arena_strz(c->arena, path);
	FILE *f = z ? fopen(z, "re") : NULL;
	if (!f) {
		diag_add(c->diags, DIAG_ERROR, at, "cannot open \"%.*s\": %s", STR_ARG(path),
			 strerror(errno));
		return false;
	}
	bool ok = fseek(f, 0, SEEK_END) == 0;
	long n = ok ? ftell(f) : -1;
	char *p = NULL;
	ok = n >= 0 && n <= SOURCE_MOST && fseek(f, 0, SEEK_SET) == 0 &&
	     (p = arena_alloc(c->arena, (size_t)n + 1)) && fread(p, 1, (size_t)n, f) == (size_t)n;
	fclose(f);
	if (!ok) {
		diag_add(c->diags, DIAG_ERROR, at, "cannot read \"%.*s\"", STR_ARG(path));
		return false;
	}
	*out = (struct str){p, (size_t)n};
	model_watch(c->model, path);
	return true;
}

/* config.core.v3.DataSource. False: absent, or an error was reported. */
static bool read_source(struct compile *c, const struct doc *d, struct str *out, struct str *path)
{
	const struct doc *v;
	if (!d || d->kind != DOC_MAP)
		return false;
	*path = (struct str){NULL, 0};
	if ((v = doc_field(d, "inline_string")) && v->kind == DOC_STRING) {
		*out = v->text;
		return true;
	}
	if ((v = doc_field(d, "inline_bytes"))) {
		if (crypto_decode(c->arena, v->text, out))
			return true;
		bad(c, v, "is not base64");
		return false;
	}
	if ((v = doc_field(d, "filename"))) {
		*path = v->text;
		return read_file(c, v, v->text, out);
	}
	if ((v = doc_field(d, "environment_variable"))) {
		char *name = arena_strz(c->arena, v->text);
		const char *e = name ? getenv(name) : NULL;
		if (!e) {
			bad(c, v, "the environment variable is not set");
			return false;
		}
		*out = arena_str(c->arena, str_of(e));
		return out->p != NULL;
	}
	bad(c, d,
	    "a script source needs filename, inline_string, inline_bytes or environment_variable");
	return false;
}

static struct str *read_list(struct compile *c, const struct doc *cfg, const char *field,
			     unsigned *n)
{
	const struct doc *d = doc_field(cfg, field);
	*n = 0;
	if (!d || d->kind != DOC_LIST || !d->n)
		return NULL;
	struct str *list = arena_alloc(c->arena, d->n * sizeof *list);
	if (list)
		doc_each (e, d)
			list[(*n)++] = e->text;
	return list;
}

static struct str text_field(const struct doc *cfg, const char *field)
{
	const struct doc *d = doc_field(cfg, field);
	return d ? d->text : (struct str){NULL, 0};
}

static int word(const struct doc *cfg, const char *field, const char *const *names)
{
	const struct doc *d = doc_field(cfg, field);
	for (int i = 0; d && names[i]; i++)
		if (str_ieq(d->text, str_of(names[i])))
			return i;
	return d && d->kind == DOC_NUMBER && d->is_int && d->integer >= 0 && d->integer < 8
		       ? (int)d->integer
		       : -1;
}

/* postern's own fields (design.md 3); in Envoy's messages there are none. */
static struct policy read_policy(struct compile *c, const struct doc *cfg)
{
	static const char *const on_error[] = {"CONTINUE", "FAIL", NULL}, *const libraries[] = {
										  "STANDARD",
										  "STRICT", "FULL",
										  NULL};
	struct policy p = {.on_error = (int8_t)word(cfg, "on_error", on_error),
			   .libraries = (int8_t)word(cfg, "libraries", libraries),
			   .respond_in_response = -1};
	const struct doc *d = doc_field(cfg, "error_status");
	if (d) {
		if (!d->is_int || d->integer < 200 || d->integer > 599)
			bad(c, d, "must be between 200 and 599");
		else
			p.error_status = (uint16_t)d->integer;
	}
	if ((d = doc_field(cfg, "respond_in_response")))
		p.respond_in_response = d->kind == DOC_BOOL && d->boolean;
	return p;
}

struct shared { /* what all scripts of one message have in common */
	struct script like;
	struct vm *check;
};

static void shared_read(struct compile *c, const struct doc *cfg, const struct policy *p,
			struct shared *s)
{
	*s = (struct shared){
		.like = {.libraries = p->libraries >= 0 ? p->libraries
							: (int8_t)c->model->options.lua_libraries}};
	s->like.paths = read_list(c, cfg, "package_paths", &s->like.npaths);
	s->like.cpaths = read_list(c, cfg, "package_cpaths", &s->like.ncpaths);
}

static void one_line(char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
			p[i] = ' ';
}

/* Makes a script and loads it once, on this thread, to see whether it loads. NULL: an error was
 * reported. */
static const struct script *load(struct compile *c, struct shared *sh, const struct doc *at,
				 struct str source, struct str path, struct str shared_vm_id)
{
	struct script like = sh->like;
	struct str error = {NULL, 0};
	if (c->model->lint)
		lint_check(c, at, source, path);
	like.source = lint_breaks(source, c->arena);
	like.path = path;
	like.shared_vm_id = shared_vm_id;
	like.writes_chunks = str_find(source, STR("setBytes")) >= 0;
	const struct script *s = script_add(&like);
	if (!s) {
		bad(c, at, "not enough memory");
		return NULL;
	}
	if (!sh->check)
		sh->check = vm_new(NULL, (size_t)c->model->options.lua_worker_mib << 20);
	struct script_env *e = sh->check ? vm_script(sh->check, s, c->arena, &error) : NULL;
	if (e && !error.p) {
		if (like.libraries == LIBRARIES_FULL)
			diag_add(c->diags, DIAG_WARNING, at,
				 "this script may do whatever this process may (libraries: FULL)");
		return s;
	}
	if (!error.p)
		error = STR("not enough memory");
	char *text = arena_strz(c->arena, error);
	if (text)
		one_line(text, error.n);
	diag_add(c->diags, DIAG_ERROR, at, "script load error: %s", text ? text : "");
	script_unref(s);
	return NULL;
}

static bool read_named(struct compile *c, struct shared *sh, const struct doc *map,
		       struct lua_filter *f)
{
	if (!map || map->kind != DOC_MAP || !map->n)
		return true;
	f->named = arena_zalloc(c->arena, map->n * sizeof *f->named);
	if (!f->named)
		return false;
	bool ok = true;
	doc_each (d, map) {
		struct str source, path;
		const struct script *s =
			read_source(c, d, &source, &path)
				? load(c, sh, d, source, path, (struct str){NULL, 0})
				: NULL;
		ok &= s != NULL;
		if (s)
			f->named[f->nnamed++] =
				(struct named_script){arena_str(c->arena, d->key), s};
	}
	return ok;
}

static bool read_default(struct compile *c, struct shared *sh, const struct doc *cfg,
			 struct lua_filter *f)
{
	const struct doc *inline_code = doc_field(cfg, "inline_code"),
			 *d = doc_field(cfg, "default_source_code");
	struct str source = {NULL, 0}, path = {NULL, 0};
	if (inline_code && inline_code->text.n) {
		if (d) {
			bad(c, d,
			    "Only one of `inline_code` or `default_source_code` can be set for the "
			    "Lua filter.");
			return false;
		}
		source = inline_code->text;
		d = inline_code;
	} else if (!d) {
		return true; /* a filter that does nothing */
	} else if (!read_source(c, d, &source, &path)) {
		return false;
	}
	f->script = load(c, sh, d, source, path, text_field(cfg, "shared_vm_id"));
	return f->script != NULL;
}

void *script_compile(struct compile *c, const struct doc *cfg)
{
	struct lua_filter *f = arena_zalloc(c->arena, sizeof *f);
	if (!f) {
		bad(c, cfg, "not enough memory");
		return NULL;
	}
	struct shared sh;
	struct str prefix = text_field(cfg, "stat_prefix"),
		   hcm = c->hcm ? c->hcm->stat_prefix : STR("");
	const struct doc *d = doc_field(cfg, "clear_route_cache");
	f->policy = read_policy(c, cfg);
	shared_read(c, cfg, &f->policy, &sh);
	f->clear_route_cache = !d || d->kind != DOC_BOOL || d->boolean;
	f->context = doc_field(cfg, "filter_context");
	f->stat_prefix = arena_printf(c->arena, "http.%.*s.lua.%.*s%s", STR_ARG(hcm),
				      STR_ARG(prefix), prefix.n ? "." : "");
	f->errors = stat_registerf(STAT_COUNTER, "%.*serrors", STR_ARG(f->stat_prefix));
	f->executions = stat_registerf(STAT_COUNTER, "%.*sexecutions", STR_ARG(f->stat_prefix));
	f->cpu_ms = stat_registerf(STAT_COUNTER, "%.*scpu_ms", STR_ARG(f->stat_prefix));
	bool ok = read_default(c, &sh, cfg, f);
	ok &= read_named(c, &sh, doc_field(cfg, "source_codes"), f);
	vm_free(sh.check);
	if (ok && f->stat_prefix.p)
		return f;
	script_free_config(f);
	return NULL;
}

void *script_compile_route(struct compile *c, const struct doc *cfg)
{
	struct lua_route *r = arena_zalloc(c->arena, sizeof *r);
	if (!r) {
		bad(c, cfg, "not enough memory");
		return NULL;
	}
	struct shared sh;
	const struct doc *d;
	r->is_route = true;
	r->policy = read_policy(c, cfg);
	shared_read(c, cfg, &r->policy, &sh);
	r->context = doc_field(cfg, "filter_context");
	bool ok = true;
	if ((d = doc_field(cfg, "disabled"))) {
		r->disabled = d->kind == DOC_BOOL && d->boolean;
		if (!r->disabled) {
			bad(c, d, "LuaPerRoute.disabled must be true when it is given");
			ok = false;
		}
	} else if ((d = doc_field(cfg, "name"))) {
		r->name = arena_str(c->arena, d->text);
		if (d->text.n == 0) {
			bad(c, d, "LuaPerRoute.name must not be empty");
			ok = false;
		}
	} else if ((d = doc_field(cfg, "source_code"))) {
		struct str source, path;
		if (read_source(c, d, &source, &path))
			r->script = load(c, &sh, d, source, path, text_field(cfg, "shared_vm_id"));
		ok = r->script != NULL;
	}
	vm_free(sh.check);
	if (ok)
		return r;
	script_free_config(r);
	return NULL;
}

void script_free_config(void *config)
{
	struct lua_route *r = config;
	struct lua_filter *f = config;
	if (!config)
		return;
	if (r->is_route) {
		if (r->script)
			script_unref(r->script);
		return;
	}
	if (f->script)
		script_unref(f->script);
	for (unsigned i = 0; i < f->nnamed; i++)
		script_unref(f->named[i].script);
}

static const char *const type_urls[] = {"envoy.extensions.filters.http.lua.v3.Lua",
					"postern.filters.http.lua.v1.Lua",
					"envoy.config.filter.http.lua.v2.Lua", NULL};
static const char *const route_urls[] = {"envoy.extensions.filters.http.lua.v3.LuaPerRoute",
					 "postern.filters.http.lua.v1.LuaPerRoute", NULL};

const struct filter_type filter_lua = {.name = "envoy.filters.http.lua",
				       .type_urls = type_urls,
				       .route_urls = route_urls,
				       .compile = script_compile,
				       .compile_route = script_compile_route,
				       .free_config = script_free_config,
				       .request = run_request,
				       .response = run_response,
				       .resume = run_resume,
				       .body = run_body,
				       .end = run_end};

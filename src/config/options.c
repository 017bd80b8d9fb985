/* src/config/options.c */
#include "config/options_int.h"
#include "config/scalar_int.h"
#include <stddef.h>
#include <stdio.h>

enum option_kind {
	OPTION_NUMBER,
	OPTION_ON_ERROR,
	OPTION_STATUS,
	OPTION_LIBRARIES,
	OPTION_RESPOND
};

static const struct option {
	const char *key; /* behind "postern." */
	enum option_kind kind;
	size_t at; /* OPTION_NUMBER: in struct options */
	uint64_t def, min, max;
} options[] = {
#define X(field, key, def, min, max) \
	{key, OPTION_NUMBER, offsetof(struct options, field), def, min, max},
	OPTIONS(X)
#undef X
		{"lua.on_error", OPTION_ON_ERROR, 0, 0, 0, 0},
	{"lua.error_status", OPTION_STATUS, 0, 500, 200, 599},
	{"lua.libraries", OPTION_LIBRARIES, 0, 0, 0, 0},
	{"lua.respond_in_response", OPTION_RESPOND, 0, 0, 0, 1},
};
enum { OPTIONS_N = sizeof options / sizeof *options };

static const char *const on_error_names[] = {"continue", "fail", NULL};
static const char *const library_names[] = {"standard", "strict", "full", NULL};

static void defaults(struct options *o)
{
	*o = (struct options){.lua_error_status = 500};
	for (size_t i = 0; i < OPTIONS_N; i++)
		if (options[i].kind == OPTION_NUMBER)
			*(uint64_t *)((char *)o + options[i].at) = options[i].def;
}

/* A number; of an option that is on or off also true and false, as text too (--set). */
static bool number(struct reader *r, const struct doc *v, const struct option *k, uint64_t *out)
{
	bool on = v->kind == DOC_BOOL ? v->boolean : str_eq(v->text, STR("true"));
	bool is_switch = v->kind == DOC_BOOL || str_eq(v->text, STR("true")) ||
			 str_eq(v->text, STR("false"));
	if (k->max == 1 && is_switch && v->kind <= DOC_STRING) {
		*out = on;
		return true;
	}
	if (!scalar_u64(v, out)) {
		if (k->max == 1)
			diag_add(r->diags, DIAG_ERROR, v, "must be true or false");
		else
			diag_add(r->diags, DIAG_ERROR, v, "must be a whole number, %llu to %llu",
				 (unsigned long long)k->min, (unsigned long long)k->max);
		return false;
	}
	if (*out >= k->min && *out <= k->max)
		return true;
	diag_add(r->diags, DIAG_ERROR, v, "%llu is out of range, %llu to %llu",
		 (unsigned long long)*out, (unsigned long long)k->min, (unsigned long long)k->max);
	return false;
}

static bool one_of(struct reader *r, const struct doc *v, const char *const *names, unsigned *out)
{
	char all[80] = "";
	size_t at = 0;
	for (unsigned i = 0; names[i]; i++) {
		if (v->kind == DOC_STRING && str_ieq(v->text, str_of(names[i]))) {
			*out = i;
			return true;
		}
		at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", names[i]);
	}
	diag_add(r->diags, DIAG_ERROR, v, "must be one of %s", all);
	return false;
}

static void set(struct reader *r, struct options *o, const struct option *k, const struct doc *v)
{
	uint64_t u;
	unsigned i;
	if (k->kind == OPTION_ON_ERROR) {
		if (one_of(r, v, on_error_names, &i))
			o->lua_on_error = i == 0 ? ON_ERROR_CONTINUE : ON_ERROR_FAIL;
		return;
	}
	if (k->kind == OPTION_LIBRARIES) {
		if (one_of(r, v, library_names, &i))
			o->lua_libraries = i == 0   ? LIBS_STANDARD
					   : i == 1 ? LIBS_STRICT
						    : LIBS_FULL;
		return;
	}
	if (!number(r, v, k, &u))
		return;
	if (k->kind == OPTION_NUMBER)
		*(uint64_t *)((char *)o + k->at) = u;
	else if (k->kind == OPTION_STATUS)
		o->lua_error_status = (unsigned)u;
	else
		o->lua_respond_in_response = u;
}

static const struct option *find(struct str name)
{
	for (size_t i = 0; i < OPTIONS_N; i++)
		if (str_eq(name, str_of(options[i].key)))
			return &options[i];
	return NULL;
}

/* key is whole, "postern." included. */
static void set_key(struct reader *r, struct options *o, struct str key, const struct doc *v)
{
	const char *names[OPTIONS_N + 1];
	struct str name = str_from(key, sizeof "postern." - 1);
	const struct option *k = find(name);
	if (k) {
		set(r, o, k, v);
		return;
	}
	diag_add(r->diags, DIAG_ERROR, v, "unknown option %.*s", key.n > 100 ? 100 : (int)key.n,
		 key.p);
	for (size_t i = 0; i < OPTIONS_N; i++)
		names[i] = options[i].key;
	names[OPTIONS_N] = NULL;
	const char *near = diag_nearest(name, names);
	if (near)
		diag_hint(r->diags, "did you mean \"postern.%s\"?", near);
}

/* Structs in a layer are names in parts: {postern: {lua: {on_error: fail}}} is
 * postern.lua.on_error. */
static void walk(struct reader *r, struct options *o, struct str prefix, const struct doc *d,
		 unsigned depth, bool *told)
{
	doc_each (e, d) {
		char key[256];
		int n = snprintf(key, sizeof key, "%.*s%s%.*s", STR_ARG(prefix),
				 prefix.n ? "." : "", e->key.n > 128 ? 128 : (int)e->key.n,
				 e->key.p);
		struct str whole = {key, n < 0                    ? 0
					 : (size_t)n < sizeof key ? (size_t)n
								  : sizeof key - 1};
		bool ours = str_starts(whole, STR("postern.")) || str_eq(whole, STR("postern"));
		if (e->kind == DOC_NULL)
			continue;
		if (e->kind == DOC_MAP && depth < 16) {
			walk(r, o, whole, e, depth + 1, told);
		} else if (ours) {
			set_key(r, o, whole, e);
		} else if (!*told) {
			diag_add(r->diags, DIAG_NOTICE, e,
				 "has no effect here: of runtime keys only postern.* are read");
			*told = true;
		}
	}
}

void options_read(struct reader *r, const struct doc *bootstrap, const struct str *sets,
		  unsigned nsets, struct options *out)
{
	bool told = false;
	defaults(out);
	const struct doc *layers = read_field(read_field(bootstrap, "layered_runtime"), "layers");
	if (layers && layers->kind == DOC_LIST)
		doc_each (layer, layers) {
			const struct doc *s = read_field(layer, "static_layer");
			if (s && s->kind == DOC_MAP)
				walk(r, out, STR(""), s, 0, &told);
		}
	for (unsigned i = 0; i < nsets; i++) {
		struct str key, value;
		bool has = str_cut(sets[i], '=', &key, &value);
		key = str_trim(key);
		struct doc v = {.kind = DOC_STRING, .text = str_trim(value)};
		v.at.file = "--set";
		if (!has)
			diag_add(r->diags, DIAG_ERROR, &v, "%.*s: write postern.NAME=VALUE",
				 STR_ARG(sets[i]));
		else if (!str_starts(key, STR("postern.")))
			diag_add(r->diags, DIAG_ERROR, &v,
				 "%.*s: only postern.* options can be set here", STR_ARG(key));
		else
			set_key(r, out, key, &v);
	}
}

/* src/model/format_test.c */
#include "base/mem.h"
#include "base/must.h"
#include "model/format.h"
#include <stdio.h>
#include <stdlib.h>

static struct arena arena;
static struct diags diags;

/* A format as text again: text as it is, operators as <number:name?alt:max text>, whole ones
 * with '!'. */
static const char *shown(const struct format *f)
{
	static char out[4096];
	size_t n = 0;
	out[0] = 0;
	if (!f)
		return "error";
	for (unsigned i = 0; i < f->n; i++) {
		const struct format_part *p = &f->parts[i];
		if (p->op == FMT_TEXT) {
			n += (size_t)snprintf(out + n, sizeof out - n, "%.*s", STR_ARG(p->text));
			continue;
		}
		n += (size_t)snprintf(out + n, sizeof out - n, "<%d%s%s:%.*s", p->op,
				      p->whole ? "!" : "", p->no_query ? "#" : "",
				      STR_ARG(p->name));
		if (p->alt.n)
			n += (size_t)snprintf(out + n, sizeof out - n, "?%.*s", STR_ARG(p->alt));
		if (p->max)
			n += (size_t)snprintf(out + n, sizeof out - n, ":%u", p->max);
		if (p->text.n)
			n += (size_t)snprintf(out + n, sizeof out - n, " %.*s", STR_ARG(p->text));
		n += (size_t)snprintf(out + n, sizeof out - n, ">");
	}
	return out;
}

static void is(const char *text, const char *want, ...) __attribute__((format(printf, 2, 3)));
static void is(const char *text, const char *want, ...)
{
	char buf[4096];
	va_list ap;
	va_start(ap, want);
	vsnprintf(buf, sizeof buf, want, ap);
	va_end(ap);
	const char *got = shown(format_compile(&arena, &diags, NULL, str_of(text)));
	if (strcmp(got, buf) != 0) {
		fprintf(stderr, "%s: %s, not %s\n", text, got, buf);
		diags_print(&diags, stderr);
		must(!"same");
	}
}

static void refused(const char *text, const char *why, const char *hint)
{
	diags_fini(&diags);
	must(!format_compile(&arena, &diags, NULL, str_of(text)));
	must(diags.errors == 1 && diags.first);
	if (!strstr(diags.first->text.p, why) || (hint && !strstr(diags.first->hint.p, hint))) {
		diags_print(&diags, stderr);
		must(!"the message");
	}
	diags_fini(&diags);
}

static void texts(void)
{
	setenv("POSTERN_TEST", "of\"it", 1);
	is("", "%s", "");
	is("a b", "a b");
	is("100%%", "100%%");
	is("%%%PROTOCOL%%%", "%%<%d:>%%", FMT_PROTOCOL);
	is("%REQ(X-A?Host):7%!", "<%d:x-a?:authority:7>!", FMT_REQ);
	is("%REQ(:METHOD)%%RESP(a)%", "<%d::method><%d:a>", FMT_REQ, FMT_RESP);
	is("%START_TIME(%Y %s)%", "<%d: %s>", FMT_START_TIME, "%Y %s");
	is("%DYNAMIC_METADATA(a:b)%", "<%d: a:b>", FMT_DYNAMIC_METADATA);
	is("%DYNAMIC_METADATA([\"a\",\"b\"])%", "<%d: a:b>", FMT_DYNAMIC_METADATA);
	is("%ENVIRONMENT(POSTERN_TEST)%", "<%d: of\"it>", FMT_ENVIRONMENT);
	is("%ENVIRONMENT(POSTERN_NONE)%", "<%d: ->", FMT_ENVIRONMENT);
	is("%PATH%", "<%d:x-envoy-original-path?:path>", FMT_REQ);
	is("%PATH(NQ:PATH):3%", "<%d#::path:3>", FMT_REQ);
	is("%PATH(WQ:ORIG)%", "<%d:x-envoy-original-path>", FMT_REQ);
	must(format_compile(&arena, &diags, NULL, str_of(format_default_line)));
	const struct format *f = format_compile(&arena, &diags, NULL, STR("%REQ(COOKIE?X-OTHER)%"));
	must(f && f->n == 1 && f->parts[0].id == FIELD_COOKIE && f->parts[0].alt_id == FIELD_OTHER);
	f = format_compile(&arena, &diags, NULL, STR("x%REQ(a)%"));
	must(f && f->kind == FORMAT_TEXT && f->n == 2 && !f->parts[1].whole);
}

static void mistakes(void)
{
	refused("50% x", "position 2", NULL);
	refused("%", "position 0", NULL);
	refused("a%REQ(x", "position 1", NULL);
	refused("%REQ(x):%", "position 0", NULL);
	refused("%PROTOCOL", "position 0", NULL);
	refused("%REQ%", "needs arguments", NULL);
	refused("%PROTOCOL(x)%", "no arguments", NULL);
	refused("%PROTOCOL:5%", "no length", NULL);
	refused("%REQ(a?b?c)%", "more than one", NULL);
	refused("%REQ(a):99999999999%", "too large", NULL);
	refused("%PROTOCOLL%", "unknown command %PROTOCOLL%", "PROTOCOL");
	refused("%UPSTREAM_PEER_CERT%", "known to Envoy but not supported", NULL);
	refused("%PATH(XX)%", "WQ or NQ", NULL);
	refused("%PATH(NQ:XX)%", "ORIG", NULL);
}

static struct doc *put(struct doc *to, const char *key, enum doc_kind kind, const char *text)
{
	struct doc *d = doc_new(&arena, kind, (struct doc_place){0});
	must(d);
	d->text = str_of(text);
	doc_add(to, str_of(key), d);
	return d;
}

static struct doc *sample(void)
{
	struct doc *m = doc_new(&arena, DOC_MAP, (struct doc_place){0});
	must(m);
	put(m, "b", DOC_STRING, "%RESPONSE_CODE%");
	put(m, "a\"", DOC_STRING, "x\n%REQ(y)%\"");
	struct doc *l = put(m, "c", DOC_LIST, "");
	struct doc *n = put(l, "", DOC_NUMBER, "5");
	n->is_int = true, n->integer = 5;
	put(l, "", DOC_NUMBER, "5.5")->number = 5.5;
	put(l, "", DOC_BOOL, "true")->boolean = true;
	put(l, "", DOC_NULL, "");
	put(l, "", DOC_STRING, "%PROTOCOL%");
	put(put(m, "d", DOC_MAP, ""), "z", DOC_STRING, "%DURATION%");
	put(m, "e", DOC_MAP, "");
	put(m, "f", DOC_STRING, "");
	put(m, "g", DOC_STRING, "%RESPONSE_CODE%%PROTOCOL%");
	return m;
}

static void json(void)
{
	char want[512];
	const struct format *f = format_compile_json(&arena, &diags, sample());
	snprintf(want, sizeof want,
		 "{\"a\\\"\":\"x\\n<%d:y>\\\"\",\"b\":<%d!:>,\"c\":[5,\"5.5\",true,null,<%d!:>],"
		 "\"d\":{\"z\":<%d!:>},\"e\":{},\"f\":\"\",\"g\":\"<%d:><%d:>\"}",
		 FMT_REQ, FMT_RESPONSE_CODE, FMT_PROTOCOL, FMT_DURATION, FMT_RESPONSE_CODE,
		 FMT_PROTOCOL);
	if (strcmp(shown(f), want) != 0) {
		fprintf(stderr, "%s\nnot\n%s\n", shown(f), want);
		must(!"same");
	}
	must(f->kind == FORMAT_JSON && str_eq(f->parts[3].key, STR("b")));
	struct doc *deep = doc_new(&arena, DOC_MAP, (struct doc_place){0}), *d = deep;
	for (int i = 0; i < 100; i++)
		d = put(d, "k", DOC_MAP, "");
	must(!format_compile_json(&arena, &diags, deep) && diags.errors == 1);
	diags_fini(&diags);
}

static void out_of_memory(void)
{
	struct doc *m = sample();
	for (uint64_t nth = 1;; nth++) {
		struct arena a;
		arena_init(&a, 1 << 20);
		arena_trim();
		mem_fail_nth(nth);
		const struct format *f = format_compile_json(&a, &diags, m);
		const struct format *g = format_compile(
			&a, &diags, m, STR("a%REQ(X?y)%b%DYNAMIC_METADATA(a)%%HOSTNAME%"));
		uint64_t left = mem_fail_left();
		mem_fail_nth(0);
		must((f && g) == (left > 0) || diags.errors == 0);
		diags_fini(&diags);
		arena_fini(&a);
		if (left)
			break;
	}
}

int main(void)
{
	arena_init(&arena, 1 << 20);
	diags_init(&diags);
	texts();
	mistakes();
	json();
	out_of_memory();
	diags_fini(&diags);
	arena_fini(&arena);
	arena_trim();
	return 0;
}

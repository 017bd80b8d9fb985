/* src/filters/lua/lint_check.c: findings about a configured script, as diagnostics with file and
 * line. */
#include "filters/lua/lint.h"
#include "model/filter.h"
#include "model/model.h"

struct place {
	struct compile *c;
	const struct doc *d;
	struct str path;
	const char *file; /* path with a NUL */
	bool block;       /* the script stands in YAML line by line */
};

static bool known(void *arg, struct str name)
{
	const struct place *p = arg;
	return cluster_find(p->c->model, name) != NULL;
}

static void say(void *arg, enum diag_level level, uint32_t line, uint32_t column, const char *text,
		const char *hint)
{
	const struct place *p = arg;
	struct doc_place at = p->d->at;
	if (p->file)
		diag_at(p->c->diags, level, (struct doc_place){p->file, line, column}, "%s", text);
	else if (p->block)
		/* the line with the | comes first; how far the block is indented is not known */
		diag_at(p->c->diags, level, (struct doc_place){at.file, at.line + line, 1}, "%s",
			text);
	else
		diag_add(p->c->diags, level, p->d, "line %u of the script: %s", line, text);
	if (hint[0])
		diag_hint(p->c->diags, "%s", hint);
}

void lint_check(struct compile *c, const struct doc *d, struct str source, struct str path)
{
	struct arena scratch;
	const struct doc *text = doc_field(d, "inline_string");
	struct place p = {.c = c, .d = text ? text : d, .path = path};
	arena_init(&scratch, 256u << 20);
	const char **names = arena_zalloc(&scratch, (c->model->nclusters + 1) * sizeof *names);
	for (unsigned i = 0; names && i < c->model->nclusters; i++)
		names[i] = arena_strz(&scratch, c->model->clusters[i]->name);
	p.file = path.p ? arena_strz(&c->diags->arena, path) : NULL;
	bool json = p.d->at.file && str_ends(str_of(p.d->at.file), STR(".json"));
	p.block = !json && p.d->kind == DOC_STRING && memchr(source.p, '\n', source.n) != NULL;
	struct lint_env env = {.cluster_known = known, .clusters = names, .say = say, .arg = &p};
	if (names && !scratch.over)
		lint_script(source, &scratch, &env);
	arena_fini(&scratch);
}

/* src/filters/lua/lint_token.c: bytes to tokens, tokens to brackets and blocks. */
#include "filters/lua/lint_int.h"
#include <string.h>

enum { TOKENS_MOST = 1 << 20, DEPTH_MOST = 400 };

static const char *const keywords[] = {
	[KEY_AND] = "and",     [KEY_BREAK] = "break",   [KEY_DO] = "do",
	[KEY_ELSE] = "else",   [KEY_ELSEIF] = "elseif", [KEY_END] = "end",
	[KEY_FALSE] = "false", [KEY_FOR] = "for",       [KEY_FUNCTION] = "function",
	[KEY_GOTO] = "goto",   [KEY_IF] = "if",         [KEY_IN] = "in",
	[KEY_LOCAL] = "local", [KEY_NIL] = "nil",       [KEY_NOT] = "not",
	[KEY_OR] = "or",       [KEY_REPEAT] = "repeat", [KEY_RETURN] = "return",
	[KEY_THEN] = "then",   [KEY_TRUE] = "true",     [KEY_UNTIL] = "until",
	[KEY_WHILE] = "while"};

static bool name_byte(unsigned char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80 ||
	       (!first && c >= '0' && c <= '9');
}

/* The level of a long bracket at p ("[[", "[==["), or -1. */
static int long_bracket(const char *p, const char *end)
{
	const char *q = p + 1;
	while (q < end && *q == '=')
		q++;
	return q < end && *q == '[' ? (int)(q - p - 1) : -1;
}

/* Behind the closing bracket of that level; end when it is missing. */
static const char *long_end(const char *p, const char *end, int level)
{
	for (; p < end; p++) {
		if (*p != ']')
			continue;
		const char *q = p + 1;
		while (q < end && *q == '=')
			q++;
		if (q < end && *q == ']' && q - p - 1 == level)
			return q + 1;
	}
	return end;
}

static const char *short_end(const char *p, const char *end)
{
	char quote = *p++;
	for (; p < end && *p != quote && *p != '\n'; p++)
		if (*p == '\\' && p + 1 < end)
			p++;
	return p < end ? p + 1 : end;
}

static const char *skip_space(const char *p, const char *end)
{
	for (;;) {
		while (p < end && (*p == ' ' || (*p >= '\t' && *p <= '\r')))
			p++;
		if (end - p < 2 || p[0] != '-' || p[1] != '-')
			return p;
		int level = p + 2 < end && p[2] == '[' ? long_bracket(p + 2, end) : -1;
		if (level >= 0) {
			p = long_end(p + 4 + level, end, level);
		} else {
			while (p < end && *p != '\n')
				p++;
		}
	}
}

static int keyword(const char *p, size_t n)
{
	for (int k = KEY_AND; k < KEYS; k++)
		if (strlen(keywords[k]) == n && memcmp(keywords[k], p, n) == 0)
			return k;
	return KEY_NONE;
}

/* One token at p (not at the end). */
static struct token next(const char *p, const char *end)
{
	static const char twos[][3] = {"==", "~=", "<=", ">=", "::", ".."};
	struct token t = {.kind = TOKEN_OP, .text = {p, 1}, .op = *p};
	const char *q = p + 1;
	int level;
	if (name_byte((unsigned char)*p, true)) {
		while (q < end && name_byte((unsigned char)*q, false))
			q++;
		t.key = (uint8_t)keyword(p, (size_t)(q - p));
		t.kind = t.key ? TOKEN_KEY : TOKEN_NAME;
	} else if (*p == '"' || *p == '\'') {
		q = short_end(p, end);
		t.kind = TOKEN_STRING;
		t.value = (struct str){
			p + 1, (size_t)(q - p) >= 2 && q[-1] == *p ? (size_t)(q - p - 2) : 0};
	} else if (*p == '[' && (level = long_bracket(p, end)) >= 0) {
		const char *from = p + 2 + level;
		q = long_end(from, end, level);
		t.kind = TOKEN_STRING;
		t.value = (struct str){from,
				       q - from >= level + 2 ? (size_t)(q - from - level - 2) : 0};
	} else if ((*p >= '0' && *p <= '9') || (*p == '.' && q < end && *q >= '0' && *q <= '9')) {
		while (q < end && (name_byte((unsigned char)*q, false) || *q == '.' ||
				   ((*q == '+' || *q == '-') && (q[-1] | 32) == 'e')))
			q++;
		t.kind = TOKEN_NUMBER;
	} else {
		for (unsigned i = 0; i < sizeof twos / sizeof *twos; i++)
			if (q < end && p[0] == twos[i][0] && *q == twos[i][1]) {
				q++;
				t.op = "e!lgC."[i]; /* the spellings of OP_ in lint_int.h */
				t.op = (char)(t.op | 0x80);
				break;
			}
	}
	t.text.n = (size_t)(q - p);
	if (t.kind == TOKEN_NAME || t.kind == TOKEN_NUMBER)
		t.value = t.text;
	return t;
}

bool lint_tokens(struct str source, struct arena *a, struct tokens *out)
{
	const char *p = source.p, *end = source.p + source.n, *line_at = p;
	uint32_t line = 1;
	size_t n = 0, cap = source.n / 2 + 16;
	if (cap > TOKENS_MOST)
		cap = TOKENS_MOST;
	struct token *t = arena_alloc(a, cap * sizeof *t);
	if (!t)
		return false;
	if (source.n &&
	    *p == '#') /* Lua itself passes over it in files only; scripts are loaded as texts */
		return false;
	while ((p = skip_space(p, end)) < end) {
		if (n + 1 >= cap) {
			struct token *more =
				cap < TOKENS_MOST ? arena_alloc(a, cap * 2 * sizeof *t) : NULL;
			if (!more)
				return false;
			memcpy(more, t, n * sizeof *t);
			t = more;
			cap *= 2;
		}
		for (const char *nl; (nl = memchr(line_at, '\n', (size_t)(p - line_at)));
		     line_at = nl + 1)
			line++;
		t[n] = next(p, end);
		t[n].line = line;
		t[n].column = (uint32_t)(p - line_at) + 1;
		t[n].mate = 0;
		p += t[n].text.n;
		n++;
	}
	t[n] = (struct token){.kind = TOKEN_END, .text = {end, 0}, .line = line, .column = 1};
	out->t = t;
	out->n = (uint32_t)n;
	return true;
}

static bool opens(const struct token *t)
{
	return (t->kind == TOKEN_OP && (t->op == '(' || t->op == '[' || t->op == '{')) ||
	       (t->kind == TOKEN_KEY && (t->key == KEY_FUNCTION || t->key == KEY_DO ||
					 t->key == KEY_IF || t->key == KEY_REPEAT));
}

static bool closes(const struct token *open, const struct token *t)
{
	if (open->kind == TOKEN_OP)
		return t->kind == TOKEN_OP && t->op == (open->op == '('   ? ')'
							: open->op == '[' ? ']'
									  : '}');
	return t->kind == TOKEN_KEY && t->key == (open->key == KEY_REPEAT ? KEY_UNTIL : KEY_END);
}

bool lint_pair(struct tokens *k)
{
	uint32_t stack[DEPTH_MOST];
	unsigned depth = 0;
	for (uint32_t i = 0; i < k->n; i++) {
		struct token *t = &k->t[i];
		bool closer =
			(t->kind == TOKEN_OP && (t->op == ')' || t->op == ']' || t->op == '}')) ||
			(t->kind == TOKEN_KEY && (t->key == KEY_END || t->key == KEY_UNTIL));
		if (opens(t)) {
			if (depth == DEPTH_MOST)
				return false;
			stack[depth++] = i;
		} else if (closer) {
			if (!depth || !closes(&k->t[stack[depth - 1]], t))
				return false;
			t->mate = stack[--depth];
			k->t[t->mate].mate = i;
		}
	}
	return depth == 0;
}

/* What may follow a break that ends its block. */
static bool ends_block(const struct token *t)
{
	return t->kind == TOKEN_END ||
	       (t->kind == TOKEN_KEY && (t->key == KEY_END || t->key == KEY_ELSE ||
					 t->key == KEY_ELSEIF || t->key == KEY_UNTIL));
}

bool lint_mid_break(const struct tokens *k, uint32_t i)
{
	if (k->t[i].kind != TOKEN_KEY || k->t[i].key != KEY_BREAK)
		return false;
	uint32_t after = i + 1;
	if (k->t[after].kind == TOKEN_OP && k->t[after].op == ';')
		after++;
	return !ends_block(&k->t[after]);
}

struct str lint_breaks(struct str source, struct arena *a)
{
	static const char instead[] = "do break end";
	struct tokens k;
	size_t n = 0, from = 0;
	unsigned found = 0;
	if (str_find(source, STR("break")) < 0)
		return source;
	struct arena scratch;
	arena_init(&scratch, SIZE_MAX);
	char *out = NULL;
	if (lint_tokens(source, &scratch, &k)) {
		for (uint32_t i = 0; i < k.n; i++)
			found += lint_mid_break(&k, i);
		out = found ? arena_alloc(a, source.n + found * sizeof instead) : NULL;
	}
	for (uint32_t i = 0; out && i < k.n; i++) {
		if (!lint_mid_break(&k, i))
			continue;
		size_t at = (size_t)(k.t[i].text.p - source.p);
		memcpy(out + n, source.p + from, at - from);
		n += at - from;
		memcpy(out + n, instead, sizeof instead - 1);
		n += sizeof instead - 1;
		from = at + k.t[i].text.n;
	}
	arena_fini(&scratch);
	if (!out)
		return source;
	memcpy(out + n, source.p + from, source.n - from);
	return (struct str){out, n + source.n - from};
}

/* src/filters/lua/presize.c: tables that a loop fills are made with room.
 *
 * "local t = {}" makes a table without room, and a loop that copies twenty headers into it makes it
 * grow six times: of all that the usual script does, that is the dearest. LuaJIT's instruction
 * for {} carries a size, which its compiler sets only from what stands between the braces. So
 * a script's bytecode is written out once, when it is loaded, the size set in those that a loop
 * fills later, and read back. Sizes are hints: what a script does is the same.
 *
 * What instructions look like is learnt from this LuaJIT by compiling a few known lines. When any
 * of them is not as expected, or the bytecode is, scripts stay as they were.
 */
#include "filters/lua/lua_int.h"

enum {
	INSTRUCTIONS_MOST = 8192, /* longer functions are left alone */
	AHEAD = 1024,             /* so far behind {} the loop may begin and end */
	SLOTS_LOG2 = 5,           /* fields: a browser's request has about twenty */
	ITEMS = 16,
	DUMP_VERSION = 2,
	DUMP_BIG_ENDIAN = 1,
	NO_JUMP = 0x8000
};

/* Bytes of an instruction. */
enum { AT_OP, AT_A, AT_C, AT_B, WORD };

struct bytes {
	unsigned char *p;
	size_t n, room;
};

static int collect(lua_State *L, const void *p, size_t n, void *to)
{
	struct bytes *b = to;
	if (n > b->room - b->n)
		return 1;
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

static int count(lua_State *L, const void *p, size_t n, void *to)
{
	((struct bytes *)to)->n += n;
	return 0;
}

/* The function on top, written out: pushes a buffer. False: it can't be, and nothing is pushed. */
static bool dump(lua_State *L, struct bytes *b)
{
	*b = (struct bytes){0};
	if (lua_dump(L, count, b))
		return false;
	size_t n = b->n;
	b->p = lua_newuserdata(L, n);
	b->room = n;
	b->n = 0;
	lua_pushvalue(L, -2);
	bool ok = lua_dump(L, collect, b) == 0 && b->n == n;
	lua_pop(L, ok ? 1 : 2);
	return ok;
}

/* --- the form of a dump --- */

struct cursor {
	unsigned char *at, *end;
	bool bad;
};

static unsigned byte(struct cursor *c)
{
	if (c->at == c->end) {
		c->bad = true;
		return 0;
	}
	return *c->at++;
}

static size_t number(struct cursor *c)
{
	size_t v = 0;
	for (unsigned shift = 0; shift < 32; shift += 7) {
		unsigned b = byte(c);
		v |= (size_t)(b & 0x7f) << shift;
		if (b < 0x80)
			return v;
	}
	c->bad = true;
	return 0;
}

static void skip(struct cursor *c, size_t n)
{
	if (n > (size_t)(c->end - c->at))
		c->bad = true;
	else
		c->at += n;
}

/* At the first function. */
static bool open_dump(const struct bytes *b, struct cursor *c, bool *stripped)
{
	*c = (struct cursor){b->p, b->p + b->n, false};
	bool ours = byte(c) == 0x1b && byte(c) == 'L' && byte(c) == 'J' && byte(c) == DUMP_VERSION;
	size_t flags = number(c);
	*stripped = flags & 2;
	if (!*stripped)
		skip(c, number(c));
	return ours && !(flags & DUMP_BIG_ENDIAN) && !c->bad;
}

/* The next function's instructions; *n 0: there is none. The cursor goes behind it. */
static unsigned char *next_function(struct cursor *c, bool stripped, size_t *n)
{
	*n = 0;
	size_t length = number(c);
	struct cursor in = {c->at, c->at, false};
	skip(c, length);
	if (!length || c->bad)
		return NULL;
	in.end = c->at;
	skip(&in, 4); /* flags, parameters, frame, upvalues */
	number(&in);
	number(&in);
	size_t words = number(&in);
	if (!stripped && number(&in)) {
		number(&in);
		number(&in);
	}
	unsigned char *code = in.at;
	skip(&in, words <= SIZE_MAX / WORD ? words * WORD : SIZE_MAX);
	if (in.bad)
		c->bad = true;
	else
		*n = words;
	return code;
}

/* --- learning --- */

static unsigned operand_d(const unsigned char *i)
{
	return i[AT_C] | (unsigned)i[AT_B] << 8;
}

struct sample {
	const char *text;
	unsigned words, at, a, d; /* of the instruction to be learnt */
};
enum { NEW, SET, FORL, ITERL, JUMP, MOVE };
/* clang-format off */
static const struct sample samples[PRESIZE_OPS] = {
	[NEW] = {"local t = {}", 2, 0, 0, 0},
	[SET] = {"local t, k, v; t[k] = v", 3, 1, 2, 1 /* B 0, C 1 */},
	[FORL] = {"for i = 1, 2 do end", 6, 4, 0, NO_JUMP - 1},
	[ITERL] = {"for a in nil do end", 5, 3, 3, NO_JUMP - 2},
	[JUMP] = {"local k while k do end", 6, 4, 1, NO_JUMP - 4},
	[MOVE] = {"local a local b = a", 3, 1, 1, 0},
};
/* clang-format on */

bool presize_learn(lua_State *L, struct presize *ps)
{
	int top = lua_gettop(L);
	ps->known = false;
	for (unsigned k = 0; k < PRESIZE_OPS; k++) {
		const struct sample *s = &samples[k];
		struct bytes b;
		struct cursor c;
		bool stripped;
		size_t n;
		lua_settop(L, top);
		if (luaL_loadbuffer(L, s->text, strlen(s->text), "=postern"))
			lua_error(L);
		if (!dump(L, &b) || !open_dump(&b, &c, &stripped))
			goto out;
		const unsigned char *i = next_function(&c, stripped, &n);
		if (n != s->words)
			goto out;
		i += s->at * WORD;
		if (i[AT_A] != s->a || operand_d(i) != s->d)
			goto out;
		ps->op[k] = i[AT_OP];
		for (unsigned j = 0; j < k; j++)
			if (ps->op[j] == ps->op[k])
				goto out;
	}
	ps->known = true;
out:
	lua_settop(L, top);
	return ps->known;
}

/* --- hints --- */

/* For each instruction: where the innermost loop around it begins, counted from 1; 0: none. */
static void find_loops(const struct presize *ps, const unsigned char *code, unsigned n,
		       uint16_t *loop)
{
	memset(loop, 0, n * sizeof *loop);
	for (unsigned i = 0; i < n; i++) {
		const unsigned char *w = code + i * WORD;
		unsigned d = operand_d(w), back = NO_JUMP - d;
		if ((w[AT_OP] != ps->op[FORL] && w[AT_OP] != ps->op[ITERL] &&
		     w[AT_OP] != ps->op[JUMP]) ||
		    d >= NO_JUMP || back > i + 1 || back > AHEAD)
			continue;
		for (unsigned k = i + 1 - back; k <= i; k++)
			if (loop[k] < i + 2 - back)
				loop[k] = (uint16_t)(i + 2 - back);
	}
}

/* What a later loop does with the table that the instruction at `at` makes. */
static unsigned hint(const struct presize *ps, const unsigned char *code, unsigned n,
		     const uint16_t *loop, unsigned at)
{
	unsigned a = code[at * WORD + AT_A], most = n - at > AHEAD ? at + AHEAD : n;
	bool passed = false;
	for (unsigned i = at + 1; i < most; i++) {
		const unsigned char *w = code + i * WORD;
		if (w[AT_OP] == ps->op[NEW] && w[AT_A] == a)
			break; /* that register's next table */
		if (loop[i] < at + 2)
			continue;
		if (w[AT_OP] == ps->op[SET] && w[AT_B] == a)
			return SLOTS_LOG2 << 11;
		passed |= w[AT_OP] == ps->op[MOVE] && operand_d(w) == a; /* table.insert(t, …) */
	}
	return passed ? ITEMS + 1 : 0;
}

static unsigned set_hints(const struct presize *ps, unsigned char *code, unsigned n, uint16_t *loop)
{
	unsigned set = 0;
	find_loops(ps, code, n, loop);
	for (unsigned i = 0; i < n; i++) {
		unsigned char *w = code + i * WORD;
		unsigned h = w[AT_OP] == ps->op[NEW] && operand_d(w) == 0
				     ? hint(ps, code, n, loop, i)
				     : 0;
		w[AT_C] |= (unsigned char)h;
		w[AT_B] |= (unsigned char)(h >> 8);
		set += h != 0;
	}
	return set;
}

unsigned presize_function(lua_State *L, const struct presize *ps, const char *chunk_name)
{
	struct bytes b;
	struct cursor c;
	bool stripped;
	unsigned set = 0;
	int top = lua_gettop(L);
	if (!ps->known || !dump(L, &b))
		return 0;
	uint16_t *loop = lua_newuserdata(L, INSTRUCTIONS_MOST * sizeof *loop);
	if (open_dump(&b, &c, &stripped)) {
		unsigned char *code;
		size_t n;
		while ((code = next_function(&c, stripped, &n)) && !c.bad)
			if (n <= INSTRUCTIONS_MOST)
				set += set_hints(ps, code, (unsigned)n, loop);
	}
	if (set && !c.bad && !luaL_loadbufferx(L, (const char *)b.p, b.n, chunk_name, "b"))
		lua_replace(L, top);
	else
		set = 0;
	lua_settop(L, top);
	return set;
}

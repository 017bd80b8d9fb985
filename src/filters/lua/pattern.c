/* src/filters/lua/pattern.c: string.find, match, gmatch, gsub and table.sort.
 *
 * LuaJIT's own run in C, where no hook stops them: twelve ".-" in a row, or an order that is
 * quicksort's worst case, hold the worker for minutes. These count their steps and look at the
 * clock's flag (guard_check). The patterns are those of the Lua 5.1 manual, 5.4.1, with %g and %f.
 */
#include "filters/lua/lua_int.h"
#include <ctype.h>

enum { CAPTURES = 32, DEPTH_MOST = 200, LOOK_EVERY = 1024, SET_STEP = 8 };
enum { OPEN = -1, POSITION = -2 };

struct matcher {
	lua_State *L;
	const char *text, *text_end;
	const char *pattern_end;
	uint32_t steps; /* since the last look */
	unsigned depth;
	int ncaptures;
	struct {
		const char *at;
		ptrdiff_t n; /* or OPEN, POSITION */
	} captures[CAPTURES];
};

static __attribute__((noinline)) void look(struct matcher *m)
{
	m->steps = 0;
	guard_check(m->L);
}

static inline void count_more(struct matcher *m, size_t n)
{
	m->steps += (uint32_t)(n < LOOK_EVERY ? n : LOOK_EVERY);
	if (__builtin_expect(m->steps >= LOOK_EVERY, 0))
		look(m);
}

static inline void count(struct matcher *m)
{
	count_more(m, 1);
}

/* --- one character --- */

static bool in_class(unsigned char c, unsigned char letter)
{
	int yes;
	switch (tolower(letter)) {
	case 'a': yes = isalpha(c); break;
	case 'c': yes = iscntrl(c); break;
	case 'd': yes = isdigit(c); break;
	case 'g': yes = isgraph(c); break;
	case 'l': yes = islower(c); break;
	case 'p': yes = ispunct(c); break;
	case 's': yes = isspace(c); break;
	case 'u': yes = isupper(c); break;
	case 'w': yes = isalnum(c); break;
	case 'x': yes = isxdigit(c); break;
	case 'z': yes = c == 0; break;
	default: return letter == c;
	}
	return isupper(letter) ? !yes : yes;
}

/* Behind the single-character item that starts at p. */
static const char *item_end(struct matcher *m, const char *p)
{
	char c = *p++;
	if (c == '%') {
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (ends with '%%')");
		return p + 1;
	}
	if (c != '[')
		return p;
	const char *from = p;
	if (p < m->pattern_end && *p == '^')
		p++;
	do { /* a ']' in first place is one of the set */
		if (p == m->pattern_end)
			luaL_error(m->L, "malformed pattern (missing ']')");
		if (*p++ == '%' && p < m->pattern_end)
			p++;
	} while (p == m->pattern_end || *p != ']');
	count_more(m, (size_t)(p - from) / SET_STEP);
	return p + 1;
}

/* [p, end] is a set with its brackets. */
static bool in_set(unsigned char c, const char *p, const char *last)
{
	bool wanted = true;
	if (p[1] == '^') {
		wanted = false;
		p++;
	}
	while (++p < last) {
		if (*p == '%') {
			p++;
			if (in_class(c, (unsigned char)*p))
				return wanted;
		} else if (p[1] == '-' && p + 2 < last) {
			if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
				return wanted;
			p += 2;
		} else if ((unsigned char)*p == c) {
			return wanted;
		}
	}
	return !wanted;
}

static bool item_matches(struct matcher *m, const char *s, const char *p, const char *end)
{
	if (s == m->text_end)
		return false;
	unsigned char c = (unsigned char)*s;
	switch (*p) {
	case '.': return true;
	case '%': return in_class(c, (unsigned char)p[1]);
	case '[': count_more(m, (size_t)(end - p) / SET_STEP); return in_set(c, p, end - 1);
	default: return (unsigned char)*p == c;
	}
}

/* --- the whole --- */

static const char *match(struct matcher *m, const char *s, const char *p);

static const char *balanced(struct matcher *m, const char *s, const char *p)
{
	if (m->pattern_end - p < 2)
		luaL_error(m->L, "unbalanced pattern");
	if (s == m->text_end || *s != p[0])
		return NULL;
	unsigned open = 1;
	for (const char *q = s + 1; q < m->text_end; q++) {
		count(m);
		if (*q == p[1]) {
			if (--open == 0)
				return q + 1;
		} else if (*q == p[0]) {
			open++;
		}
	}
	return NULL;
}

static const char *greedy(struct matcher *m, const char *s, const char *p, const char *end)
{
	ptrdiff_t n = 0;
	while (item_matches(m, s + n, p, end)) {
		count(m);
		n++;
	}
	for (; n >= 0; n--) {
		const char *r = match(m, s + n, end + 1);
		if (r)
			return r;
	}
	return NULL;
}

static const char *reluctant(struct matcher *m, const char *s, const char *p, const char *end)
{
	for (;; s++) {
		const char *r = match(m, s, end + 1);
		if (r)
			return r;
		if (!item_matches(m, s, p, end))
			return NULL;
		count(m);
	}
}

static const char *open_capture(struct matcher *m, const char *s, const char *p)
{
	bool position = p + 1 < m->pattern_end && p[1] == ')';
	if (m->ncaptures == CAPTURES)
		luaL_error(m->L, "too many captures");
	m->captures[m->ncaptures].at = s;
	m->captures[m->ncaptures].n = position ? POSITION : OPEN;
	m->ncaptures++;
	const char *r = match(m, s, p + (position ? 2 : 1));
	if (!r)
		m->ncaptures--;
	return r;
}

static const char *close_capture(struct matcher *m, const char *s, const char *p)
{
	int i = m->ncaptures - 1;
	while (i >= 0 && m->captures[i].n != OPEN)
		i--;
	if (i < 0)
		luaL_error(m->L, "invalid pattern capture");
	m->captures[i].n = s - m->captures[i].at;
	const char *r = match(m, s, p + 1);
	if (!r)
		m->captures[i].n = OPEN;
	return r;
}

/* %1 … %9: the same text again. */
static const char *repeated(struct matcher *m, const char *s, char digit)
{
	int i = digit - '1';
	if (i < 0 || i >= m->ncaptures || m->captures[i].n == OPEN)
		luaL_error(m->L, "invalid capture index");
	size_t n = m->captures[i].n < 0 ? 0 : (size_t)m->captures[i].n;
	count_more(m, 1 + n / 64);
	return (size_t)(m->text_end - s) >= n && memcmp(m->captures[i].at, s, n) == 0 ? s + n
										      : NULL;
}

static bool at_frontier(struct matcher *m, const char *s, const char *set, const char *end)
{
	unsigned char before = s == m->text ? 0 : (unsigned char)s[-1];
	unsigned char after = s == m->text_end ? 0 : (unsigned char)*s;
	count_more(m, (size_t)(end - set) / SET_STEP);
	return !in_set(before, set, end - 1) && in_set(after, set, end - 1);
}

/* long: one case for each kind of pattern item; what recurses is in functions of its own. */
static const char *match(struct matcher *m, const char *s, const char *p)
{
	const char *r = NULL;
	if (++m->depth > DEPTH_MOST)
		luaL_error(m->L, "pattern too complex");
	for (;;) {
		count(m);
		if (p == m->pattern_end) {
			r = s;
			break;
		}
		if (*p == '(') {
			r = open_capture(m, s, p);
			break;
		}
		if (*p == ')') {
			r = close_capture(m, s, p);
			break;
		}
		if (*p == '$' && p + 1 == m->pattern_end) {
			r = s == m->text_end ? s : NULL;
			break;
		}
		if (*p == '%' && p + 1 < m->pattern_end) {
			if (p[1] == 'b') {
				if (!(s = balanced(m, s, p + 2)))
					break;
				p += 4;
				continue;
			}
			if (p[1] == 'f') {
				const char *set = p + 2;
				if (set == m->pattern_end || *set != '[')
					luaL_error(m->L, "missing '[' after '%%f' in pattern");
				const char *end = item_end(m, set);
				if (!at_frontier(m, s, set, end))
					break;
				p = end;
				continue;
			}
			if (isdigit((unsigned char)p[1])) {
				if (!(s = repeated(m, s, p[1])))
					break;
				p += 2;
				continue;
			}
		}
		const char *end = item_end(m, p);
		char suffix = end < m->pattern_end ? *end : 0;
		if (suffix == '*' || suffix == '+') {
			if (suffix == '*')
				r = greedy(m, s, p, end);
			else if (item_matches(m, s, p, end))
				r = greedy(m, s + 1, p, end);
			break;
		}
		if (suffix == '-') {
			r = reluctant(m, s, p, end);
			break;
		}
		bool one = item_matches(m, s, p, end);
		if (suffix == '?') {
			if (one && (r = match(m, s + 1, end + 1)))
				break;
			p = end + 1;
			continue;
		}
		if (!one)
			break;
		s++;
		p = end;
	}
	m->depth--;
	return r;
}

static const char *match_at(struct matcher *m, const char *s, const char *p)
{
	m->ncaptures = 0;
	m->depth = 0;
	return match(m, s, p);
}

/* --- captures --- */

static void push_capture(struct matcher *m, int i, const char *s, const char *end)
{
	if (i >= m->ncaptures) {
		if (i != 0)
			luaL_error(m->L, "invalid capture index");
		lua_pushlstring(m->L, s, (size_t)(end - s)); /* no captures: the whole match */
		return;
	}
	if (m->captures[i].n == OPEN)
		luaL_error(m->L, "unfinished capture");
	if (m->captures[i].n == POSITION)
		lua_pushinteger(m->L, m->captures[i].at - m->text + 1);
	else
		lua_pushlstring(m->L, m->captures[i].at, (size_t)m->captures[i].n);
}

/* s NULL: only real captures. */
static int push_captures(struct matcher *m, const char *s, const char *end)
{
	int n = m->ncaptures == 0 && s ? 1 : m->ncaptures;
	luaL_checkstack(m->L, n, "too many captures");
	for (int i = 0; i < n; i++)
		push_capture(m, i, s, end);
	return n;
}

static struct matcher matcher_of(lua_State *L, struct str text, struct str pattern)
{
	return (struct matcher){.L = L,
				.text = text.p,
				.text_end = text.p + text.n,
				.pattern_end = pattern.p + pattern.n};
}

static bool plain_text(struct str p)
{
	for (size_t i = 0; i < p.n; i++)
		if (memchr("^$*+?.([%-", p.p[i], 10))
			return false;
	return true;
}

static int find_or_match(lua_State *L, bool find)
{
	struct str text = obj_str(L, 1), pattern = obj_str(L, 2);
	double start = luaL_optnumber(L, 3, 1);
	size_t from = 0;
	if (start < 0)
		start += (double)text.n + 1;
	if (start > (double)text.n + 1) {
		lua_pushnil(L);
		return 1;
	}
	if (start >= 1)
		from = (size_t)start - 1;
	if (find && (lua_toboolean(L, 4) || plain_text(pattern))) {
		const char *at =
			pattern.n ? memmem(text.p + from, text.n - from, pattern.p, pattern.n)
				  : text.p + from;
		if (!at) {
			lua_pushnil(L);
			return 1;
		}
		lua_pushinteger(L, at - text.p + 1);
		lua_pushinteger(L, at - text.p + (ptrdiff_t)pattern.n);
		return 2;
	}
	struct matcher m = matcher_of(L, text, pattern);
	bool anchored = pattern.n && *pattern.p == '^';
	for (const char *s = text.p + from; s <= m.text_end; s++) {
		const char *end = match_at(&m, s, pattern.p + anchored);
		if (end && find) {
			lua_pushinteger(L, s - text.p + 1);
			lua_pushinteger(L, end - text.p);
			return 2 + push_captures(&m, NULL, NULL);
		}
		if (end)
			return push_captures(&m, s, end);
		if (anchored)
			break;
	}
	lua_pushnil(L);
	return 1;
}

int pattern_find(lua_State *L)
{
	return find_or_match(L, true);
}

int pattern_match(lua_State *L)
{
	return find_or_match(L, false);
}

/* --- gmatch: upvalues 3 text, 4 pattern, 5 where to go on --- */

static int gmatch_next(lua_State *L)
{
	struct str text, pattern;
	text.p = lua_tolstring(L, lua_upvalueindex(3), &text.n);
	pattern.p = lua_tolstring(L, lua_upvalueindex(4), &pattern.n);
	struct matcher m = matcher_of(L, text, pattern);
	for (const char *s = text.p + (size_t)lua_tonumber(L, lua_upvalueindex(5)); s <= m.text_end;
	     s++) {
		const char *end = match_at(&m, s, pattern.p);
		if (!end)
			continue;
		lua_pushnumber(L, (lua_Number)(end - text.p + (end == s)));
		lua_replace(L, lua_upvalueindex(5));
		return push_captures(&m, s, end);
	}
	return 0;
}

int pattern_gmatch(lua_State *L)
{
	obj_str(L, 1);
	obj_str(L, 2);
	lua_pushvalue(L, UP_TABLE);
	lua_pushvalue(L, UP_CACHE);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_pushnumber(L, 0);
	lua_pushcclosure(L, gmatch_next, 5);
	return 1;
}

/* --- gsub --- */

/* A replacement text: %0 the match, %1 … the captures, %x otherwise x. */
static void add_text(struct matcher *m, luaL_Buffer *b, struct str with, const char *s,
		     const char *end)
{
	for (size_t i = 0; i < with.n; i++) {
		if (with.p[i] != '%' || i + 1 == with.n) {
			if (with.p[i] != '%')
				luaL_addchar(b, with.p[i]);
			continue;
		}
		char c = with.p[++i];
		if (!isdigit((unsigned char)c)) {
			luaL_addchar(b, c);
		} else if (c == '0') {
			luaL_addlstring(b, s, (size_t)(end - s));
		} else {
			push_capture(m, c - '1', s, end);
			luaL_addvalue(b);
		}
	}
}

static void add_replacement(struct matcher *m, luaL_Buffer *b, int type, const char *s,
			    const char *end)
{
	lua_State *L = m->L;
	if (type == LUA_TSTRING || type == LUA_TNUMBER) {
		struct str with;
		with.p = lua_tolstring(L, 3, &with.n);
		add_text(m, b, with, s, end);
		return;
	}
	if (type == LUA_TTABLE) {
		push_capture(m, 0, s, end);
		lua_gettable(L, 3);
	} else {
		lua_pushvalue(L, 3);
		lua_call(L, push_captures(m, s, end), 1);
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		lua_pushlstring(L, s, (size_t)(end - s));
	} else if (!lua_isstring(L, -1)) {
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	}
	luaL_addvalue(b);
}

int pattern_gsub(lua_State *L)
{
	struct str text = obj_str(L, 1), pattern = obj_str(L, 2);
	int type = lua_type(L, 3);
	if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TTABLE &&
	    type != LUA_TFUNCTION)
		luaL_argerror(L, 3, "string/function/table expected");
	guard_stack(L);
	double most = luaL_optnumber(L, 4, (lua_Number)text.n + 1), n = 0;
	bool anchored = pattern.n && *pattern.p == '^';
	struct matcher m = matcher_of(L, text, pattern);
	const char *s = text.p;
	luaL_Buffer b;
	lua_settop(L, 4);
	luaL_buffinit(L, &b);
	while (n < most) {
		const char *end = match_at(&m, s, pattern.p + anchored);
		if (end) {
			n++;
			add_replacement(&m, &b, type, s, end);
		}
		if (end && end > s)
			s = end;
		else if (s < m.text_end)
			luaL_addchar(&b, *s++);
		else
			break;
		if (anchored)
			break;
	}
	luaL_addlstring(&b, s, (size_t)(m.text_end - s));
	luaL_pushresult(&b);
	lua_pushnumber(L, n);
	return 2;
}

/* --- table.sort: quicksort that turns to heapsort when it goes wrong --- */

enum { INSERTION = 12 };

/* a < b for the values at stack a and b. */
static bool less(lua_State *L, int a, int b)
{
	static _Thread_local uint32_t looks;
	if (++looks % LOOK_EVERY == 0)
		guard_check(L);
	guard_stack(L);
	if (lua_isnil(L, 2))
		return lua_lessthan(L, a, b);
	a = a < 0 ? lua_gettop(L) + 1 + a : a;
	b = b < 0 ? lua_gettop(L) + 1 + b : b;
	lua_pushvalue(L, 2);
	lua_pushvalue(L, a);
	lua_pushvalue(L, b);
	lua_call(L, 2, 1);
	bool yes = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return yes;
}

static void insertion_sort(lua_State *L, int lo, int hi)
{
	for (int i = lo + 1; i <= hi; i++) {
		int k = i;
		lua_rawgeti(L, 1, i);
		while (k > lo) {
			lua_rawgeti(L, 1, k - 1);
			if (!less(L, -2, -1)) {
				lua_pop(L, 1);
				break;
			}
			lua_rawseti(L, 1, k--);
		}
		lua_rawseti(L, 1, k);
	}
}

/* The heap is [lo, lo + n); its root's value may be too small. */
static void sift(lua_State *L, int lo, int at, int n)
{
	lua_rawgeti(L, 1, lo + at);
	for (;;) {
		int child = 2 * at + 1;
		if (child >= n)
			break;
		lua_rawgeti(L, 1, lo + child);
		if (child + 1 < n) {
			lua_rawgeti(L, 1, lo + child + 1);
			if (less(L, -2, -1)) {
				lua_remove(L, -2);
				child++;
			} else {
				lua_pop(L, 1);
			}
		}
		if (!less(L, -2, -1)) {
			lua_pop(L, 1);
			break;
		}
		lua_rawseti(L, 1, lo + at);
		at = child;
	}
	lua_rawseti(L, 1, lo + at);
}

static void swap(lua_State *L, int a, int b)
{
	lua_rawgeti(L, 1, a);
	lua_rawgeti(L, 1, b);
	lua_rawseti(L, 1, a);
	lua_rawseti(L, 1, b);
}

static void heap_sort(lua_State *L, int lo, int hi)
{
	int n = hi - lo + 1;
	for (int i = n / 2 - 1; i >= 0; i--)
		sift(L, lo, i, n);
	while (--n > 0) {
		swap(L, lo, lo + n);
		sift(L, lo, 0, n);
	}
}

static void order(lua_State *L, int a, int b)
{
	lua_rawgeti(L, 1, a);
	lua_rawgeti(L, 1, b);
	bool wrong = less(L, -1, -2);
	lua_pop(L, 2);
	if (wrong)
		swap(L, a, b);
}

static void quick_sort(lua_State *L, int lo, int hi, unsigned budget)
{
	while (hi - lo >= INSERTION) {
		if (budget-- == 0) {
			heap_sort(L, lo, hi);
			return;
		}
		int mid = lo + (hi - lo) / 2, i = lo, k = hi;
		order(L, lo, mid);
		order(L, mid, hi);
		order(L, lo, mid);
		lua_rawgeti(L, 1, mid); /* the pivot */
		while (i <= k) {
			for (;; i++) {
				lua_rawgeti(L, 1, i);
				bool below = i <= hi && less(L, -1, -2);
				lua_pop(L, 1);
				if (!below)
					break;
			}
			for (;; k--) {
				lua_rawgeti(L, 1, k);
				bool above = k >= lo && less(L, -2, -1);
				lua_pop(L, 1);
				if (!above)
					break;
			}
			if (i > hi || k < lo)
				luaL_error(L, "invalid order function for sorting");
			if (i <= k)
				swap(L, i++, k--);
		}
		lua_pop(L, 1);
		if (k - lo < hi - i) { /* the smaller part first: the stack stays flat */
			quick_sort(L, lo, k, budget);
			lo = i;
		} else {
			quick_sort(L, i, hi, budget);
			hi = k;
		}
	}
	insertion_sort(L, lo, hi);
}

int pattern_sort(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	int n = (int)lua_objlen(L, 1);
	luaL_checkstack(L, 40, "");
	if (!lua_isnoneornil(L, 2))
		luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	unsigned budget = 4;
	for (int i = n; i > 1; i /= 2)
		budget += 2;
	quick_sort(L, 1, n, budget);
	return 0;
}

/* src/filters/fallback/policy_test.c: includes the .c to see the table */
#include "filters/fallback/policy.c"
#include <stdio.h>
#include <string.h>

static const struct {
	const char *story;
	enum policy_start start;
	unsigned n;
	enum policy_event ev[4];
	enum policy_action last;
} stories[] = {
	{"the bucket has it", START_PRIMARY, 1, {PRIMARY_HIT}, SEND_PRIMARY},
	{"only wordpress has it", START_PRIMARY, 2, {PRIMARY_MISS, FALLBACK_HIT}, SEND_FALLBACK},
	{"neither: the static 404 page",
	 START_PRIMARY,
	 2,
	 {PRIMARY_MISS, FALLBACK_MISS},
	 SEND_HELD},
	{"wordpress is down", START_PRIMARY, 2, {PRIMARY_MISS, FALLBACK_FAIL}, SEND_DEGRADED},
	{"the bucket is down", START_PRIMARY, 1, {PRIMARY_FAIL}, SEND_FAILURE},
	{"the bucket is down, wordpress may help",
	 START_PRIMARY_ANY,
	 2,
	 {PRIMARY_FAIL, FALLBACK_HIT},
	 SEND_FALLBACK},
	{"down, and a 404 is no answer",
	 START_PRIMARY_ANY,
	 2,
	 {PRIMARY_FAIL, FALLBACK_MISS},
	 SEND_503},
	{"both down", START_PRIMARY_ANY, 2, {PRIMARY_FAIL, FALLBACK_FAIL}, SEND_FAILURE},
	{"held body lost, wordpress has it",
	 START_PRIMARY,
	 3,
	 {PRIMARY_MISS, PRIMARY_FAIL, FALLBACK_HIT},
	 SEND_FALLBACK},
	{"held body lost", START_PRIMARY, 3, {PRIMARY_MISS, PRIMARY_FAIL, FALLBACK_MISS}, SEND_CUT},
	{"override", START_FALLBACK, 1, {FALLBACK_HIT}, SEND_FALLBACK},
	{"override of what wordpress lacks", START_FALLBACK, 1, {FALLBACK_MISS}, SEND_FALLBACK},
	{"override, wordpress down", START_FALLBACK, 1, {FALLBACK_FAIL}, SEND_NO_FALLBACK},
	{"known miss", START_FALLBACK_FIRST, 1, {FALLBACK_HIT}, SEND_FALLBACK},
	{"known miss, gone from wordpress",
	 START_FALLBACK_FIRST,
	 2,
	 {FALLBACK_MISS, PRIMARY_MISS},
	 SEND_HELD},
	{"known miss, published meanwhile",
	 START_FALLBACK_FIRST,
	 2,
	 {FALLBACK_MISS, PRIMARY_HIT},
	 SEND_PRIMARY},
	{"known miss, wordpress down",
	 START_FALLBACK_FIRST,
	 2,
	 {FALLBACK_FAIL, PRIMARY_MISS},
	 SEND_DEGRADED},
	{"known to be nowhere", START_PRIMARY_ONLY, 1, {PRIMARY_MISS}, SEND_HELD},
	{"right hint", START_BOTH, 2, {FALLBACK_HIT, PRIMARY_MISS}, SEND_FALLBACK},
	{"right hint, primary faster", START_BOTH, 2, {PRIMARY_MISS, FALLBACK_HIT}, SEND_FALLBACK},
	{"wrong hint", START_BOTH, 2, {FALLBACK_HIT, PRIMARY_HIT}, SEND_PRIMARY},
	{"hint, both miss", START_BOTH, 2, {FALLBACK_MISS, PRIMARY_MISS}, SEND_HELD},
	{"hint, its answer breaks off",
	 START_BOTH,
	 3,
	 {FALLBACK_HIT, FALLBACK_FAIL, PRIMARY_MISS},
	 SEND_DEGRADED},
	{"hint, primary down", START_BOTH, 2, {FALLBACK_HIT, PRIMARY_FAIL}, SEND_FAILURE},
	{"hint, primary down, wordpress may help",
	 START_BOTH_ANY,
	 2,
	 {FALLBACK_HIT, PRIMARY_FAIL},
	 SEND_FALLBACK},
	{"hint, primary down, wordpress has nothing",
	 START_BOTH_ANY,
	 2,
	 {FALLBACK_MISS, PRIMARY_FAIL},
	 SEND_503},
	{"hedge", START_PRIMARY, 3, {HEDGE_DUE, PRIMARY_MISS, FALLBACK_HIT}, SEND_FALLBACK},
	{"hedge, then a hit", START_PRIMARY, 2, {HEDGE_DUE, PRIMARY_HIT}, SEND_PRIMARY},
};

/* What the world is like in a state. None: not called. Asked: no head yet. Missed, Has: head seen, the body may come.
 * Lost: failed. */
enum side { NONE, ASKED, MISSED, HAS, LOST };
enum kind { NORMAL, ANY, SINGLE /* primary only */, FALLBACK_ONLY, FALLBACK_FIRST };
struct world {
	enum kind kind;
	enum side p, f;
	bool torn;   /* the primary's page broke off while held */
	bool hedged; /* a hedge was sent, or both were asked from the start */
};

/* What must be sent when both sides are as they are; DO_NOTHING: it is not yet decided. From the words of the specification, not from the
 * table. */
static enum policy_action verdict_of(const struct world *w)
{
	switch (w->kind) {
	case FALLBACK_ONLY:
		return w->f == ASKED ? DO_NOTHING : w->f == LOST ? SEND_NO_FALLBACK : SEND_FALLBACK;
	case SINGLE:
		return w->p == ASKED    ? DO_NOTHING
		       : w->p == HAS    ? SEND_PRIMARY
		       : w->p == MISSED ? SEND_HELD
					: SEND_FAILURE;
	case FALLBACK_FIRST:
		if (w->p == NONE)
			return w->f == HAS ? SEND_FALLBACK : DO_NOTHING;
		break;
	default: break;
	}
	if (w->p == ASKED)
		return DO_NOTHING; /* the fallback never wins over an undecided primary */
	if (w->p == HAS)
		return SEND_PRIMARY;
	if (w->p == LOST && w->kind != ANY)
		return SEND_FAILURE;
	if (w->f == NONE || w->f == ASKED)
		return DO_NOTHING;
	if (w->f == HAS)
		return SEND_FALLBACK;
	if (w->p == LOST)
		return w->f == MISSED ? SEND_503 : SEND_FAILURE;
	if (w->torn)
		return SEND_CUT;
	return w->f == MISSED ? SEND_HELD : SEND_DEGRADED;
}

static bool possible(const struct world *w, int e)
{
	switch (e) {
	case PRIMARY_HIT:
	case PRIMARY_MISS: return w->p == ASKED;
	case PRIMARY_FAIL: return w->p == ASKED || (w->p == MISSED && !w->torn);
	case FALLBACK_HIT:
	case FALLBACK_MISS: return w->f == ASKED;
	case FALLBACK_FAIL: return w->f == ASKED || w->f == HAS;
	case HEDGE_DUE:
		return (w->kind == NORMAL || w->kind == ANY) && w->p == ASKED && !w->hedged &&
		       w->f == NONE;
	default: return true;
	}
}

static struct world after(struct world w, int e)
{
	switch (e) {
	case PRIMARY_HIT: w.p = HAS; break;
	case PRIMARY_MISS: w.p = MISSED; break;
	case PRIMARY_FAIL:
		if (w.p == MISSED)
			w.torn = true;
		else
			w.p = LOST;
		break;
	case FALLBACK_HIT: w.f = HAS; break;
	case FALLBACK_MISS: w.f = MISSED; break;
	case FALLBACK_FAIL: w.f = LOST; break;
	case HEDGE_DUE:
		w.hedged = true;
		w.f = ASKED;
		break;
	}
	return w;
}

/* The action that the world asks for after e, and how the world is once it is carried out. */
static enum policy_action wanted(struct world *w, int e)
{
	enum policy_action send = verdict_of(w);
	if (send != DO_NOTHING)
		return send;
	if (e == HEDGE_DUE)
		return CALL_FALLBACK;
	if (w->kind == FALLBACK_FIRST) {
		w->p = ASKED;
		return CALL_PRIMARY;
	}
	if (e == PRIMARY_MISS || (e == PRIMARY_FAIL && !w->torn)) {
		if (w->f == ASKED)
			return HOLD_PRIMARY;
		w->f = ASKED;
		w->hedged = true;
		return e == PRIMARY_MISS ? HOLD_CALL_FALLBACK : CALL_FALLBACK;
	}
	return e == FALLBACK_HIT ? HOLD_FALLBACK : DO_NOTHING;
}

/* Lets the world do all it can from state s. Counts the cells that answer it wrongly. */
static int broken(const struct rule *t, int s, struct world w)
{
	int bad = 0;
	for (int e = 0; e < POLICY_EVENTS && !bad; e++) {
		const struct rule *r = &t[s * POLICY_EVENTS + e];
		if (e == CLIENT_GONE) {
			bad += r->next != DONE || r->act != CANCEL_ALL;
			continue;
		}
		bool can = possible(&w, e);
		bad += can != (r->next != 0);
		if (bad || !can)
			continue;
		struct world v = after(w, e);
		bool ends = verdict_of(&v) != DO_NOTHING;
		bad += r->act != wanted(&v, e);
		bad += ends != (r->next == DONE);
		if (!bad && !ends)
			bad += broken(t, r->next, v);
	}
	return bad;
}

static const struct world starts[] = {
	[START_PRIMARY] = {NORMAL, ASKED, NONE, false, false},
	[START_PRIMARY_ANY] = {ANY, ASKED, NONE, false, false},
	[START_BOTH] = {NORMAL, ASKED, ASKED, false, true},
	[START_BOTH_ANY] = {ANY, ASKED, ASKED, false, true},
	[START_FALLBACK] = {FALLBACK_ONLY, NONE, ASKED, false, true},
	[START_FALLBACK_FIRST] = {FALLBACK_FIRST, NONE, ASKED, false, true},
	[START_PRIMARY_ONLY] = {SINGLE, ASKED, NONE, false, true},
};
enum { STARTS = sizeof starts / sizeof *starts };

static int all_broken(const struct rule *t)
{
	int bad = 0;
	for (unsigned i = 0; i < STARTS && !bad; i++) {
		struct policy p;
		policy_init(&p, (enum policy_start)i);
		bad = broken(t, p.state, starts[i]);
	}
	for (int e = 0; e < POLICY_EVENTS; e++) {
		const struct rule *r = &t[DONE * POLICY_EVENTS + e];
		bad += e == CLIENT_GONE ? r->next != DONE || r->act != DO_NOTHING : r->next != 0;
	}
	return bad;
}

static bool same_row(int s, int t)
{
	return memcmp(rules[s], rules[t], sizeof rules[s]) == 0;
}

/* A check that cannot fail checks nothing: every wrong action, every wrong next state (but one that behaves alike), every cell emptied or filled, every wrong
 * first state. */
static unsigned mutants_alive(void)
{
	unsigned alive = 0, n = 0;
	struct rule hurt[STATES][POLICY_EVENTS];
	memcpy(hurt, rules, sizeof hurt);
	for (int s = ASK; s < STATES; s++)
		for (int e = 0; e < POLICY_EVENTS; e++) {
			struct rule right = rules[s][e];
			for (int a = 0; a <= CANCEL_ALL; a++) {
				if (!right.next || right.act == a)
					continue;
				hurt[s][e].act = (unsigned char)a;
				n++;
				alive += all_broken(hurt[0]) == 0;
			}
			hurt[s][e] = right;
			for (int next = 0; next < STATES; next++) {
				if (next == right.next ||
				    (right.next && next && same_row(next, right.next)))
					continue;
				hurt[s][e].next = (unsigned char)next;
				n++;
				alive += all_broken(hurt[0]) == 0;
			}
			hurt[s][e] = right;
		}
	for (int i = 0; i < (int)STARTS; i++) {
		struct policy p;
		policy_init(&p, (enum policy_start)i);
		for (int s = ASK; s < STATES; s++) {
			if (same_row(s, p.state))
				continue;
			n++;
			alive += broken(rules[0], s, starts[i]) == 0;
		}
	}
	printf("%u planted mistakes, %u not found\n", n, alive);
	return alive;
}

int main(void)
{
	for (size_t i = 0; i < sizeof stories / sizeof *stories; i++) {
		enum policy_action last = DO_NOTHING;
		struct policy p;
		policy_init(&p, stories[i].start);
		for (size_t k = 0; k < stories[i].n; k++) {
			must(!policy_done(&p));
			last = policy_step(&p, stories[i].ev[k]);
		}
		if (last != stories[i].last || !policy_done(&p)) {
			fprintf(stderr, "%s: %d\n", stories[i].story, last);
			return 1;
		}
		must(policy_step(&p, CLIENT_GONE) == DO_NOTHING);
	}
	must(all_broken(rules[0]) == 0);
	must(mutants_alive() == 0);
	return 0;
}

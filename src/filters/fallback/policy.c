/* src/filters/fallback/policy.c: spec/fallback.md 1, 3, 4, 14, 18 and 19 as one table. */
#include "filters/fallback/policy.h"
#include "base/must.h"

enum state {
	ASK = 1,   /* primary called; its failure is final */
	ASK_ANY,   /* primary called; its failure counts as a miss */
	ONLY,      /* primary called; nobody else will be */
	HELD,      /* primary missed and waits unread; fallback called */
	TORN,      /* as HELD, but the held page broke off */
	BARE,      /* no primary left; fallback called */
	ALONE,     /* fallback called; the primary never is */
	FIRST,     /* fallback called; the primary is for its 404 page */
	LAST,      /* fallback missed, primary called */
	LAST_SICK, /* fallback failed, primary called */
	BOTH,      /* both called */
	BOTH_HIT,  /* both called; the fallback has it and waits */
	BOTH_MISS, /* both called; the fallback lacks it */
	BOTH_FAIL, /* both called; the fallback failed */
	BOTH_ANY,  /* the same four with the primary's failure as a miss */
	ANY_HIT,
	ANY_MISS,
	ANY_FAIL,
	DONE,
	STATES
};

/* An empty cell cannot happen: if it does, the bug is ours. After DONE the calls are silent (call_cancel's promise), so only
 * the client can still be heard leaving. */
static const struct rule {
	unsigned char next, act;
} rules[STATES][POLICY_EVENTS] = {
	[ASK][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[ASK][PRIMARY_MISS] = {HELD, HOLD_CALL_FALLBACK},
	[ASK][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[ASK][HEDGE_DUE] = {BOTH, CALL_FALLBACK},
	[ASK][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[ASK_ANY][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[ASK_ANY][PRIMARY_MISS] = {HELD, HOLD_CALL_FALLBACK},
	[ASK_ANY][PRIMARY_FAIL] = {BARE, CALL_FALLBACK},
	[ASK_ANY][HEDGE_DUE] = {BOTH_ANY, CALL_FALLBACK},
	[ASK_ANY][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[ONLY][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[ONLY][PRIMARY_MISS] = {DONE, SEND_HELD},
	[ONLY][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[ONLY][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[HELD][PRIMARY_FAIL] = {TORN, DO_NOTHING},
	[HELD][FALLBACK_HIT] = {DONE, SEND_FALLBACK},
	[HELD][FALLBACK_MISS] = {DONE, SEND_HELD}, /* both miss: the site's own page */
	[HELD][FALLBACK_FAIL] = {DONE, SEND_DEGRADED},
	[HELD][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[TORN][FALLBACK_HIT] = {DONE, SEND_FALLBACK}, /* the loser's fate is irrelevant */
	[TORN][FALLBACK_MISS] = {DONE, SEND_CUT},
	[TORN][FALLBACK_FAIL] = {DONE, SEND_CUT},
	[TORN][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[BARE][FALLBACK_HIT] = {DONE, SEND_FALLBACK},
	[BARE][FALLBACK_MISS] = {DONE, SEND_503}, /* nobody said that the page is absent */
	[BARE][FALLBACK_FAIL] = {DONE, SEND_FAILURE},
	[BARE][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[ALONE][FALLBACK_HIT] = {DONE, SEND_FALLBACK},
	[ALONE][FALLBACK_MISS] = {DONE, SEND_FALLBACK},
	[ALONE][FALLBACK_FAIL] = {DONE, SEND_NO_FALLBACK},
	[ALONE][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[FIRST][FALLBACK_HIT] = {DONE, SEND_FALLBACK},
	[FIRST][FALLBACK_MISS] = {LAST, CALL_PRIMARY},
	[FIRST][FALLBACK_FAIL] = {LAST_SICK, CALL_PRIMARY},
	[FIRST][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[LAST][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[LAST][PRIMARY_MISS] = {DONE, SEND_HELD},
	[LAST][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[LAST][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[LAST_SICK][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[LAST_SICK][PRIMARY_MISS] = {DONE, SEND_DEGRADED},
	[LAST_SICK][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[LAST_SICK][CLIENT_GONE] = {DONE, CANCEL_ALL},

	/* The fallback never wins over an undecided primary. */
	[BOTH][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[BOTH][PRIMARY_MISS] = {HELD, HOLD_PRIMARY},
	[BOTH][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[BOTH][FALLBACK_HIT] = {BOTH_HIT, HOLD_FALLBACK},
	[BOTH][FALLBACK_MISS] = {BOTH_MISS, DO_NOTHING},
	[BOTH][FALLBACK_FAIL] = {BOTH_FAIL, DO_NOTHING},
	[BOTH][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[BOTH_HIT][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[BOTH_HIT][PRIMARY_MISS] = {DONE, SEND_FALLBACK},
	[BOTH_HIT][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[BOTH_HIT][FALLBACK_FAIL] = {BOTH_FAIL, DO_NOTHING},
	[BOTH_HIT][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[BOTH_MISS][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[BOTH_MISS][PRIMARY_MISS] = {DONE, SEND_HELD},
	[BOTH_MISS][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[BOTH_MISS][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[BOTH_FAIL][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[BOTH_FAIL][PRIMARY_MISS] = {DONE, SEND_DEGRADED},
	[BOTH_FAIL][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[BOTH_FAIL][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[BOTH_ANY][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[BOTH_ANY][PRIMARY_MISS] = {HELD, HOLD_PRIMARY},
	[BOTH_ANY][PRIMARY_FAIL] = {BARE, HOLD_PRIMARY},
	[BOTH_ANY][FALLBACK_HIT] = {ANY_HIT, HOLD_FALLBACK},
	[BOTH_ANY][FALLBACK_MISS] = {ANY_MISS, DO_NOTHING},
	[BOTH_ANY][FALLBACK_FAIL] = {ANY_FAIL, DO_NOTHING},
	[BOTH_ANY][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[ANY_HIT][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[ANY_HIT][PRIMARY_MISS] = {DONE, SEND_FALLBACK},
	[ANY_HIT][PRIMARY_FAIL] = {DONE, SEND_FALLBACK},
	[ANY_HIT][FALLBACK_FAIL] = {ANY_FAIL, DO_NOTHING},
	[ANY_HIT][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[ANY_MISS][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[ANY_MISS][PRIMARY_MISS] = {DONE, SEND_HELD},
	[ANY_MISS][PRIMARY_FAIL] = {DONE, SEND_503},
	[ANY_MISS][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[ANY_FAIL][PRIMARY_HIT] = {DONE, SEND_PRIMARY},
	[ANY_FAIL][PRIMARY_MISS] = {DONE, SEND_DEGRADED},
	[ANY_FAIL][PRIMARY_FAIL] = {DONE, SEND_FAILURE},
	[ANY_FAIL][CLIENT_GONE] = {DONE, CANCEL_ALL},

	[DONE][CLIENT_GONE] = {DONE, DO_NOTHING},
};

void policy_init(struct policy *p, enum policy_start start)
{
	static const unsigned char first[] = {
		[START_PRIMARY] = ASK,       [START_PRIMARY_ANY] = ASK_ANY,
		[START_BOTH] = BOTH,         [START_BOTH_ANY] = BOTH_ANY,
		[START_FALLBACK] = ALONE,    [START_FALLBACK_FIRST] = FIRST,
		[START_PRIMARY_ONLY] = ONLY,
	};
	must((unsigned)start < sizeof first);
	p->state = first[start];
}

enum policy_action policy_step(struct policy *p, enum policy_event ev)
{
	must(p->state >= ASK && p->state < STATES);
	must(ev < POLICY_EVENTS);
	const struct rule *r = &rules[p->state][ev];
	must(r->next != 0);
	p->state = r->next;
	return r->act;
}

bool policy_done(const struct policy *p)
{
	return p->state == DONE;
}

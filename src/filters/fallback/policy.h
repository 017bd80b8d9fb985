/* src/filters/fallback/policy.h
 *
 * Decides which of two origins answers the client. Pure: no sockets, no memory, no clock. fallback.c turns what happens on
 * the two calls into events, feeds them here one by one, and carries out the action it gets back. One policy per exchange,
 * owned by the caller. Several fallbacks asked in order are one here: MISS when all of them missed, FAIL when none answered
 * and not all missed.
 */
#pragma once
#include <stdbool.h>

/* HIT: a head outside the set (trigger of the primary, keep_primary of the fallback). MISS: inside it. FAIL: no head came, or the
 * body of a head that is held broke off. */
enum policy_event {
	PRIMARY_HIT,
	PRIMARY_MISS,
	PRIMARY_FAIL,
	FALLBACK_HIT,
	FALLBACK_MISS,
	FALLBACK_FAIL,
	HEDGE_DUE, /* the primary takes long: once, while only it was asked */
	CLIENT_GONE,
	POLICY_EVENTS
};

enum policy_action {
	DO_NOTHING,
	SEND_PRIMARY, /* a hit */
	HOLD_CALL_FALLBACK, /* keep the primary's head, read no more of its body than may be held; ask the fallback */
	CALL_FALLBACK,
	HOLD_PRIMARY,  /* the fallback was asked already */
	HOLD_FALLBACK, /* until the primary has spoken */
	CALL_PRIMARY,
	SEND_FALLBACK, /* what is held of the primary is not wanted */
	SEND_HELD,     /* both missed: the primary's page */
	SEND_DEGRADED, /* the primary's page, but the fallback could not be asked */
	SEND_CUT,      /* what is held of the primary's page, visibly broken off */
	SEND_503, /* the primary failed, the fallback has nothing: nobody said that the page is absent */
	SEND_FAILURE,     /* the primary's failure, as the router gave it */
	SEND_NO_FALLBACK, /* the fallback alone was asked, and failed */
	CANCEL_ALL
};

/* Who is asked at first. _ANY: a primary that gives no head is treated like a miss. */
enum policy_start {
	START_PRIMARY,
	START_PRIMARY_ANY,
	START_BOTH,
	START_BOTH_ANY,
	START_FALLBACK, /* alone, whatever it says */
	START_FALLBACK_FIRST, /* the primary is known to lack it; it is asked when the fallback lacks it too */
	START_PRIMARY_ONLY /* both are known to lack it, or the fallback must not be asked */
};

struct policy {
	unsigned char state; /* policy.c only */
};

void policy_init(struct policy *p, enum policy_start start);
/* ev must be possible now; CLIENT_GONE always is. */
enum policy_action policy_step(struct policy *p, enum policy_event ev);
/* The answer is chosen, or nobody wants it. */
bool policy_done(const struct policy *p);

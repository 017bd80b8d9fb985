/* src/exchange/exch_int.h: what the files of this room share. */
#pragma once
#include "exchange/exchange.h"

enum { STAGE_HEAD, STAGE_LIVE, STAGE_OVER };
enum { DEADLINE_REQUEST, DEADLINE_DURATION, DEADLINES };

/* What an exchange may hold in its arena; a local reply has LIMIT_REPLY_ROOM more. */
static inline size_t exch_arena_cap(const struct hcm_cfg *hcm)
{
	return 4 * (size_t)hcm->limits.head + (1u << 20);
}

/* The filter at a walk position of a leg: answers pass the chain backwards. */
static inline const struct filter_cfg *walk_filter(const struct exchange *ex, enum leg_kind k,
						   unsigned at)
{
	return &ex->hcm->filters[k == LEG_REQUEST ? at : ex->nfilters - 1u - at];
}
static inline unsigned walk_position(const struct exchange *ex, enum leg_kind k,
				     const struct filter_cfg *f)
{
	return k == LEG_REQUEST ? f->index : ex->nfilters - 1u - f->index;
}

/* leg.c: moves head and body of one direction as far as they go. The leg has begun. */
void leg_pump_request(struct exchange *ex);
void leg_pump_response(struct exchange *ex);
/* Nothing can move: the head is through, and what has come in has gone out. */
static inline bool leg_at_rest(const struct exchange *ex, const struct leg *leg)
{
	return leg->at == ex->nfilters && !leg->watched && !leg->batch_waiting && leg->in.n == 0 &&
	       leg->ended == leg->in_ended;
}
void leg_reset(struct leg *leg);

/* exchange.c: there is no tunnel any more. */
void exch_no_tunnel(struct exchange *ex);

/* xfcc.c: removes, keeps or sets x-forwarded-client-cert. False: no memory. */
bool xfcc_request(struct exchange *ex);
/* edge.c: what a connection manager does before the first filter and after the last. */
void edge_request(struct exchange *ex);
void edge_response(struct exchange *ex);

/* exchange.c */
void exch_finish(struct exchange *ex);
void exch_arm(struct exchange *ex);
/* reply.c: puts a local answer into resp, past the filters when direct. */
void reply_direct(struct exchange *ex, unsigned status, struct str text, const char *details,
		  const char *flags);

/* leg.c, exchange.c */
bool gather_overflow(struct exchange *ex, enum leg_kind k);
/* route.c */

/* access_log.c */
void access_log_write(struct exchange *ex);

/* src/upstream/upstream.h
 *
 * Clusters alive: for one worker, the endpoints of every cluster (static or resolved), balancing, pools of connections, circuit
 * breakers (their counts shared by all workers), and calls. Follows model swaps: clusters that are equal keep their pools.
 */
#pragma once
#include "base/diags.h"
#include "loop/loop.h"
#include "model/model.h"
#include "upstream/call.h"

struct upstream;

/* Main thread, before a model is published: TLS contexts (an unusable certificate is an error),
 * statistics. */
bool upstream_prepare(struct model *m, struct diags *d);
/* Per worker. m is referenced. NULL: no memory. */
struct upstream *upstream_new(struct loop *l, const struct model *m);
/* Loop thread: adopts the new model; pools of clusters whose configuration is unchanged live on;
 * others are drained. */
void upstream_swap(struct upstream *u, const struct model *m);
/* No new connections are kept; idle ones are closed. */
void upstream_drain(struct upstream *u);
/* What base/pressure.h says of origins, percent: from PRESSURE_LEAN on idle connections are closed (call again every 100 ms),
 * from PRESSURE_REFUSE on nothing is retried, from PRESSURE_DEAF on nobody is dialled: such calls fail with FAILED_OVERLOAD. */
void upstream_pressure(struct upstream *u, unsigned percent);
void upstream_free(struct upstream *u); /* all calls must be over */

/* What /clusters shows, one row per endpoint; any thread may call while workers run (snapshots
 * under a lock). */
struct endpoint_row {
	const struct cluster_cfg *cluster;
	char address[64];
	char hostname[256];
	unsigned weight, priority;
	bool healthy;
	uint64_t cx_active, cx_total, cx_connect_fail, rq_active, rq_total, rq_success, rq_error,
		rq_timeout;
};
/* Rows of all workers summed by endpoint; calls row() for each. m: the model shown. */
void upstream_rows(const struct model *m, void (*row)(void *arg, const struct endpoint_row *r),
		   void *arg);
/* True once every DNS cluster has had its first answer (or failure): Envoy's warming. */
bool upstream_warm(const struct upstream *u);

/* src/base/pressure.h
 *
 * How full the process is, and from which point on what is done about it (robustness.md 8, the
 * thresholds of Envoy's overload manager). Percent of the fuller of two: the heap against its limit,
 * descriptors against theirs.
 */
#pragma once
#include <stdint.h>

enum {
	PRESSURE_LEAN = 80,         /* idle connections go earlier, scripts' garbage is collected */
	PRESSURE_LAST_REQUEST = 85, /* answers carry connection: close, HTTP/2 clients a GOAWAY */
	PRESSURE_REFUSE = 90,       /* new requests and httpCalls get 503; no retries */
	PRESSURE_CUT = 92, /* requests that hold most are ended, until below PRESSURE_REFUSE */
	PRESSURE_DEAF = 95 /* nothing is accepted, no connection to an origin is made */
};

struct pressure {
	unsigned heap, descriptors; /* percent */
	uint64_t heap_bytes;        /* live now */
	uint64_t heap_limit;        /* 0: none */
};

/* n descriptors more, or fewer: connections and pipes, all that comes in numbers. What else was open
 * at the first reading is added to them. Any thread. */
void pressure_descriptors(int n);
/* Any thread. */
struct pressure pressure_read(void);
/* The larger one. */
static inline unsigned pressure_percent(const struct pressure *p)
{
	return p->heap > p->descriptors ? p->heap : p->descriptors;
}
/* Three quarters of the memory there is: the machine's, or what the control group (version 2 or 1)
 * leaves this process, whichever is less. 0: not known. */
uint64_t pressure_heap_default(void);

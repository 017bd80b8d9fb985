/* src/filters/fallback/replay.h
 *
 * A request's body kept while it goes to one origin, so that another one can have it too: in memory, then in an unlinked file.
 * One exchange's.
 */
#pragma once
#include "base/chain.h"
#include "base/stat_id.h"

struct replay {
	size_t memory_most;
	uint64_t spool_most;
	const char *directory; /* NULL or "": TMPDIR, /tmp */
	stat_id gauge;         /* bytes in files */
	struct chain memory;
	int fd; /* -1: in memory */
	uint64_t total, read;
	bool overflow; /* more came than may be kept, or could be: nothing was added */
};
void replay_init(struct replay *r, size_t memory_most, uint64_t spool_most, const char *directory,
		 stat_id gauge);
void replay_fini(struct replay *r);
/* Adds a copy of bytes. False: too much, or no room on disk; r is as it was. */
bool replay_add(struct replay *r, const struct chain *bytes);
/* Up to n of the bytes not read so far. False: no memory, or the file cannot be read. */
bool replay_read(struct replay *r, size_t n, struct chain *out);
static inline uint64_t replay_left(const struct replay *r)
{
	return r->total - r->read;
}

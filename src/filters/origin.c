/* src/filters/origin.c */
#include "filters/origin.h"

void origin_note(struct exchange *ex, const struct call *c)
{
	ex->upstream_first_us = c->first_byte_us;
	ex->upstream_done_us = c->last_byte_us;
	ex->upstream_cluster = c->cluster;
	exch_addr_set(&ex->upstream_peer, c->peer);
	exch_addr_set(&ex->upstream_local, c->local);
	if (c->failure_text)
		ex->upstream_failure = str_of(c->failure_text);
}

void origin_head(struct exchange *ex, const struct call *c)
{
	ex->resp.head = *c->head;
	if (c->head_chunk)
		ex->resp_chunk = chunk_ref(c->head_chunk);
	ex->resp_head_bytes = c->head->bytes;
	origin_note(ex, c);
	ex->details = "via_upstream";
}

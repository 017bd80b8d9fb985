/* src/upstream/call.h
 *
 * A call: one request of ours and its answer, over as many attempts as the retry rules allow (robustness.md 6). Its owner
 * polls it after event(); events only mark. After call_cancel not one event more.
 */
#pragma once
#include "base/chain.h"
#include "base/failure.h"
#include "base/stat_id.h"
#include "http/head.h"
#include "model/model.h"

struct upstream;
struct call;

struct call_request {
	const struct model *model; /* the exchange's; the call references it */
	const struct cluster_cfg *cluster;
	const struct head *
		head; /* kept unchanged by the owner until the call is over. The call writes x-envoy-attempt-count itself
				    * when attempt_count is set */
	struct arena *
		arena; /* response head, trailers and texts go here; lives until the call is over */
	bool ended;    /* no body follows */
	int64_t length; /* of the body when known, -1: chunked. With ended: >= 0 writes content-length: length */
	uint64_t
		timeout_us; /* from the owner's last request byte (call_open with ended, call_send with end, or an early answer) to the
				    * last of the answer, over all attempts; 0: none */
	uint64_t idle_timeout_us;         /* no byte either way for so long; 0: none */
	const struct retry_policy *retry; /* NULL: only the implicit one */
	unsigned priority;                /* 0 DEFAULT, 1 HIGH: circuit breaker */
	bool has_hash;
	uint64_t hash;
	struct str override_host; /* "ip:port" preferred; .p NULL */
	bool override_strict;
	struct str upgrade; /* ask for this upgrade; .p NULL */
	bool keep_interim; /* 100 is passed on too (proxy_100_continue and the client expects it) */
	bool no_interim;   /* 1xx (but 101) are dropped */
	bool sheddable;    /* from PRESSURE_REFUSE on it fails with FAILED_OVERLOAD */
	bool attempt_count;
	bool trailers_ok; /* request trailers may be sent */
	const struct str *sni_override;
	/* An address that must not be asked: the attempt fails, text says why. NULL: all may. */
	const char *(*refused)(const struct call_request *rq, const struct sockaddr *to);
};

struct call {
	/* What the owner reads. */
	const struct cluster_cfg *cluster;
	void *owner;
	bool has_head; /* head is the final answer's (or 101) */
	bool ended;    /* the answer is complete: in and trailers hold the rest */
	bool failed; /* failure says how: before has_head no answer will come; after it the body broke off */
	bool request_lost; /* the rest of the request body is not wanted any more (answer came early); call_send drops it */
	bool tunnel; /* 101 was answered: bytes are raw both ways now */
	enum failure_kind failure;
	const char *failure_text; /* transport detail for logs, static or in arena; may be NULL */
	struct head
		*head; /* in request.arena, slices into chunks the call keeps until it is over */
	struct chunk *
		head_chunk; /* what head's slices point into, NULL: the arena; who needs them longer than the call takes a reference */
	int64_t length;     /* of the answer's body when announced, else -1 */
	struct chain in;    /* body received, not yet taken */
	struct head *trailers; /* NULL: none */
	struct interim {
		struct interim *next;
		struct head *head;
	} * interim; /* 1xx heads, oldest first; the owner takes them off */
	unsigned attempts;
	const struct sockaddr *peer, *local; /* of the last attempt; NULL: never connected */
	socklen_t peer_len, local_len;
	const char *hostname; /* of the endpoint (DNS), NULL: none */
	/* loop time: request begun to be written / whole request sent / answer */
	uint64_t first_byte_us, sent_us, last_byte_us;
	uint64_t bytes_sent, bytes_received;
};

/* event(c) may come in any phase, never from inside call_open, call_send, call_took, call_hold, call_gather or call_cancel: it may only
 * mark. It comes when any of what the owner reads has changed, and when call_room was 0 and is not any more. */
/* NULL: no memory. Everything else that goes wrong comes as failed. */
struct call *call_open(struct upstream *u, const struct call_request *rq,
		       void (*event)(struct call *c), void *owner);
/* Bytes the call takes now without growing past its buffer; 0: wait for the event that says
 * room. */
size_t call_room(const struct call *c);
/* Moves all of bytes. end: the request ends here, trailers (may be NULL) live as long as the head. More or less than the announced length is
 * never sent: the call fails (FAILED_CLIENT_PROTOCOL). After the end, and for a request_lost, bytes are dropped. */
void call_send(struct call *c, struct chain *bytes, bool end, const struct head *trailers);
/* The owner has taken bytes off c->in: reading may go on. It stops while c->in holds 32 KiB or
 * more, or hold is on. */
void call_took(struct call *c);
/* hold: no credit, the kernel holds the rest (HOLD). */
void call_hold(struct call *c, bool hold);
/* No read goes beyond limit bytes in c->in (HOLD with something in hand). SIZE_MAX: as usual. */
void call_limit(struct call *c, size_t limit);
/* Raises the buffer for c->in (a gathering filter); 0: back to normal. */
void call_gather(struct call *c, size_t limit);
/* Nobody will look at the bytes of the rest of this answer: long ones of a known length may come
 * as pieces that lie in a kernel pipe (base/chain.h). */
void call_splice(struct call *c, bool may);
/* Over: c is gone, with in, head and trailers. A connection goes back to its pool as soon as its answer has ended exactly and the request was
 * sent, whether taken or not; one that has not come so far is closed now. */
void call_close(struct call *c);
/* As call_close, for an answer not yet complete; same effect when it is. */
void call_cancel(struct call *c);
/* What becomes of an answer that nobody wants, and which counter tells of it. */
struct call_discard {
	uint64_t bytes, us;
	stat_id complete, drained, closed;
};
/* As call_close, but what is left of the answer is read and thrown away, so that its connection can be used again, when it is known to be
 * at most how->bytes, or turns out to be, and comes within how->us; else the connection is closed. The call goes on by itself: its
 * owner, arena and request may be gone before. */
void call_drain(struct call *c, const struct call_discard *how);

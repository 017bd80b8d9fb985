/* src/net/dns.h
 *
 * Names to addresses, asynchronously (c-ares), per worker. No cache here: upstream keeps what it needs with the TTL.
 */
#pragma once
#include "loop/loop.h"
#include <netinet/in.h>
#include <sys/socket.h>

struct dns;
struct dns_query;
enum dns_want {
	DNS_WANT_AUTO, /* v6, and v4 when there is none */
	DNS_WANT_V4,
	DNS_WANT_V6,
	DNS_WANT_V4_FIRST, /* v4, and v6 when there is none */
	DNS_WANT_ALL
};
enum { DNS_MAX_ADDRESSES = 128 };
struct dns_answer {
	bool ok;        /* at least one address */
	bool not_found; /* the name does not exist; otherwise a failure that may pass */
	unsigned n;
	struct {
		union {
			struct sockaddr sa;
			struct sockaddr_in in4;
			struct sockaddr_in6 in6;
		};
		socklen_t len;
	} * at;          /* port 0; valid during the callback only */
	uint32_t ttl_s;  /* smallest, aliases included; 0 from the hosts file, 3600 of an address */
	const char *why; /* when not ok */
};
/* servers: "127.0.0.1:53" …, comma separated, or NULL for the system's. NULL: no memory (asking then fails
 * cleanly). A resolver that is absent, broken or does not answer is no error here, but one of each question. */
struct dns *dns_new(struct loop *l, const char *servers);
void dns_free(struct dns *d); /* cancels what is open, without callbacks */
/* done is called exactly once, in phase 3, never from inside dns_ask, within timeout_us (0: as long as c-ares tries).
 * It may ask, cancel and free. NULL: no memory, or 4096 questions are open. */
struct dns_query *dns_ask(struct dns *d, const char *name, enum dns_want want, uint64_t timeout_us,
			  void (*done)(void *arg, const struct dns_answer *), void *arg);
/* No callback any more. Only before done was called; NULL is allowed. */
void dns_cancel(struct dns_query *q);

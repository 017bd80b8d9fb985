/* src/front/front_int.h: what the files of this room share. */
#pragma once
#include "base/chain.h"
#include "base/sockname.h"
#include "front/front.h"
#include "http/h1.h"
#include "net/conn.h"
#include "net/listen.h"
#include "net/tls.h"
#include <errno.h>
#include <unistd.h>

struct client;
struct h2_client;

struct accepting {
	struct acceptor acceptor;
	struct accepting *next;
	struct front *front;
	const struct listener_cfg *listener; /* of front->model */
	unsigned address;
	int fd;
	bool dead;
};

struct front {
	struct loop *loop;
	struct exch_env *env;
	const struct model *model;
	struct accepting *accepting;
	struct client *clients; /* doubly linked */
	struct client *spare;
	struct work *idle_first, *idle_last; /* of idle clients */
	struct work *spare_works;
	unsigned nclients, nspare, nadmin, nidle, nspare_works;
	uint64_t next_id;
	bool draining, stopped;
};

enum { WORK_NAME = 48, SPARE_WORKS = 256, IDLE_WORKS = 1024 };

enum client_state {
	CLIENT_HANDSHAKE,
	CLIENT_IDLE,   /* between requests (or before the first byte) */
	CLIENT_HEAD,   /* some bytes of a head are there */
	CLIENT_BODY,   /* request body arriving, answer may be under way */
	CLIENT_ANSWER, /* the request is whole */
	CLIENT_TUNNEL,
	CLIENT_LINGER, /* answered; discarding until the peer has read it */
	CLIENT_DEAD
};

/* What a client needs while it has something to do. An idle connection keeps it for a while (front.c bounds how many do), then lives without: it
 * is most of the memory of a connection. HTTP/2 connections always have one. */
struct work {
	struct client *client;
	struct work *next, *prev; /* front->idle_works, oldest first; or the spare ones */
	bool idle;                /* listed there */
	struct exch_peer peer;
	union sock_name local_sa;
	char names[2 * WORK_NAME]; /* texts of both ends */
	struct task write, again, again_write;
	uint64_t head_us; /* first byte of the head being read; 0 none */
	uint32_t discarded;
	bool minor0; /* the client speaks HTTP/1.0 */
	bool wire_chunked, head_written;

	/* HTTP/1 */
	struct exchange *ex;
	struct chunk *in;       /* bytes read; the head of ex is parsed in place */
	uint32_t in_at;         /* first byte not yet consumed */
	struct h1_parse *parse; /* in ex->arena */
	struct h1_body *body;   /* in ex->arena; NULL: none or ended */
	struct chain wire;      /* ready to be written */
	int64_t left;           /* of a length-framed answer, -1 */
};

struct client {
	struct conn conn; /* first */
	struct front *front;
	struct client *next, *prev;
	const struct model *model; /* referenced: listener, chain, hcm belong to it */
	const struct listener_cfg *listener;
	const struct chain_cfg *chain;
	const struct hcm_cfg *hcm;
	struct work *work;    /* NULL: idle for long */
	struct h2_client *h2; /* codec h2: everything of the request side is there */
	union {
		struct timer timer;
		struct grave grave; /* once dead */
	};
	uint64_t active_us; /* end of the last request, or accepted */
	char *sni;          /* lower case; owned, freed with the client; NULL none */
	union sock_name remote_sa;
	uint32_t requests;
	uint64_t id;
	uint16_t accepting_address;
	uint8_t state;
	bool half_closed; /* the peer ended its side */
	bool close_after; /* after this answer */
	bool last;        /* the client said that it asks no more */
	bool is_admin, tls;
};

/* front.c */
void client_close(struct client *c, bool reset); /* now; exchange(s) told; freed in phase 5 */
void client_timer(struct client *c, uint64_t after_us);
/* How long a client may do nothing: idle_timeout, a tenth of it from PRESSURE_LEAN on. 0: for ever. */
uint64_t client_idle_us(const struct client *c);
/* The configuration for the next request: the newest model's, where the listener still exists.
 * False: gone, close after this. */
bool client_renew(struct client *c);
/* c->work, made when there is none. NULL: no memory. */
struct work *client_work(struct client *c);
/* The client has nothing to do any more (h1). */
void client_idle(struct client *c);
void client_busy(struct client *c);
/* "127.0.0.1:80" into out (SOCKNAME_TEXT), for log lines. */
struct str client_remote(const struct client *c, char *out);
extern const struct conn_ops client_ops;

/* peer.c: exch_port's facts, shared by both codecs (port_data is the client, or has it first:
 * see client_of). */
struct client *client_of(const struct exchange *ex);
struct str port_text(struct exchange *ex, enum peer_text what, struct arena *a);
unsigned port_list(struct exchange *ex, enum peer_list what, struct arena *a, struct str **out);
int64_t port_number(struct exchange *ex, enum peer_number what);

/* h1_client.c */
void h1_client_start(struct client *c);
void h1_work_start(struct work *w);
void h1_client_ready(struct client *c);
void h1_client_gone(struct client *c); /* the connection died: tell the exchange */
void h1_client_drain(struct client *c);
void h1_client_timer(struct client *c);

/* h2_client.c: a connection that speaks HTTP/2 (ALPN h2, or the preface in cleartext). first: bytes already read, consumed from
 * c->in at c->in_at. False: no memory (the caller closes). */
bool h2_client_start(struct client *c);
void h2_client_ready(struct client *c);
void h2_client_writable(struct client *c);
void h2_client_gone(struct client *c);
/* now: no stream is accepted any more; else the client is only told to go. */
void h2_client_drain(struct client *c, bool now);
void h2_client_timer(struct client *c);

/* Common to both codecs, between parser and exch_begin: decides on Expect, Upgrade, CONNECT, TRACE (robustness.md 3.1). Returns true when ex was
 * refused. */
bool request_refused(struct exchange *ex);

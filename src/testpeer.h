/* src/testpeer.h
 *
 * Both ends of a gateway under test, on unix sockets: a client that asks once, and origins that answer by a script (a document).
 * Plain blocking sockets and threads: this is the tests' side of the wire, not the gateway's.
 */
#pragma once
#include "base/doc.h"

enum { PEER_FIELDS = 256, PEER_BODY = 64 * 1024 * 1024 };
struct peer_fields {
	struct {
		struct str name, value;
	} f[PEER_FIELDS];
	unsigned n;
};
/* One message as it came over the wire; its bytes lie in text. */
struct peer_message {
	struct peer_message *next;
	char *text;              /* malloc'd */
	struct str first;        /* the start line */
	struct str method, path; /* requests */
	unsigned status;         /* answers */
	struct peer_fields fields, trailers;
	struct str body;
	bool whole; /* it ended as it should */
};
void peer_message_free(struct peer_message *m);

/* Sends what d describes (method, path, host, headers, body, chunks, trailers; or a text "GET /x") over path and waits for the
 * answer. NULL: none came; *why says how. timeout_ms counts from now. */
struct peer_message *peer_ask(const char *path, const struct doc *d, unsigned timeout_ms,
			      const char **why);

/* Does anybody listen there? */
bool peer_listens(const char *path);

/* An origin that listens on a unix socket from here on. script: a list of answers or one answer.
 * NULL: errno says why. */
struct origin;
struct origin *origin_start(const char *path, const struct doc *script);
/* What it was asked so far, oldest first; valid until origin_stop. At most n are written;
 * returns how many there are. */
unsigned origin_requests(struct origin *o, struct peer_message **out, unsigned n);
void origin_stop(struct origin *o);

/* The headers of a document in order: a map (values: text or lists of text) or a list of [name,
 * value]; each(arg, name, value). */
void peer_headers(const struct doc *d, void (*each)(void *arg, struct str name, struct str value),
		  void *arg);

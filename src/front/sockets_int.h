/* src/front/sockets_int.h: listening sockets and prepared chains, for front.c. */
#pragma once
#include "front/front.h"
#include "net/tls.h"

/* The descriptor of that listener's address for that worker; -1: none. */
int sockets_fd(const struct sockets *s, const struct listener_cfg *l, unsigned address,
	       unsigned worker);
/* Port of an internet address, 0 otherwise. */
unsigned sockets_port(const struct address *a);
/* The chain the connection accepted as fd starts with; *tls is its context, or the picker where
 * the ClientHello decides. NULL: no chain takes it. */
const struct chain_cfg *sockets_first_chain(const struct listener_cfg *l, int fd,
					    const struct sockaddr *remote, struct tls_ctx **tls);
/* front.c */
struct tls_ctx *front_picker(struct listener_cfg *l);

/* src/net/conn_int.h: what conn.c and tls_openssl.c share. */
#pragma once
#include "net/conn.h"

/* Fills in c->failure for a connection that was established: who it is to decides the kind. */
void conn_lost(struct conn *c, int err, const char *step);

/* src/front/front.h
 *
 * Accepting clients: listeners, client connections, codec events to exchanges. One front per worker; the listening sockets are made on
 * the main thread and shared out.
 */
#pragma once
#include "base/diags.h"
#include "exchange/exchange.h"
#include "loop/loop.h"
#include "model/model.h"

struct front;
struct sockets;

/* Main thread, before a model is published: TLS contexts of filter chains, access log sinks,
 * statistics. False: errors in d. */
bool front_prepare(struct model *m, struct diags *d);

/* Listening sockets, one per worker and address (SO_REUSEPORT). Those of old whose address stays are taken over, inherited ones too
 * (sockets_inherit). A port 0 is chosen once and kept. NULL: errors in d, old unchanged. */
struct sockets *sockets_open(const struct model *m, unsigned workers, struct sockets *old,
			     struct diags *d);
/* Closes those that nobody took over. Call after every worker has swapped. */
void sockets_free(struct sockets *s);
/* Descriptor passing between supervisor and worker process: each listening socket as address
 * text and fd. */
unsigned sockets_count(const struct sockets *s);
bool sockets_at(const struct sockets *s, unsigned i, const char **address, int *fd);
/* An fd inherited from the parent process for that address; used by the next sockets_open. */
bool sockets_inherit(const char *address, int fd);
/* The bound address of a listener (port 0 resolved); "" unknown. For /listeners and start
 * messages. */
struct str sockets_address(const struct sockets *s, const struct listener_cfg *l, unsigned address,
			   char out[128]);

/* Per worker; the loop's thread (or before it runs). m is referenced. */
struct front *front_new(struct loop *l, struct exch_env *env, const struct model *m,
			const struct sockets *s);
/* New connections and next requests use m; listeners that went away are closed, their clients
 * drained. */
void front_swap(struct front *f, const struct model *m, const struct sockets *s);
/* Answers carry connection: close, idle clients are closed as their listeners close.
 * listeners_too: stop accepting. */
void front_drain(struct front *f, bool listeners_too);
/* Carries out what base/pressure.h says of clients and listeners. Called again every 100 ms while env->pressure is PRESSURE_LEAN or more, and
 * once it is not any more. Admin listeners and their clients are left alone. */
void front_pressure(struct front *f);
/* Clients still connected (data listeners; the admin listener's are not counted). */
unsigned front_clients(const struct front *f);
/* Cuts what is left. */
void front_close(struct front *f);
void front_free(struct front *f);

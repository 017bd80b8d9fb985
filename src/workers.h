/* src/workers.h: the worker threads; each has its loop, upstreams, front and exchanges. */
#pragma once
#include "front/front.h"

struct workers;
/* Threads are started at the first publish. n >= 1. */
struct workers *workers_new(struct loop *main_loop, unsigned n);
/* To all workers; old sockets are closed when every worker has moved on. Takes over m (one
 * reference) and s. False: they could not be started. */
bool workers_publish(struct workers *w, const struct model *m, struct sockets *s);
void workers_drain(struct workers *w, bool listeners_too);
/* Data clients of all workers, as of now. */
unsigned workers_clients(const struct workers *w);
struct sockets *workers_sockets(const struct workers *w);
const struct model *workers_model(const struct workers *w);
/* Cuts everything, joins the threads, frees. */
void workers_stop(struct workers *w);

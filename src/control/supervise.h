/* src/control/supervise.h
 *
 * The tiny parent of `postern run` (design.md 2): holds the listening sockets, restarts the worker process within 100 ms when it dies by a
 * signal, passes SIGTERM, SIGINT, SIGQUIT, SIGHUP on, ends with its status.
 */
#pragma once
#include <stdbool.h>

/* Forks. In the worker process: returns -1, and *channel is where supervise_keep sends sockets (inherited ones were given to inherit()). In the
 * parent: does not return before the end; returns the exit status. */
int supervise(int *channel, bool (*inherit)(const char *address, int fd));
/* Worker process: the parent shall hold this listening socket too. */
bool supervise_keep(int channel, const char *address, int fd);
/* Worker process: forget all kept sockets (before sending the set of a new model). */
bool supervise_clear(int channel);

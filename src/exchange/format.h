/* src/exchange/format.h
 *
 * Carries out the format strings of model/format.h on an exchange: header values and access log
 * lines.
 */
#pragma once
#include "exchange/exchange.h"

/* The text of f now; in arena a (which may be the exchange's). .p NULL: no memory. An operator
 * without value gives "-" (log == true) or nothing (header values, omit_empty). */
struct str format_text(struct exchange *ex, const struct format *f, struct arena *a, bool log);
/* Applies header operations to h in order. which: the request's or the answer's list of ops. */
void header_ops_apply(struct exchange *ex, struct head *h, const struct header_op *ops, unsigned n);

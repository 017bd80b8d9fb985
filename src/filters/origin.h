/* src/filters/origin.h: what the filters that call origins share. */
#pragma once
#include "exchange/exchange.h"
#include "upstream/call.h"

/* Notes for the log and for scripts which origin a call reached, when it answered, why it did not. */
void origin_note(struct exchange *ex, const struct call *c);
/* The head of c's answer becomes the exchange's, with the chunk it lies in; noted too. */
void origin_head(struct exchange *ex, const struct call *c);

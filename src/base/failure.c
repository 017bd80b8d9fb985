/* src/base/failure.c */
#include "base/failure.h"

const struct failure_info failure_infos[FAILURE_KINDS] = {
#define X(name, flag, status, details, text) [name] = {#name, flag, status, details, text},
	FAILURES(X)
#undef X
};

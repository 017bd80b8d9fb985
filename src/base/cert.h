/* src/base/cert.h: what a certificate says, for rooms that may not know a TLS library. */
#pragma once
#include "base/str.h"
#include <stdint.h>

/* Texts and lists belong to whoever made them. */
struct cert_facts {
	struct str serial;            /* lower-case hex, whole bytes */
	struct str *dns, *uris, *ips; /* subject alternative names, in the certificate's order */
	unsigned ndns, nuris, nips;
	int64_t not_before, not_after; /* seconds since the epoch */
};

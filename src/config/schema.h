/* src/config/schema.h
 *
 * One table per Envoy message that postern knows (design.md 3): every field with number, kind and status. Drives the unknown-
 * field errors with suggestions, proto-JSON type checks, the list of harmless fields, and the reference page in docs.
 * Written by hand from Envoy's published API; fields of a listed message that postern does not carry out are listed as
 * refused, so that "known but unsupported" and "unknown" are told apart.
 */
#pragma once
#include "base/diags.h"
#include "base/doc.h"

enum schema_kind {
	SCHEMA_STRING,
	SCHEMA_BOOL,
	SCHEMA_INT32,
	SCHEMA_UINT32,
	SCHEMA_INT64,
	SCHEMA_UINT64,
	SCHEMA_DOUBLE,
	SCHEMA_BYTES,
	SCHEMA_ENUM,
	SCHEMA_DURATION,
	SCHEMA_TIMESTAMP,
	SCHEMA_MESSAGE,
	SCHEMA_ANY,
	SCHEMA_STRUCT,
	SCHEMA_VALUE,
	SCHEMA_FLOAT
};
enum schema_status {
	SCHEMA_USED,
	SCHEMA_HARMLESS, /* accepted without effect; reported once by check as a notice */
	SCHEMA_REFUSED   /* an error: known to Envoy, not supported; why says what to do */
};
enum { SCHEMA_ONE, SCHEMA_LIST, SCHEMA_MAP /* string keys */ };

struct schema_message;
struct schema_field {
	const char *name; /* snake_case */
	uint32_t number;
	uint8_t kind, shape, status;
	uint8_t oneof; /* fields of the same number != 0 exclude each other */
	const struct schema_message *
		message; /* SCHEMA_MESSAGE; NULL: a refused or harmless one that is not looked into */
	const char *const *enum_names; /* SCHEMA_ENUM: NULL-terminated "NAME" by value (holes "") */
	const char *why;               /* HARMLESS and REFUSED */
	bool deprecated;               /* a notice */
	bool wrapper; /* google.protobuf.UInt32Value and its like: false and 0 differ from absent */
	bool lenient; /* below it everything is data: types are checked, nothing is refused */
};
struct schema_message {
	const char *name;                  /* "envoy.config.cluster.v3.Cluster" */
	const struct schema_field *fields; /* name NULL ends */
};

/* All of them, NULL-terminated. */
extern const struct schema_message *const schema_messages[];
/* By full name (type URL without host), deprecated v2 and filter spellings included; NULL:
 * unknown. */
const struct schema_message *schema_find(struct str name);
/* Checks d (a map) against m, recursively, Any fields by their "@type" included; every mistake
 * is added to diags. */
void schema_check(struct diags *diags, const struct doc *d, const struct schema_message *m);
/* Today's full name for an old type URL or an old extension name without typed_config
 * ("envoy.router"); .p NULL: unknown. */
struct str schema_canonical_type(struct str type_url_or_name);

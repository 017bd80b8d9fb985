/* src/exchange/metadata.h
 *
 * Dynamic metadata (namespace -> key -> value) and filter state of one exchange, in its arena. A value is a JSON-like tree; once set it
 * is not changed, only replaced.
 */
#pragma once
#include "base/arena.h"

enum value_kind { VALUE_NULL, VALUE_BOOL, VALUE_NUMBER, VALUE_STRING, VALUE_LIST, VALUE_MAP };
struct value {
	enum value_kind kind;
	union {
		bool boolean;
		double number;
		struct str string;
		struct {
			struct value *first, *last; /* LIST, MAP */
			uint32_t n;
		} list;
	};
	struct str key; /* of a map's child */
	struct value *next;
};
struct metadata {
	struct value *first; /* namespaces: MAP values with key = namespace, in order of creation */
	struct value *
		typed; /* the same for typed metadata: the set fields of a protobuf message, as reflection names them */
};
struct value *value_new(struct arena *a, enum value_kind kind);
void value_add(struct value *parent, struct value *child);
/* The namespace's MAP, or NULL. */
struct value *metadata_get(const struct metadata *m, struct str ns);
struct value *value_get(const struct value *map, struct str key);
/* Replaces the value of that key whole; key and ns are copied. False: no memory. */
bool metadata_set(struct metadata *m, struct arena *a, struct str ns, struct str key,
		  struct value *v);
/* As metadata_get, and makes an empty one when missing. NULL: no memory. */
struct value *metadata_namespace(struct metadata *m, struct arena *a, struct str ns);
/* Typed metadata of a namespace, a MAP, or NULL. */
struct value *metadata_typed(const struct metadata *m, struct str ns);
/* Replaces a namespace's typed metadata by message's children, which are shared and must live as
 * long. False: no memory. */
bool metadata_set_typed(struct metadata *m, struct arena *a, struct str ns,
			const struct value *message);
/* What stands when with is written over old, by Envoy's rules for Struct: maps merge, lists are joined, else with. Neither is
 * changed; what is kept is shared, but for the node given back, whose key is with's. NULL: no memory. */
struct value *value_merge(struct arena *a, const struct value *old, const struct value *with);
/* A doc (static route metadata) as a value tree. A number that is not whole reads as a string when it was written in YAML, as in
 * Envoy. */
struct doc;
struct value *value_from_doc(struct arena *a, const struct doc *d);

struct state_entry { /* filter state: strings made by envoy.string and ours */
	struct state_entry *next;
	struct str name, value;
	bool read_only; /* stays as it is */
};
struct state_entry *state_find(struct state_entry *first, struct str name);

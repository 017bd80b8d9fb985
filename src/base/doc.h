/* src/base/doc.h
 *
 * The tree in which all configuration doors meet: maps, lists, scalars, each with its place in a
 * file. Built in an arena; immutable once read, except by patches (istio).
 */
#pragma once
#include "base/arena.h"
#include "base/str.h"

struct doc_place {
	const char
		*file; /* as the operator named it; NUL-terminated, lives in the arena or longer */
	uint32_t line, column; /* from 1; 0 when unknown (xDS) */
};
enum doc_kind { DOC_NULL, DOC_BOOL, DOC_NUMBER, DOC_STRING, DOC_LIST, DOC_MAP };

/* A scalar keeps its text. kind is what the source said: plain YAML scalars are resolved by YAML 1.1
 * rules as Go's YAML-to-JSON does (istio.md 1.1); quoted ones are always DOC_STRING. */
struct doc {
	enum doc_kind kind;
	struct doc_place at;
	struct str text; /* scalars: the text as written (quotes and escapes resolved) */
	union {
		bool boolean;
		double number;
	};
	bool is_int; /* DOC_NUMBER that is a whole number in int64 range */
	int64_t integer;
	struct doc *first; /* children of a list or map, in order */
	struct doc *last;
	struct doc *next; /* sibling */
	struct str key;   /* of a map's child */
	struct doc_place key_at;
	struct doc *parent; /* NULL at the root */
	uint32_t n;         /* number of children */
};

struct doc *doc_new(struct arena *a, enum doc_kind kind, struct doc_place at);
/* Appends child to a list or (with key) a map; the child's parent must be NULL. */
void doc_add(struct doc *parent, struct str key, struct doc *child);
/* NULL: no such key, or d is NULL or no map. */
struct doc *doc_get(const struct doc *d, const char *key);
struct doc *doc_get_str(const struct doc *d, struct str key);
/* Two spellings of a proto field: snake_case, and lowerCamelCase made from it. */
struct doc *doc_field(const struct doc *d, const char *snake);
/* "static_resources.listeners[0].name" from the root, for messages; in arena a. */
struct str doc_path(struct arena *a, const struct doc *d);
struct doc *doc_copy(struct arena *a, const struct doc *d);
#define doc_each(child, parent) \
	for (struct doc *child = (parent) ? (parent)->first : NULL; child; child = child->next)

/* src/http/head.h
 *
 * Start line and fields of a message, parsed. Pseudo fields (:authority, :path, :method, :scheme,
 * :status) are ordinary entries in front of the others, as in HTTP/2 and in Envoy's scripts. Order and duplicates
 * are kept; names keep the case they came with, comparisons ignore it. Names and values are slices of
 * memory that lives as long as the head's arena does (the read chunk, the arena, static text).
 */
#pragma once
#include "base/arena.h"
#include "http/names.h"

struct field { /* 24 bytes */
	const char *name_p, *value_p;
	uint32_t value_n;
	uint16_t name_n;
	uint8_t id;   /* enum field_id; FIELD_OTHER for names not listed */
	uint8_t mark; /* for the holder of the head; 0 at first */
};

enum method {
	METHOD_OTHER,
	METHOD_GET,
	METHOD_HEAD,
	METHOD_POST,
	METHOD_PUT,
	METHOD_DELETE,
	METHOD_PATCH,
	METHOD_OPTIONS,
	METHOD_CONNECT,
	METHOD_TRACE
};

struct head {
	struct arena *arena;
	struct field *f;
	uint16_t n, cap;
	uint16_t pseudo; /* the first so many fields are pseudo fields */
	uint16_t status; /* response; kept equal to :status, 0 when that is absent or no number */
	uint8_t method;  /* enum method; kept equal to :method */
	uint8_t minor;   /* HTTP/1.minor as received; 1 otherwise */
	bool is_response;
	bool touched;    /* a pseudo field was changed since this was last set to false */
	uint64_t has[2]; /* bit id: at least one field of this id is there */
	struct str
		reason; /* HTTP/1 response: the phrase received or set by a script; .p NULL: standard text */
	uint64_t bytes; /* size as received, for %REQUEST_HEADERS_BYTES% */
};

static inline struct str field_name(const struct field *f)
{
	return (struct str){f->name_p, f->name_n};
}
static inline struct str field_value(const struct field *f)
{
	return (struct str){f->value_p, f->value_n};
}
static inline bool head_has(const struct head *h, enum field_id id)
{
	return h->has[id / 64] >> (id % 64) & 1;
}

/* fields: how many to make room for. False: no memory. */
bool head_init(struct head *h, struct arena *a, bool is_response, unsigned fields);
/* First field of that id (not FIELD_OTHER), or NULL. */
struct field *head_get_(const struct head *h, enum field_id id);
static inline struct field *head_get(const struct head *h, enum field_id id)
{
	return id && head_has(h, id) ? head_get_(h, id) : NULL;
}
/* Its value, .p NULL when absent. */
static inline struct str head_value(const struct head *h, enum field_id id)
{
	const struct field *f = head_get(h, id);
	return f ? field_value(f) : (struct str){NULL, 0};
}
/* First field of that name at or after f (NULL: from the start), or NULL. "host" finds
 * :authority. */
struct field *head_find(const struct head *h, struct str name);
struct field *head_find_next(const struct head *h, const struct field *after, struct str name);
/* Appends (pseudo fields: behind the last pseudo field). Nothing is copied: name and value must live long enough.
 * False: no memory (arena.over). */
bool head_add(struct head *h, struct str name, struct str value);
bool head_add_id(struct head *h, enum field_id id, struct str value);
/* As head_add, for a name known not to be listed. */
bool head_add_other(struct head *h, struct str name, struct str value);
/* As head_add with copies in the arena. */
bool head_add_copy(struct head *h, struct str name, struct str value);
/* Removes all of that name and appends one, at the end (pseudo: end of the pseudo fields). */
bool head_replace(struct head *h, struct str name, struct str value);
/* Overwrites the first of that id in its place and removes the others; appends when absent. */
bool head_set_id(struct head *h, enum field_id id, struct str value);
/* How many were removed. */
unsigned head_remove(struct head *h, struct str name);
unsigned head_remove_id(struct head *h, enum field_id id);
void head_remove_at(struct head *h, unsigned index);
/* All of src into dst (initialised here) with copies in a. */
bool head_copy(struct head *dst, struct arena *a, const struct head *src);
/* As head_replace, for a listed name. */
bool head_replace_id(struct head *h, enum field_id id, struct str value);
bool head_set_status(struct head *h, unsigned status);
/* Joins the repeated fields of single-slot names by ",", as Envoy's header map does (lua-
 * filter.md 4.2). */
bool head_join_single(struct head *h);
/* All values of the id joined by ", " or another separator; the value itself when there is one.
 * In arena. */
struct str head_joined(const struct head *h, struct str name, const char *sep, struct arena *a);

/* RFC 9110 5.6.2; 5.5 (no CR, LF, NUL and other controls but HTAB). */
bool field_name_ok(struct str name);
bool field_value_ok(struct str value);
/* RFC 9110 4.2, 7.2: host [":" port], no userinfo; port <= 65535. */
bool authority_ok(struct str a);
enum method method_of(struct str s);
/* Requests of this method need not say that they have no content (RFC 9110 8.6); the others say so, as
 * Envoy's do. */
bool method_is_bare(enum method m);
/* "Not Found"; "" when unknown. */
const char *status_text(unsigned status);
/* Of type application/grpc or application/grpc+x, as Envoy sees it: parameters make it another. */
bool head_is_grpc(const struct head *h);
/* The grpc-status for an HTTP status (gRPC's http-grpc-status-mapping, as Envoy has it). */
const char *grpc_status_of(unsigned status);
/* Searches a comma list for a token, ignoring case and blanks. */
bool list_has(struct str list, struct str token);

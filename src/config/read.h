/* src/config/read.h
 *
 * Reading checked values out of the Envoy-shaped tree, by proto-JSON rules: snake_case or lowerCamelCase keys, durations
 * ("1.5s"), wrappers, enums by name or number, 64-bit numbers as strings, Any with "@type". Each reports its mistake
 * itself (place, path) and returns the default. The tree was checked against the schema first (schema.h), so only values and
 * ranges are judged here; a wrong type is reported here only when nothing was reported before. field may be NULL in
 * all of them but the header operations: then d itself is the value (elements of lists).
 */
#pragma once
#include "base/diags.h"
#include "base/doc.h"
#include "model/model.h"

struct reader {
	struct arena *arena; /* the model's */
	struct diags *diags;
	struct model *model;
	const struct filter_type *const *types; /* NULL-terminated */
	const char *
		base_dir; /* against which relative file names are resolved; NULL: the working directory */
};

/* The child of that field, NULL when absent or null. */
const struct doc *read_field(const struct doc *d, const char *snake);
bool read_bool(struct reader *r, const struct doc *d, const char *field, bool absent);
uint64_t read_uint(struct reader *r, const struct doc *d, const char *field, uint64_t absent,
		   uint64_t min, uint64_t max);
double read_double(struct reader *r, const struct doc *d, const char *field, double absent,
		   double min, double max);
/* Copied into the arena; .p NULL when absent. */
struct str read_str(struct reader *r, const struct doc *d, const char *field);
/* As read_str; an absent or empty one is an error. */
struct str read_str_needed(struct reader *r, const struct doc *d, const char *field);
/* google.protobuf.Duration -> us. Negative or too large: error. */
uint64_t read_duration(struct reader *r, const struct doc *d, const char *field,
		       uint64_t absent_us);
/* names: NULL-terminated, index = value. A number is taken as the value when in range. */
int read_enum(struct reader *r, const struct doc *d, const char *field, const char *const *names,
	      int absent);
/* List of strings, copied. */
struct str *read_strs(struct reader *r, const struct doc *d, const char *field, unsigned *n);
/* config.core.v3.Address (socket_address, pipe). names_ok: a host name is allowed (DNS
 * clusters). */
bool read_address(struct reader *r, const struct doc *d, const char *field, bool names_ok,
		  struct address *out);
/* config.core.v3.DataSource: filename (read now, watched), inline_string, inline_bytes (base64), environment_variable. False when
 * absent or an error was reported; limit in bytes. */
bool read_source(struct reader *r, const struct doc *d, const char *field, size_t limit,
		 struct source *out);
/* type.v3.FractionalPercent / core.v3.RuntimeFractionalPercent (its default_value): n of of;
 * absent: false. */
bool read_fraction(struct reader *r, const struct doc *d, const char *field, uint32_t *n,
		   uint32_t *of);
/* The typed_config of a named extension: its "@type" without the "type.googleapis.com/" prefix, deprecated spellings resolved to
 * today's; .p NULL and an error when it is missing. */
struct str read_type_url(struct reader *r, const struct doc *any);
/* As read_type_url, and the message itself: any, or what stands in "value" of an
 * xds.type.v3.TypedStruct; never NULL. */
const struct doc *read_any(struct reader *r, const struct doc *any, struct str *type);
/* A relative file name made absolute to base_dir; path itself otherwise. .p NULL: no memory,
 * reported. */
struct str read_path(struct reader *r, struct str path);
/* type.matcher.v3.StringMatcher, RegexMatcher; core HeaderMatcher and route matchers. False:
 * error reported. */
bool read_string_match(struct reader *r, const struct doc *d, struct string_match *out);
const struct regex *
read_regex(struct reader *r, const struct doc *d); /* RegexMatcher message; freed with the model */
bool read_field_match(struct reader *r, const struct doc *d, struct field_match *out);
/* header_value_option lists and removals of a message that has request_headers_to_add,
 * ..._to_remove, response_... */
void read_header_ops(struct reader *r, const struct doc *d, struct header_ops *out);

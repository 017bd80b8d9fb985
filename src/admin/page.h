/* src/admin/page.h
 *
 * A page being written: text, or JSON by json_open, json_field and json_close. Memory that runs out
 * makes failed sticky; the page is then not sent. Worker's thread.
 */
#pragma once
#include "base/chain.h"
#include "base/str.h"
#include <stdint.h>

enum { JSON_DEPTH = 32 };
struct page {
	struct chain body; /* the page's owner moves or clears it */
	bool failed;
	/* JSON */
	bool compact; /* no line ends (else one space for each level, as Envoy) */
	unsigned depth;
	char close[JSON_DEPTH];
	bool some[JSON_DEPTH + 1]; /* this level has a member already */
};

void page_add(struct page *p, struct str s);
void page_addf(struct page *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Opens a map '{' or a list '['; key: of the member in the map around it, NULL in a list and at the
 * top. */
void json_open(struct page *p, const char *key, char bracket);
void json_close(struct page *p);
/* A member with a JSON text as its value: a number, true, null … */
void json_field(struct page *p, const char *key, const char *value);
void json_string(struct page *p, const char *key, struct str value);
void json_number(struct page *p, const char *key, uint64_t value);
/* As json_string with the key given as a str. */
void json_string_at(struct page *p, struct str key, struct str value);
/* 64-bit numbers as proto-JSON writes them: quoted. */
void json_quoted(struct page *p, const char *key, uint64_t value);

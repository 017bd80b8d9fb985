/* src/filters/lua/lint_int.h: what lint.c and lint_token.c share. */
#pragma once
#include "filters/lua/lint.h"

enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_KEY, TOKEN_STRING, TOKEN_NUMBER, TOKEN_OP };
enum token_key {
	KEY_NONE,
	KEY_AND,
	KEY_BREAK,
	KEY_DO,
	KEY_ELSE,
	KEY_ELSEIF,
	KEY_END,
	KEY_FALSE,
	KEY_FOR,
	KEY_FUNCTION,
	KEY_GOTO,
	KEY_IF,
	KEY_IN,
	KEY_LOCAL,
	KEY_NIL,
	KEY_NOT,
	KEY_OR,
	KEY_REPEAT,
	KEY_RETURN,
	KEY_THEN,
	KEY_TRUE,
	KEY_UNTIL,
	KEY_WHILE,
	KEYS
};
#define OP_EQ ((char)('e' | 0x80))
#define OP_NE ((char)('!' | 0x80))
#define OP_LE ((char)('l' | 0x80))
#define OP_GE ((char)('g' | 0x80))
struct token {
	uint8_t kind, key;
	char op; /* the byte, or OP_ for two of them */
	uint32_t line, column;
	uint32_t mate;   /* of brackets and blocks: the other end */
	struct str text; /* as written */
	struct str
		value; /* NAME, NUMBER: text; STRING: what is between the quotes, escapes as written */
};
struct tokens {
	struct token *t; /* t[n] is TOKEN_END */
	uint32_t n;
};
/* False: no memory, or too many. */
bool lint_tokens(struct str source, struct arena *a, struct tokens *out);
/* Fills in mate. False: they do not match, or are nested too deeply. */
bool lint_pair(struct tokens *k);
/* Token i is a break with something behind it in its block. */
bool lint_mid_break(const struct tokens *k, uint32_t i);

/* src/http/h1_parse_plain_test.c: the same tests on the parser as machines without SSE2 get it. */
#define SCAN_PLAIN 1
#include "http/h1_parse.c"
#include "http/h1_parse_test.c"

/* src/base/sockname.h: socket addresses as text, without libc's slow ways. */
#pragma once
#include "base/str.h"
#include <sys/socket.h>

enum { SOCKNAME_TEXT = 128 };
/* "127.0.0.1:80", "[::1]:80", the path of a unix socket ("" when unnamed). Returns bytes
 * written, no NUL; out has SOCKNAME_TEXT. */
size_t sockname_text(const struct sockaddr *sa, socklen_t len, char *out);

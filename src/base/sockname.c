/* src/base/sockname.c */
#include "base/sockname.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

static char *decimal(char *o, unsigned v)
{
	char b[10];
	unsigned n = 0;
	do
		b[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*o++ = b[--n];
	return o;
}

size_t sockname_text(const struct sockaddr *sa, socklen_t len, char *out)
{
	char *o = out;
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
		uint32_t a = ntohl(in->sin_addr.s_addr);
		for (int shift = 24; shift >= 0; shift -= 8) {
			o = decimal(o, a >> shift & 255);
			*o++ = shift ? '.' : ':';
		}
		o = decimal(o, ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)sa;
		*o++ = '[';
		if (!inet_ntop(AF_INET6, &in->sin6_addr, o, INET6_ADDRSTRLEN))
			return 0;
		o += strlen(o);
		*o++ = ']';
		*o++ = ':';
		o = decimal(o, ntohs(in->sin6_port));
	} else if (sa->sa_family == AF_UNIX && len > offsetof(struct sockaddr_un, sun_path)) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)(const void *)sa;
		size_t n = strnlen(un->sun_path, len - offsetof(struct sockaddr_un, sun_path));
		if (n > SOCKNAME_TEXT)
			n = SOCKNAME_TEXT;
		memcpy(o, un->sun_path, n);
		o += n;
	}
	return (size_t)(o - out);
}

/* src/model/chain_test.c: which filter chain serves a connection. */
#include "base/must.h"
#include "model/model.h"
#include <arpa/inet.h>
#include <stdio.h>

static struct address address(const char *ip, uint16_t port)
{
	struct address a = {0};
	if (strchr(ip, ':')) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons(port);
		must(inet_pton(AF_INET6, ip, &a.in6.sin6_addr) == 1);
		a.len = sizeof a.in6;
	} else {
		a.in4.sin_family = AF_INET;
		a.in4.sin_port = htons(port);
		must(inet_pton(AF_INET, ip, &a.in4.sin_addr) == 1);
		a.len = sizeof a.in4;
	}
	return a;
}

static struct cidr range(const char *ip, unsigned bits)
{
	struct cidr c = {.family = strchr(ip, ':') ? AF_INET6 : AF_INET, .bits = (uint8_t)bits};
	must(inet_pton(c.family, ip, c.bytes) == 1);
	return c;
}

static const char *served(const struct listener_cfg *l, const char *sni, const char *alpn, bool tls,
			  const char *to, const char *from)
{
	struct str alpns[] = {str_of(alpn), STR("http/1.1")};
	struct address local = address(to, 443), remote = address(from, 5000);
	struct chain_ask ask = {.sni = str_of(sni),
				.alpns = alpns,
				.nalpns = alpn[0] ? 2 : 0,
				.tls = tls,
				.local = &local,
				.remote = &remote};
	const struct chain_cfg *c = model_chain_for(l, &ask);
	return c ? c->name.p : "-";
}

#define SERVED(want, ...) must(strcmp(served(&l, __VA_ARGS__), want) == 0)

static void names(void)
{
	static struct str exact[] = {STR("a.com"), STR("b.com")}, wide[] = {STR("*.com")},
			  narrow[] = {STR("*.a.com")};
	struct chain_cfg chains[] = {
		{.name = STR("any")},
		{.name = STR("wide"), .server_names = wide, .nserver_names = 1},
		{.name = STR("exact"), .server_names = exact, .nserver_names = 2},
		{.name = STR("narrow"),
		 .server_names = narrow,
		 .nserver_names = 1,
		 .transport = TRANSPORT_TLS},
	};
	struct chain_cfg fallback = {.name = STR("fallback")};
	struct listener_cfg l = {.chains = chains, .nchains = 4};
	SERVED("exact", "b.com", "", true, "10.0.0.1", "10.0.0.2");
	SERVED("narrow", "x.a.com", "", true, "10.0.0.1", "10.0.0.2");
	SERVED("narrow", "y.x.a.com", "", true, "10.0.0.1", "10.0.0.2");
	SERVED("wide", "x.b.com", "", true, "10.0.0.1", "10.0.0.2");
	SERVED("wide", "c.com", "", true, "10.0.0.1", "10.0.0.2");
	SERVED("any", "c.org", "", true, "10.0.0.1", "10.0.0.2");
	SERVED("any", "", "", false, "10.0.0.1", "10.0.0.2");
	SERVED("any", "com", "", false, "10.0.0.1", "10.0.0.2");
	/* No way back from a better name to another chain. */
	SERVED("-", "x.a.com", "", false, "10.0.0.1", "10.0.0.2");
	l.fallback = &fallback;
	SERVED("fallback", "x.a.com", "", false, "10.0.0.1", "10.0.0.2");
	l.nchains = 0;
	SERVED("fallback", "", "", false, "10.0.0.1", "10.0.0.2");
}

static void addresses(void)
{
	struct cidr ten[] = {range("10.0.0.0", 8)},
		    narrow[] = {range("10.1.0.0", 17), range("fd00::", 9)};
	static struct str h2[] = {STR("h2")}, h1[] = {STR("http/1.1")};
	struct chain_cfg chains[] = {
		{.name = STR("ten"), .dest = ten, .ndest = 1},
		{.name = STR("narrow"), .dest = narrow, .ndest = 2},
		{.name = STR("h2"), .alpns = h2, .nalpns = 1},
		{.name = STR("h1"), .alpns = h1, .nalpns = 1},
		{.name = STR("src"), .source = ten, .nsource = 1},
		{.name = STR("local"), .source_type = SOURCE_SAME_IP_OR_LOOPBACK},
	};
	struct listener_cfg l = {.chains = chains, .nchains = 6};
	SERVED("narrow", "", "", false, "10.1.127.255", "1.1.1.1");
	SERVED("ten", "", "", false, "10.1.128.0", "1.1.1.1");
	SERVED("ten", "", "", false, "::ffff:10.2.0.1", "1.1.1.1");
	SERVED("narrow", "", "", false, "fd01::1", "1.1.1.1");
	SERVED("narrow", "", "", false, "fd7f::1", "::1");
	SERVED("h2", "", "h2", true, "11.0.0.1", "1.1.1.1");
	SERVED("h1", "", "spdy", true, "11.0.0.1", "1.1.1.1");
	SERVED("src", "", "", true, "11.0.0.1", "10.9.9.9");
	SERVED("-", "", "", true, "11.0.0.1", "12.9.9.9");
	SERVED("local", "", "", true, "11.0.0.1", "127.0.0.1");
	SERVED("local", "", "", true, "11.0.0.1", "11.0.0.1");
	chains[4].dest_port = 443;
	SERVED("-", "", "", true, "11.0.0.1", "127.0.0.1");
	chains[4].dest_port = 444;
	SERVED("local", "", "", true, "11.0.0.1", "127.0.0.1");
	static uint16_t ports[] = {1, 5000};
	chains[5].source_ports = ports;
	chains[5].nsource_ports = 2;
	SERVED("local", "", "", true, "11.0.0.1", "127.0.0.1");
	chains[5].nsource_ports = 1;
	SERVED("-", "", "", true, "11.0.0.1", "127.0.0.1");
	/* A unix socket has neither address nor port. */
	struct address un = {.len = sizeof(struct sockaddr_un)};
	un.un.sun_family = AF_UNIX;
	struct chain_ask ask = {.local = &un, .remote = NULL};
	chains[5].source_ports = NULL;
	chains[5].nsource_ports = 0;
	must(model_chain_for(&l, &ask) == &chains[5]);
}

static void overlaps(void)
{
	static struct str ab[] = {STR("a"), STR("b")}, bc[] = {STR("b"), STR("c")},
			  c[] = {STR("c")};
	struct chain_cfg x = {.server_names = ab, .nserver_names = 2},
			 y = {.server_names = bc, .nserver_names = 2};
	must(chains_overlap(&x, &y));
	y.server_names = c;
	y.nserver_names = 1;
	must(!chains_overlap(&x, &y));
	y.nserver_names = 0;
	must(!chains_overlap(&x, &y));
	x.nserver_names = 0;
	must(chains_overlap(&x, &y));
	x.transport = TRANSPORT_TLS;
	must(!chains_overlap(&x, &y));
}

int main(void)
{
	names();
	addresses();
	overlaps();
	return 0;
}

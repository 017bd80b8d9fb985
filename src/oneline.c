/* src/oneline.c */
#include "oneline.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

/* scheme://[NAME@]HOST[:PORT][/] */
struct url {
	bool tls, is_ip, is_v6;
	struct str name; /* for SNI and verification; .p NULL: none */
	char host[256];
	unsigned port;
};

static bool complain(const char *option, const char *arg, const char *what)
{
	fprintf(stderr, "postern: --%s %s: %s\n", option, arg, what);
	return false;
}

static bool plain_name(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '.' || c == '_'))
			return false;
	}
	return s.n > 0 && s.n < 254;
}

static bool url_read(const char *option, const char *text, const char *default_name, struct url *u)
{
	struct in6_addr any;
	struct str rest = str_of(text), name, host, port = {NULL, 0};
	uint64_t number;
	*u = (struct url){0};
	if (str_starts(rest, STR("https://")))
		u->tls = true;
	else if (!str_starts(rest, STR("http://")))
		return complain(option, text, "must begin with http:// or https://");
	rest = str_from(rest, u->tls ? 8 : 7);
	if (rest.n && rest.p[rest.n - 1] == '/')
		rest.n--;
	if (rest.n && memchr(rest.p, '/', rest.n))
		return complain(option, text,
				"has a path: the request's own path is asked for, an origin is "
				"scheme, host and port only");
	if (rest.n && memchr(rest.p, '@', rest.n)) {
		str_cut(rest, '@', &name, &rest);
		if (!plain_name(name))
			return complain(option, text,
					"what stands before @ must be the name of the origin");
		u->name = name;
	}
	if (rest.n && rest.p[0] == '[') {
		const char *end = memchr(rest.p, ']', rest.n);
		if (!end)
			return complain(option, text, "the ] is missing");
		host = (struct str){rest.p + 1, (size_t)(end - rest.p) - 1};
		port = str_from(rest, host.n + 2);
		if (port.n && port.p[0] != ':')
			return complain(option, text, "behind ] may only be :PORT");
		port = str_from(port, 1);
		u->is_v6 = true;
	} else {
		str_cut(rest, ':', &host, &port);
	}
	if (!host.n || host.n >= sizeof u->host || (!u->is_v6 && !plain_name(host)))
		return complain(option, text, "has no valid host");
	memcpy(u->host, host.p, host.n);
	u->port = u->tls ? 443 : 80;
	if (port.n && (!str_u64(port, &number) || number < 1 || number > 65535))
		return complain(option, text, "has no valid port");
	if (port.n)
		u->port = (unsigned)number;
	u->is_ip = inet_pton(u->is_v6 ? AF_INET6 : AF_INET, u->host, &any) == 1;
	if (u->is_v6 && !u->is_ip)
		return complain(option, text, "what stands in [] is no address");
	if (!u->name.p && !u->is_ip)
		u->name = str_of(u->host);
	else if (!u->name.p && default_name)
		u->name = str_of(default_name);
	return true;
}

static bool add(const char **list, unsigned *n, unsigned most, const char *name, const char *arg)
{
	if (*n == most) {
		fprintf(stderr, "postern: more than %u --%s\n", most, name);
		return false;
	}
	list[(*n)++] = arg;
	return true;
}

int oneline_take(struct oneline *o, const char *name, const char *arg)
{
	struct str n = str_of(name);
	bool primary = str_eq(n, STR("primary"));
	if (primary || str_eq(n, STR("static"))) {
		if (o->site)
			return complain(name, arg, "there is a primary already");
		o->site = arg;
		o->dynamic = primary;
	} else if (str_eq(n, STR("fallback"))) {
		if (!add(o->fallbacks, &o->nfallbacks, ONELINE_FALLBACKS, name, arg))
			return 0;
	} else if (str_eq(n, STR("override"))) {
		if (!add(o->overrides, &o->noverrides, ONELINE_OVERRIDES, name, arg))
			return 0;
	} else if (str_eq(n, STR("listen"))) {
		if (!add(o->listens, &o->nlistens, ONELINE_LISTENS, name, arg))
			return 0;
	} else if (str_eq(n, STR("fallback-ca"))) {
		o->fallback_ca = arg;
	} else if (str_eq(n, STR("host"))) {
		if (!plain_name(str_of(arg)))
			return complain(name, arg, "is no host name");
		o->host = arg;
	} else if (str_eq(n, STR("cert"))) {
		o->cert = arg;
	} else if (str_eq(n, STR("key"))) {
		o->key = arg;
	} else if (str_eq(n, STR("no-probe"))) {
		o->no_probe = true;
	} else {
		return -1;
	}
	o->given = true;
	return 1;
}

/* ---- writing */

/* A YAML scalar in double quotes. */
static void quoted(FILE *f, struct str s)
{
	fputc('"', f);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < ' ' || c == 0x7f)
			fprintf(f, "\\x%02x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void write_override(FILE *f, struct str kind, struct str name, struct str value,
			   bool has_value)
{
	fprintf(f, "            - %.*s: {name: ", STR_ARG(kind));
	quoted(f, name);
	if (has_value) {
		fputs(", exact: ", f);
		quoted(f, value);
	} else {
		fputs(", present: true", f);
	}
	fputs("}\n", f);
}

/* query:NAME=VALUE, cookie:NAME=VALUE, header:NAME=VALUE; without =VALUE: there at all. */
static bool write_overrides(FILE *f, const struct oneline *o)
{
	if (o->noverrides)
		fputs("            override:\n", f);
	for (unsigned i = 0; i < o->noverrides; i++) {
		struct str kind, rest, name, value;
		bool ok = str_cut(str_of(o->overrides[i]), ':', &kind, &rest);
		ok = ok && (str_eq(kind, STR("query")) || str_eq(kind, STR("cookie")) ||
			    str_eq(kind, STR("header")));
		bool has_value = str_cut(rest, '=', &name, &value);
		if (!ok || !name.n)
			return complain(
				"override", o->overrides[i],
				"must be query:NAME=VALUE, cookie:NAME=VALUE or header:NAME=VALUE");
		write_override(f, kind, name, value, has_value);
	}
	return true;
}

static void write_hcm(FILE *f, const struct oneline *o, bool folder)
{
	fputs("      - name: envoy.filters.network.http_connection_manager\n"
	      "        typed_config:\n"
	      "          \"@type\": "
	      "type.googleapis.com/"
	      "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n"
	      "          stat_prefix: site\n"
	      "          codec_type: AUTO\n"
	      "          use_remote_address: true\n"
	      "          proxy_100_continue: true\n"
	      "          http_protocol_options: {accept_http_10: true",
	      f);
	if (o->host) {
		fputs(", default_host_for_http_10: ", f);
		quoted(f, str_of(o->host));
	}
	fputs("}\n"
	      "          common_http_protocol_options: {headers_with_underscores_action: "
	      "DROP_HEADER}\n"
	      "          upgrade_configs: [{upgrade_type: websocket}]\n"
	      "          route_config:\n"
	      "            name: site\n"
	      "            virtual_hosts:\n"
	      "            - name: site\n"
	      "              domains: [\"*\"]\n"
	      "              routes: [{match: {prefix: /}, ",
	      f);
	if (folder && !o->nfallbacks)
		/* not reached: the folder answers all */
		fputs("direct_response: {status: 404}", f);
	else
		fprintf(f, "route: {cluster: %s, timeout: 0s}", folder ? "fallback" : "primary");
	fputs("}]\n"
	      "          http_filters:\n",
	      f);
}

static bool write_filters(FILE *f, const struct oneline *o, bool folder)
{
	if (o->nfallbacks) {
		fputs("          - name: postern.fallback\n"
		      "            typed_config:\n"
		      "              \"@type\": "
		      "type.googleapis.com/postern.filters.http.fallback.v1.Fallback\n"
		      "              fallbacks: [",
		      f);
		for (unsigned i = 0; i < o->nfallbacks; i++)
			fprintf(f, "%s{cluster: fallback%s%.0u}", i ? ", " : "", i ? "-" : "",
				i ? i + 1 : 0);
		fprintf(f, "]\n              other_methods: %s\n",
			o->dynamic ? "TRY_PRIMARY" : "DIRECT");
		char *text = NULL;
		size_t n = 0;
		FILE *m = open_memstream(&text, &n);
		bool ok = m && write_overrides(m, o);
		if (m)
			fclose(m);
		/* two columns further in than they are written */
		for (char *line = text, *end; ok && line && *line; line = end) {
			end = strchr(line, '\n') + 1;
			fprintf(f, "  %.*s", (int)(end - line), line);
		}
		free(text);
		if (!ok)
			return false;
	}
	if (folder) {
		fputs("          - name: postern.filters.http.static\n"
		      "            typed_config:\n"
		      "              \"@type\": "
		      "type.googleapis.com/postern.filters.http.static.v1.Static\n"
		      "              root: ",
		      f);
		quoted(f, str_of(o->site));
		fputc('\n', f);
	}
	if (!folder || o->nfallbacks)
		/* an answer passes as it came, fallback.md 2: no x-envoy-upstream-service-time */
		fputs("          - name: envoy.filters.http.router\n"
		      "            typed_config: {\"@type\": "
		      "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, "
		      "suppress_envoy_headers: true}\n",
		      f);
	return true;
}

/* [tls:][ADDRESS:]PORT */
static bool write_listener(FILE *f, const struct oneline *o, unsigned number, const char *text,
			   bool folder)
{
	struct str rest = str_of(text), address = STR("0.0.0.0");
	struct in6_addr any;
	char host[64] = "";
	uint64_t port;
	bool tls = str_starts(rest, STR("tls:"));
	if (tls)
		rest = str_from(rest, 4);
	const char *colon = rest.n ? memrchr(rest.p, ':', rest.n) : NULL;
	struct str last = colon ? str_from(rest, (size_t)(colon - rest.p) + 1) : rest;
	if (colon)
		address = (struct str){rest.p, (size_t)(colon - rest.p)};
	if (address.n > 1 && address.p[0] == '[' && address.p[address.n - 1] == ']')
		address = (struct str){address.p + 1, address.n - 2};
	if (address.n < sizeof host)
		memcpy(host, address.p, address.n);
	if (!str_u64(last, &port) || port > 65535 ||
	    (inet_pton(AF_INET, host, &any) != 1 && inet_pton(AF_INET6, host, &any) != 1))
		return complain("listen", text, "must be [tls:][ADDRESS:]PORT");
	if (tls && (!o->cert || !o->key))
		return complain("listen", text, "needs --cert and --key");
	fprintf(f, "  - name: site-%u\n    address: {socket_address: {address: ", number);
	quoted(f, str_of(host));
	fprintf(f, ", port_value: %llu}}\n    filter_chains:\n    - ", (unsigned long long)port);
	if (tls) {
		fputs("transport_socket:\n"
		      "        name: envoy.transport_sockets.tls\n"
		      "        typed_config:\n"
		      "          \"@type\": "
		      "type.googleapis.com/"
		      "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n"
		      "          common_tls_context:\n"
		      "            alpn_protocols: [h2, http/1.1]\n"
		      "            tls_certificates:\n"
		      "            - certificate_chain: {filename: ",
		      f);
		quoted(f, str_of(o->cert));
		fputs("}\n              private_key: {filename: ", f);
		quoted(f, str_of(o->key));
		fputs("}\n      ", f);
	}
	fputs("filters:\n", f);
	write_hcm(f, o, folder);
	return write_filters(f, o, folder);
}

static void write_cluster(FILE *f, const char *name, const struct url *u, const char *ca)
{
	fprintf(f,
		"  - name: %s\n"
		"    type: %s\n"
		"    connect_timeout: 5s\n"
		"    circuit_breakers: {thresholds: [{max_connections: 65536, "
		"max_pending_requests: 65536, max_requests: 65536}]}\n"
		"    load_assignment:\n"
		"      cluster_name: %s\n"
		"      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: "
		"\"%s\", port_value: %u}}}}]}]\n",
		name, u->is_ip ? "STATIC" : "STRICT_DNS", name, u->host, u->port);
	if (!u->tls)
		return;
	fputs("    transport_socket:\n"
	      "      name: envoy.transport_sockets.tls\n"
	      "      typed_config:\n"
	      "        \"@type\": "
	      "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n",
	      f);
	if (u->name.p) {
		fputs("        sni: ", f);
		quoted(f, u->name);
		fputc('\n', f);
	}
	fputs("        common_tls_context:\n          validation_context:\n", f);
	if (ca) {
		fputs("            trusted_ca: {filename: ", f);
		quoted(f, str_of(ca));
		fputs("}\n", f);
	} else {
		fputs("            system_root_certs: {}\n", f);
	}
	fprintf(f, "            match_typed_subject_alt_names: [{san_type: %s, matcher: {exact: ",
		u->name.p ? "DNS" : "IP_ADDRESS");
	quoted(f, u->name.p ? u->name : str_of(u->host));
	fputs("}}]\n", f);
}

static bool write_all(FILE *f, const struct oneline *o)
{
	struct stat st;
	struct url u;
	bool url = strstr(o->site, "://") != NULL, folder = !url && !o->dynamic;
	if (folder && (stat(o->site, &st) || !S_ISDIR(st.st_mode)))
		return complain("static", o->site, "is neither a URL nor a folder");
	fputs("static_resources:\n  listeners:\n", f);
	const char *ports[] = {"80", "tls:443"};
	bool given = o->nlistens > 0;
	unsigned n = given ? o->nlistens : o->cert ? 2 : 1;
	for (unsigned i = 0; i < n; i++)
		if (!write_listener(f, o, i + 1, given ? o->listens[i] : ports[i], folder))
			return false;
	fputs("  clusters:\n", f);
	if (!folder) {
		if (!url_read(o->dynamic ? "primary" : "static", o->site, o->host, &u))
			return false;
		write_cluster(f, "primary", &u, NULL);
	}
	for (unsigned i = 0; i < o->nfallbacks; i++) {
		char name[32];
		if (!url_read("fallback", o->fallbacks[i], o->host, &u))
			return false;
		snprintf(name, sizeof name, i ? "fallback-%u" : "fallback", i + 1);
		write_cluster(f, name, &u, o->fallback_ca);
	}
	if (folder && !o->nfallbacks)
		fputs("    []\n", f);
	return true;
}

char *oneline_yaml(const struct oneline *o, size_t *n)
{
	char *text = NULL;
	if (!o->site) {
		fprintf(stderr, "postern: --static or --primary is missing\n");
		return NULL;
	}
	if (!o->cert != !o->key) {
		fprintf(stderr, "postern: --cert and --key belong together\n");
		return NULL;
	}
	FILE *f = open_memstream(&text, n);
	bool ok = f && write_all(f, o);
	if (f)
		fclose(f);
	if (ok && text)
		return text;
	free(text);
	return NULL;
}

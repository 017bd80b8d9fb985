/* src/config/read_test.c: values out of trees, and what is said about wrong ones. */
#include "config/read.h"
#include "config/schema.h"
#include "config/test_int.h"
#include "model/regex.h"
#include <arpa/inet.h>
#include <unistd.h>

struct bench {
	struct arena arena;
	struct diags diags;
	struct reader r;
	struct doc *root;
};

static void begin(struct bench *b, const char *yaml)
{
	arena_init(&b->arena, SIZE_MAX);
	diags_init(&b->diags);
	b->root = doc_from_yaml(&b->arena, &b->diags, "t", str_of(yaml));
	b->r = (struct reader){.diags = &b->diags, .model = model_new()};
	must(b->root && b->r.model);
	b->r.arena = &b->r.model->arena;
}

static void end(struct bench *b, const char *wanted)
{
	char *got = test_diags(&b->diags);
	test_same("complaints", got, wanted);
	free(got);
	model_unref(b->r.model);
	diags_fini(&b->diags);
	arena_fini(&b->arena);
}

static void scalars(void)
{
	static const char *const names[] = {"ZERO", "", "TWO", NULL};
	struct bench b;
	unsigned n;
	begin(&b, "b: true\nu: '12'\nd: 1.5\ns: x\ne: TWO\ne2: 2\nt: 1.5s\nsmall: 0.000000001s\nl: "
		  "[a, b]\n"
		  "snakeCase: 7\nnothing: ~\nempty: []");
	const struct doc *d = b.root;
	struct reader *r = &b.r;
	must(read_bool(r, d, "b", false) && read_bool(r, d, "x", true) &&
	     !read_bool(r, d, "x", false));
	must(read_uint(r, d, "u", 0, 1, 12) == 12 && read_uint(r, d, "x", 9, 0, 1) == 9);
	must(read_uint(r, d, "snake_case", 0, 0, 10) == 7);
	must(read_double(r, d, "d", 0, 0, 2) == 1.5 && read_double(r, d, "nothing", 3, 0, 1) == 3);
	must(str_eq(read_str(r, d, "s"), STR("x")) && read_str(r, d, "nothing").p == NULL);
	must(read_enum(r, d, "e", names, 0) == 2 && read_enum(r, d, "e2", names, 0) == 2);
	must(read_enum(r, d, "x", names, 1) == 1);
	must(read_duration(r, d, "t", 0) == 1500000 && read_duration(r, d, "x", 7) == 7);
	must(read_duration(r, d, "small", 0) == 1);
	struct str *l = read_strs(r, d, "l", &n);
	must(n == 2 && str_eq(l[1], STR("b")));
	must(read_strs(r, d, "empty", &n) == NULL && n == 0 && read_strs(r, d, "x", &n) == NULL);
	must(read_field(d, "nothing") == NULL && read_field(NULL, "x") == NULL);
	end(&b, "");

	begin(&b, "u: 13\nd: -1\ns: ''\nt: -1s\nv: 3");
	must(read_uint(&b.r, b.root, "u", 5, 1, 12) == 5);
	must(read_uint(&b.r, b.root, "v", 5, 4, UINT64_MAX) == 5);
	must(read_double(&b.r, b.root, "d", 5, 0, 1) == 5);
	must(read_str_needed(&b.r, b.root, "s").p == NULL &&
	     read_str_needed(&b.r, b.root, "x").p == NULL);
	must(read_duration(&b.r, b.root, "t", 5) == 5);
	end(&b, "E 1:4 u: 13 is out of range, 1 to 12\n"
		"E 5:4 v: 3 is too small, the least is 4\n"
		"E 2:4 d: -1 is out of range, 0 to 1\n"
		"E 3:4 s: must not be empty\n"
		"E 1:1: x is missing\n"
		"E 4:4 t: must not be negative");

	/* What no schema looked at is still not taken for something else. */
	begin(&b, "u: [1]");
	must(read_uint(&b.r, b.root, "u", 5, 0, 12) == 5);
	end(&b, "E 1:4 u: a list where a whole number, not negative, is needed");
}

static void addresses(void)
{
	struct bench b;
	struct address a;
	begin(&b, "v4: {socket_address: {address: 127.0.0.1, port_value: 80}}\n"
		  "v6: {socketAddress: {address: '::1', portValue: 443}}\n"
		  "name: {socket_address: {address: example.com, port_value: 80}}\n"
		  "pipe: {pipe: {path: /tmp/x}}\nabstract: {pipe: {path: '@x'}}\n");
	must(read_address(&b.r, b.root, "v4", false, &a) && a.in4.sin_family == AF_INET);
	must(ntohs(a.in4.sin_port) == 80 && a.port == 80 && a.len == sizeof a.in4);
	must(str_eq(a.text, STR("127.0.0.1:80")) && ntohl(a.in4.sin_addr.s_addr) == 0x7f000001);
	must(read_address(&b.r, b.root, "v6", false, &a) && a.in6.sin6_family == AF_INET6);
	must(str_eq(a.text, STR("[::1]:443")));
	must(read_address(&b.r, b.root, "name", true, &a) && a.len == 0 &&
	     str_eq(a.name, STR("example.com")));
	must(str_eq(a.text, STR("example.com:80")));
	must(read_address(&b.r, b.root, "pipe", false, &a) && strcmp(a.un.sun_path, "/tmp/x") == 0);
	must(str_eq(a.text, STR("unix:/tmp/x")) &&
	     a.len == offsetof(struct sockaddr_un, sun_path) + 7);
	must(read_address(&b.r, b.root, "abstract", false, &a) &&
	     memcmp(a.un.sun_path, "\0x", 2) == 0);
	must(a.len == offsetof(struct sockaddr_un, sun_path) + 2);
	end(&b, "");

	begin(&b, "name: {socket_address: {address: example.com, port_value: 80}}\n"
		  "bad: {socket_address: {address: 'a b', port_value: 80}}\n"
		  "udp: {socket_address: {address: 1.2.3.4, protocol: UDP, port_value: 65536}}\n"
		  "none: {socket_address: {address: 1.2.3.4}}\nempty: {}\n");
	must(!read_address(&b.r, b.root, "name", false, &a) &&
	     !read_address(&b.r, b.root, "bad", true, &a));
	must(!read_address(&b.r, b.root, "udp", true, &a) &&
	     !read_address(&b.r, b.root, "none", true, &a));
	must(!read_address(&b.r, b.root, "empty", true, &a) &&
	     !read_address(&b.r, b.root, "x", true, &a));
	end(&b,
	    "E 1:34 name.socket_address.address: \"example.com\" is no IP address (a host name "
	    "needs a cluster of "
	    "type STRICT_DNS or LOGICAL_DNS)\n"
	    "E 2:33 bad.socket_address.address: \"a b\" is neither an IP address nor a host name\n"
	    "E 3:52 udp.socket_address.protocol: UDP is not supported here\n"
	    "E 3:69 udp.socket_address.port_value: 65536 is out of range, 0 to 65535\n"
	    "E 4:24 none.socket_address: port_value is missing\n"
	    "E 5:8 empty: needs socket_address or pipe\n"
	    "E 1:1: x is missing");
}

static void sources(void)
{
	struct bench b;
	struct source s;
	char name[] = "/tmp/postern-test-XXXXXX", yaml[400];
	int fd = mkstemp(name);
	must(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	setenv("POSTERN_TEST", "value", 1);
	snprintf(yaml, sizeof yaml,
		 "f: {filename: %s}\nr: {filename: %s}\ns: {inline_string: x}\nb: {inline_bytes: "
		 "aGk}\n"
		 "e: {environment_variable: POSTERN_TEST}\n",
		 name, name + 5);
	begin(&b, yaml);
	must(read_source(&b.r, b.root, "f", 7, &s) && str_eq(s.content, STR("content")) &&
	     s.path.n == strlen(name));
	must(b.r.model->nwatched == 1);
	b.r.base_dir = "/tmp";
	must(read_source(&b.r, b.root, "r", 7, &s) && str_eq(s.path, str_of(name)));
	must(read_source(&b.r, b.root, "s", 7, &s) && str_eq(s.content, STR("x")) &&
	     s.path.p == NULL);
	must(read_source(&b.r, b.root, "b", 7, &s) && str_eq(s.content, STR("hi")));
	must(read_source(&b.r, b.root, "e", 7, &s) && str_eq(s.content, STR("value")));
	must(!read_source(&b.r, b.root, "x", 7, &s));
	end(&b, "");

	char wanted[400];
	snprintf(yaml, sizeof yaml,
		 "big: {filename: %s}\nno: {filename: /nothing/here}\ndir: {filename: /tmp}\nin: "
		 "{inline_string: abc}\n"
		 "e: {environment_variable: POSTERN_NOT_SET}\nempty: {}",
		 name);
	snprintf(wanted, sizeof wanted,
		 "E 1:17 big.filename: %s: is too large\n"
		 "E 2:16 no.filename: /nothing/here: No such file or directory\n"
		 "E 3:17 dir.filename: /tmp: is no plain file\n"
		 "E 4:21 in.inline_string: is too large: 3 bytes, at most 2\n"
		 "E 5:27 e.environment_variable: the environment variable POSTERN_NOT_SET is not "
		 "set\n"
		 "E 6:8 empty: needs filename, inline_string, inline_bytes or environment_variable",
		 name);
	begin(&b, yaml);
	static const char *const fields[] = {"big", "no", "dir", "in", "e", "empty"};
	for (int i = 0; i < 6; i++)
		must(!read_source(&b.r, b.root, fields[i], i == 3 ? 2 : 6, &s));
	end(&b, wanted);
	unlink(name);
}

static void fractions_and_types(void)
{
	struct bench b;
	uint32_t n, of;
	struct str type;
	begin(&b, "a: {numerator: 5}\nb: {default_value: {numerator: 7, denominator: MILLION}, "
		  "runtime_key: x}\n"
		  "t: {\"@type\": type.googleapis.com/envoy.config.filter.http.lua.v2.Lua, x: 1}\n"
		  "s: {\"@type\": a/udpa.type.v1.TypedStruct, type_url: b/envoy.api.v2.Cluster, "
		  "value: {y: 1}}\n"
		  "none: {}\n");
	must(read_fraction(&b.r, b.root, "a", &n, &of) && n == 5 && of == 100);
	must(read_fraction(&b.r, b.root, "b", &n, &of) && n == 7 && of == 1000000);
	must(!read_fraction(&b.r, b.root, "x", &n, &of));
	const struct doc *t = doc_get(b.root, "t"), *s = doc_get(b.root, "s");
	must(read_any(&b.r, t, &type) == t &&
	     str_eq(type, STR("envoy.extensions.filters.http.lua.v3.Lua")));
	must(doc_get(read_any(&b.r, s, &type), "y") &&
	     str_eq(type, STR("envoy.config.cluster.v3.Cluster")));
	must(read_type_url(&b.r, doc_get(b.root, "none")).p == NULL);
	end(&b, "E 5:7 none: \"@type\" is missing");
}

static bool matches(const char *yaml, const char *text, enum string_kind *kind)
{
	struct bench b;
	struct string_match m;
	begin(&b, yaml);
	must(read_string_match(&b.r, b.root, &m));
	*kind = m.kind;
	bool yes = string_matches(&m, str_of(text));
	end(&b, "");
	return yes;
}

static void strings(void)
{
	static const struct {
		const char *regex;
		enum string_kind kind;
		const char *yes, *no;
	} cases[] = {
		{".*wp_direct=1.*", STRING_CONTAINS, "a=b; wp_direct=1; c", "wp_direct=2"},
		{"^/a\\.b$", STRING_EXACT, "/a.b", "/axb"},
		{"/a/.*", STRING_PREFIX, "/a/b", "/b/a/"},
		{".*\\.html", STRING_SUFFIX, "/x.html", "/xxhtml"},
		{".*", STRING_ANY, "", NULL},
		{".*.*x.*.*$", STRING_CONTAINS, "axb", "ab"},
		{"a.*b", STRING_REGEX, "axxb", "axxc"},
		{"ab*", STRING_REGEX, "abbb", "abc"},
		{"a\\.*", STRING_REGEX, "a..", "ab"},
		{"a|b", STRING_REGEX, "b", "c"},
		{".*x+", STRING_REGEX, "axx", "ax!"},
		{"\\d", STRING_REGEX, "7", "d"},
		{"(?i)abc", STRING_REGEX, "ABC", "abd"},
		{"a{2}", STRING_REGEX, "aa", "a{2}"},
		{"[.]*", STRING_REGEX, "..", "a"},
		{"a.*?", STRING_REGEX, "ab", "b"},
		{"x$y", STRING_REGEX, NULL, "xy"},
		{".+", STRING_REGEX, "a", ""},
		{"a\\$", STRING_EXACT, "a$", "a"},
	};
	enum string_kind kind;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char yaml[200];
		snprintf(yaml, sizeof yaml, "safe_regex: {regex: '%s'}", cases[i].regex);
		if (cases[i].yes)
			must(matches(yaml, cases[i].yes, &kind) && kind == cases[i].kind);
		if (cases[i].no)
			must(!matches(yaml, cases[i].no, &kind) && kind == cases[i].kind);
	}
	must(matches("{exact: Ab, ignore_case: true}", "aB", &kind) &&
	     !matches("{exact: Ab}", "ab", &kind));
	must(matches("prefix: x", "xy", &kind) && matches("suffix: x", "yx", &kind));
	must(matches("contains: x", "axb", &kind) && matches("exact: ''", "", &kind));

	struct bench b;
	struct string_match m;
	begin(&b, "a: {prefix: ''}\nb: {}\nc: {safe_regex: {regex: '('}}\nd: {safe_regex: {}}\n");
	must(!read_string_match(&b.r, doc_get(b.root, "a"), &m) &&
	     !read_string_match(&b.r, doc_get(b.root, "b"), &m));
	must(!read_string_match(&b.r, doc_get(b.root, "c"), &m) &&
	     !read_string_match(&b.r, doc_get(b.root, "d"), &m));
	must(b.diags.errors == 4);
	end(&b, "E 1:13 a.prefix: must not be empty\n"
		"E 2:4 b: needs exact, prefix, suffix, contains or safe_regex\n"
		"E 3:25 c.safe_regex.regex: bad regular expression: missing ): (\n"
		"E 4:17 d.safe_regex: regex is missing");
}

static void fields(void)
{
	struct bench b;
	struct field_match m;
	begin(&b, "- {name: X-A, string_match: {exact: v}, invert_match: true}\n"
		  "- {name: Host, prefix_match: v}\n- {name: x-a}\n- {name: x-a, present_match: "
		  "false}\n"
		  "- {name: ':path', range_match: {start: -5, end: '10'}}\n"
		  "- {name: x-a, safe_regex_match: {regex: 'a+'}, treat_missing_header_as_empty: "
		  "true}\n");
	const struct doc *d = b.root->first;
	must(read_field_match(&b.r, d, &m) && str_eq(m.name, STR("x-a")) && m.invert &&
	     m.string.kind == STRING_EXACT);
	must(m.id == FIELD_OTHER);
	must(read_field_match(&b.r, d = d->next, &m) && m.id == FIELD_AUTHORITY &&
	     m.string.kind == STRING_PREFIX);
	must(read_field_match(&b.r, d = d->next, &m) && m.kind == FIELD_MATCH_PRESENT && m.present);
	must(read_field_match(&b.r, d = d->next, &m) && m.kind == FIELD_MATCH_PRESENT &&
	     !m.present);
	must(read_field_match(&b.r, d = d->next, &m) && m.kind == FIELD_MATCH_RANGE &&
	     m.from == -5 && m.to == 10);
	must(m.id == FIELD_PATH);
	must(read_field_match(&b.r, d = d->next, &m) && m.string.kind == STRING_REGEX &&
	     m.missing_as_empty);
	end(&b, "");

	begin(&b, "- {name: ''}\n- {name: a b}\n- {string_match: {}}\n");
	doc_each (e, b.root)
		must(!read_field_match(&b.r, e, &m));
	must(b.diags.errors == 3);
	end(&b, "E 1:10 [0].name: must not be empty\nE 2:10 [1].name: is no header name\n"
		"E 3:3 [2]: name is missing");
}

static void header_ops(void)
{
	struct bench b;
	struct header_ops o;
	begin(&b,
	      "request_headers_to_add:\n- {header: {key: a, value: x}}\n- {header: {key: b, value: "
	      "'%REQ(:path)%'}, "
	      "append_action: ADD_IF_ABSENT}\n- {header: {key: c, value: 100%%}, append: false}\n"
	      "- {header: {key: d, raw_value: aGk=}, keep_empty_value: true}\n- {header: {key: "
	      "e}}\n"
	      "request_headers_to_remove: [z]\nresponse_headers_to_remove: [w, x]\n");
	read_header_ops(&b.r, b.root, &o);
	must(o.nrequest == 6 && o.nresponse == 2 && o.request[0].action == HEADER_REMOVE);
	must(o.request[1].action == HEADER_APPEND && str_eq(o.request[1].plain, STR("x")));
	must(o.request[2].action == HEADER_ADD_IF_ABSENT && !o.request[2].plain.p &&
	     o.request[2].value);
	must(o.request[3].action == HEADER_OVERWRITE && str_eq(o.request[3].plain, STR("100%")));
	must(str_eq(o.request[4].plain, STR("hi")) && o.request[4].keep_empty);
	must(o.request[5].plain.p && o.request[5].plain.n == 0);
	end(&b, "");

	begin(&b, "request_headers_to_add:\n- {header: {key: ':path', value: x}}\n- {header: {key: "
		  "'a b', value: x}}\n- {}\n"
		  "- {header: {key: a, value: \"x\\ny\"}}\n- {header: {key: content-length, value: "
		  "'1'}}\n"
		  "request_headers_to_remove: [host, '']\n");
	read_header_ops(&b.r, b.root, &o);
	must(o.nrequest == 1 && b.diags.errors == 6 && b.diags.warnings == 1);
	end(&b,
	    "E 7:29 request_headers_to_remove[0]: \":\" names and host cannot be changed here\n"
	    "E 7:35 request_headers_to_remove[1]: must not be empty\n"
	    "E 2:18 request_headers_to_add[0].header.key: \":\" names and host cannot be changed "
	    "here\n"
	    "E 3:18 request_headers_to_add[1].header.key: \"a b\" is no header name\n"
	    "E 4:3 request_headers_to_add[2]: header is missing\n"
	    "E 5:28 request_headers_to_add[3].header.value: is no header value (control bytes)\n"
	    "W 6:18 request_headers_to_add[4].header.key: content-length is made from the message "
	    "itself; this has "
	    "no effect");
}

/* Everything once, with each allocation failing in turn: a report, or all of it. */
static void without_memory(void)
{
	static const char yaml[] = "s: {socket_address: {address: example.com, port_value: "
				   "80}}\np: {pipe: {path: /x}}\n"
				   "l: [a, b]\nm: {safe_regex: {regex: a+}}\nh: {name: X-Y, "
				   "string_match: {exact: A, ignore_case: true}}\n"
				   "i: {inline_bytes: aGk=}\nf: {filename: /etc/passwd}\nt: "
				   "{\"@type\": a/b.C}\n"
				   "request_headers_to_add: [{header: {key: a, value: "
				   "'%REQ(a)%'}}, {header: {key: a, raw_value: aGk=}}]\n"
				   "request_headers_to_remove: [z]\n";
	struct arena a;
	struct diags parse;
	arena_init(&a, SIZE_MAX);
	diags_init(&parse);
	struct doc *root = doc_from_yaml(&a, &parse, "t", str_of(yaml));
	must(root != NULL);
	for (unsigned n = 1;; n++) {
		struct diags d;
		struct model *m = model_new();
		struct reader r = {.diags = &d, .model = m};
		struct address addr;
		struct string_match sm;
		struct field_match fm;
		struct source src;
		struct header_ops ops;
		struct str type;
		unsigned k;
		must(m != NULL);
		r.arena = &m->arena;
		diags_init(&d);
		mem_fail_nth(n);
		bool all = read_address(&r, root, "s", true, &addr);
		all &= read_address(&r, root, "p", false, &addr);
		all &= read_strs(&r, root, "l", &k) && k == 2;
		all &= read_string_match(&r, doc_get(root, "m"), &sm);
		all &= read_field_match(&r, doc_get(root, "h"), &fm);
		all &= read_source(&r, root, "i", 100, &src);
		all &= read_source(&r, root, "f", 1000000, &src);
		read_any(&r, doc_get(root, "t"), &type);
		all &= type.p != NULL;
		read_header_ops(&r, root, &ops);
		all &= ops.nrequest == 3;
		bool fired = mem_fail_left() == 0;
		mem_fail_nth(0);
		must(all || d.errors > 0);
		must(d.errors == 0 || fired);
		diags_fini(&d);
		model_unref(m);
		arena_trim();
		if (!fired)
			break;
		must(n < 1000);
	}
	diags_fini(&parse);
	arena_fini(&a);
}

int main(void)
{
	scalars();
	addresses();
	sources();
	fractions_and_types();
	strings();
	fields();
	header_ops();
	without_memory();
	return 0;
}

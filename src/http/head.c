/* src/http/head.c */
#include "http/head.h"
#include "http/scan_int.h"
#include <arpa/inet.h>

bool head_init(struct head *h, struct arena *a, bool is_response, unsigned fields)
{
	unsigned cap = fields < 8 ? 8 : fields > UINT16_MAX ? UINT16_MAX : fields;
	*h = (struct head){
		.arena = a, .is_response = is_response, .minor = 1, .cap = (uint16_t)cap};
	h->f = arena_alloc(a, cap * sizeof *h->f);
	if (!h->f)
		h->cap = 0;
	return h->f != NULL;
}

/* "host" is another word for :authority, as in Envoy's scripts. */
static enum field_id lookup(const struct head *h, struct str name)
{
	enum field_id id = name_id(name.p, name.n);
	return id == FIELD_HOST && !h->is_response ? FIELD_AUTHORITY : id;
}

static bool same_name(const struct field *f, enum field_id id, struct str name)
{
	return id ? f->id == id : !f->id && str_ieq(field_name(f), name);
}

/* The copies that head.method and head.status are. */
static void keep_equal(struct head *h, enum field_id id)
{
	if (id > FIELD_PROTOCOL)
		return;
	h->touched = true;
	if (id != FIELD_METHOD && id != FIELD_STATUS)
		return;
	struct str v = head_value(h, id);
	if (id == FIELD_METHOD) {
		h->method = (uint8_t)method_of(v);
		return;
	}
	uint64_t n;
	h->status = v.p && str_u64(v, &n) && n <= 999 ? (uint16_t)n : 0;
}

struct field *head_get_(const struct head *h, enum field_id id)
{
	for (struct field *f = h->f + (id > FIELD_PROTOCOL ? h->pseudo : 0), *end = h->f + h->n;
	     f < end; f++)
		if (f->id == id)
			return f;
	return NULL;
}

struct field *head_find(const struct head *h, struct str name)
{
	return head_find_next(h, NULL, name);
}

struct field *head_find_next(const struct head *h, const struct field *after, struct str name)
{
	enum field_id id = lookup(h, name);
	if (id && !head_has(h, id))
		return NULL;
	for (size_t i = after ? (size_t)(after - h->f) + 1 : 0; i < h->n; i++)
		if (same_name(&h->f[i], id, name))
			return &h->f[i];
	return NULL;
}

static bool make_room(struct head *h)
{
	if (h->n < h->cap)
		return true;
	if (h->cap == UINT16_MAX) {
		h->arena->over = true;
		return false;
	}
	size_t cap = h->cap < 8 ? 8 : h->cap > UINT16_MAX / 2 ? UINT16_MAX : (size_t)h->cap * 2;
	struct field *f = arena_alloc(h->arena, cap * sizeof *f);
	if (!f)
		return false;
	if (h->n)
		memcpy(f, h->f, h->n * sizeof *f);
	h->f = f;
	h->cap = (uint16_t)cap;
	return true;
}

static bool add(struct head *h, enum field_id id, struct str name, struct str value)
{
	if (name.n > UINT16_MAX || value.n > UINT32_MAX || !make_room(h)) {
		h->arena->over = true;
		return false;
	}
	unsigned at = h->n;
	if (name.n && name.p[0] == ':') {
		at = h->pseudo++;
		memmove(&h->f[at + 1], &h->f[at], (h->n - at) * sizeof *h->f);
	}
	h->n++;
	h->f[at] = (struct field){.name_p = name.p,
				  .name_n = (uint16_t)name.n,
				  .value_p = value.p ? value.p : "",
				  .value_n = (uint32_t)value.n,
				  .id = (uint8_t)id};
	if (id) {
		h->has[id / 64] |= (uint64_t)1 << id % 64;
		keep_equal(h, id);
	}
	return true;
}

bool head_add_id(struct head *h, enum field_id id, struct str value)
{
	if (id == FIELD_HOST && !h->is_response)
		id = FIELD_AUTHORITY;
	const struct name_info *name = &name_infos[id];
	if (id <= FIELD_PROTOCOL || h->n == h->cap || value.n > UINT32_MAX)
		return add(h, id, (struct str){name->name, name->n}, value);
	h->f[h->n++] = (struct field){.name_p = name->name,
				      .name_n = (uint16_t)name->n,
				      .value_p = value.p ? value.p : "",
				      .value_n = (uint32_t)value.n,
				      .id = (uint8_t)id};
	h->has[id / 64] |= (uint64_t)1 << id % 64;
	return true;
}

bool head_add_other(struct head *h, struct str name, struct str value)
{
	return add(h, FIELD_OTHER, name, value);
}

bool head_add(struct head *h, struct str name, struct str value)
{
	enum field_id id = lookup(h, name);
	if (id == FIELD_AUTHORITY)
		return head_add_id(h, id, value);
	return add(h, id, name, value);
}

bool head_add_copy(struct head *h, struct str name, struct str value)
{
	struct str n = arena_str(h->arena, name), v = arena_str(h->arena, value);
	return n.p && v.p && head_add(h, n, v);
}

/* Removes what matches at and after index from. */
static unsigned remove_from(struct head *h, unsigned from, enum field_id id, struct str name)
{
	unsigned to = from, pseudo = h->pseudo;
	for (unsigned i = from; i < h->n; i++) {
		if (!same_name(&h->f[i], id, name))
			h->f[to++] = h->f[i];
		else if (i < pseudo)
			h->pseudo--;
	}
	unsigned removed = h->n - to;
	h->n = (uint16_t)to;
	if (id && removed) {
		if (from == 0)
			h->has[id / 64] &= ~((uint64_t)1 << id % 64);
		keep_equal(h, id);
	}
	return removed;
}

unsigned head_remove(struct head *h, struct str name)
{
	enum field_id id = lookup(h, name);
	if (id && !head_has(h, id))
		return 0;
	return remove_from(h, 0, id, name);
}

unsigned head_remove_id(struct head *h, enum field_id id)
{
	if (id == FIELD_HOST && !h->is_response)
		id = FIELD_AUTHORITY;
	if (!id || !head_has(h, id))
		return 0;
	return remove_from(h, 0, id, (struct str){"", 0});
}

void head_remove_at(struct head *h, unsigned index)
{
	if (index >= h->n)
		return;
	enum field_id id = (enum field_id)h->f[index].id;
	memmove(&h->f[index], &h->f[index + 1], (h->n - index - 1u) * sizeof *h->f);
	h->n--;
	if (index < h->pseudo)
		h->pseudo--;
	if (!id)
		return;
	h->has[id / 64] &= ~((uint64_t)1 << id % 64);
	for (unsigned i = 0; i < h->n; i++)
		if (h->f[i].id == id) {
			h->has[id / 64] |= (uint64_t)1 << id % 64;
			break;
		}
	keep_equal(h, id);
}

bool head_replace(struct head *h, struct str name, struct str value)
{
	if (!make_room(h))
		return false;
	enum field_id id = lookup(h, name);
	if (!id) {
		remove_from(h, 0, id, name);
		return add(h, id, name, value);
	}
	head_remove_id(h, id);
	return id == FIELD_AUTHORITY ? head_add_id(h, id, value) : add(h, id, name, value);
}

/* The usual case: there is one field of that id, and it is no pseudo field. */
static bool move_to_end(struct head *h, enum field_id id, struct str value)
{
	if (!head_has(h, id) || name_infos[id].flags & NAME_PSEUDO || value.n > UINT32_MAX)
		return false;
	unsigned i = h->pseudo, last = h->n - 1u;
	while (h->f[i].id != id)
		i++;
	for (unsigned k = i + 1; k <= last; k++)
		if (h->f[k].id == id)
			return false;
	struct field f = h->f[i];
	memmove(&h->f[i], &h->f[i + 1], (last - i) * sizeof f);
	f.value_p = value.p ? value.p : "";
	f.value_n = (uint32_t)value.n;
	h->f[last] = f;
	return true;
}

bool head_replace_id(struct head *h, enum field_id id, struct str value)
{
	if (move_to_end(h, id, value))
		return true;
	head_remove_id(h, id);
	return head_add_id(h, id, value);
}

bool head_set_id(struct head *h, enum field_id id, struct str value)
{
	if (id == FIELD_HOST && !h->is_response)
		id = FIELD_AUTHORITY;
	struct field *f = head_get(h, id);
	if (!f)
		return head_add_id(h, id, value);
	if (value.n > UINT32_MAX)
		return false;
	f->value_p = value.p ? value.p : "";
	f->value_n = (uint32_t)value.n;
	for (struct field *more = f + 1, *end = h->f + (id > FIELD_PROTOCOL ? h->n : h->pseudo);
	     more < end; more++)
		if (more->id == id) {
			remove_from(h, (unsigned)(more - h->f), id, (struct str){"", 0});
			break;
		}
	keep_equal(h, id);
	return true;
}

bool head_copy(struct head *dst, struct arena *a, const struct head *src)
{
	size_t n = src->reason.n;
	for (unsigned i = 0; i < src->n; i++)
		n += src->f[i].name_n + (size_t)src->f[i].value_n;
	if (!head_init(dst, a, src->is_response, src->n))
		return false;
	char *p = arena_alloc(a, n ? n : 1);
	if (!p)
		return false;
	struct field *f = dst->f;
	uint16_t cap = dst->cap;
	*dst = *src;
	dst->arena = a;
	dst->f = f;
	dst->cap = cap;
	for (unsigned i = 0; i < src->n; i++, f++) {
		*f = src->f[i];
		f->name_p = memcpy(p, f->name_p, f->name_n);
		p += f->name_n;
		f->value_p = f->value_n ? memcpy(p, f->value_p, f->value_n) : "";
		p += f->value_n;
	}
	if (src->reason.p) {
		if (src->reason.n)
			memcpy(p, src->reason.p, src->reason.n);
		dst->reason.p = p;
	}
	return true;
}

bool head_set_status(struct head *h, unsigned status)
{
	char *p = arena_alloc(h->arena, 8);
	if (!p)
		return false;
	unsigned s = status > 999 ? 999 : status;
	p[0] = (char)('0' + s / 100);
	p[1] = (char)('0' + s / 10 % 10);
	p[2] = (char)('0' + s % 10);
	return head_set_id(h, FIELD_STATUS, (struct str){p, 3});
}

static struct str join(const struct head *h, const struct field *first, enum field_id id,
		       struct str name, struct str sep, struct arena *a)
{
	const struct field *end = h->f + h->n, *f;
	size_t n = 0;
	unsigned many = 0;
	for (f = first; f < end; f++)
		if (same_name(f, id, name))
			n += f->value_n, many++;
	if (many == 1)
		return field_value(first);
	n += (many - 1) * sep.n;
	char *p = arena_alloc(a, n ? n : 1), *q = p;
	if (!p)
		return (struct str){NULL, 0};
	for (f = first; f < end; f++) {
		if (!same_name(f, id, name))
			continue;
		if (f != first)
			q = (char *)memcpy(q, sep.p, sep.n) + sep.n;
		if (f->value_n)
			q = (char *)memcpy(q, f->value_p, f->value_n) + f->value_n;
	}
	return (struct str){p, n};
}

struct str head_joined(const struct head *h, struct str name, const char *sep, struct arena *a)
{
	const struct field *f = head_find(h, name);
	if (!f)
		return (struct str){NULL, 0};
	return join(h, f, lookup(h, name), name, str_of(sep), a);
}

bool head_join_single(struct head *h)
{
	unsigned flag = h->is_response ? NAME_SINGLE_RESP : NAME_SINGLE_REQ;
	uint64_t seen[2] = {0, 0};
	for (unsigned i = h->pseudo; i < h->n; i++) {
		enum field_id id = (enum field_id)h->f[i].id;
		if (!(name_infos[id].flags & flag))
			continue;
		uint64_t bit = (uint64_t)1 << id % 64;
		if (!(seen[id / 64] & bit)) {
			seen[id / 64] |= bit;
			continue;
		}
		/* The second one: all of them move into the first. */
		struct field *first = head_get(h, id);
		struct str all = join(h, first, id, (struct str){"", 0}, STR(","), h->arena);
		if (!all.p || !head_set_id(h, id, all))
			return false;
		i--;
	}
	return true;
}

bool field_name_ok(struct str name)
{
	return name.n && scan_while(name.p, name.p + name.n, SCAN_TOKEN) == name.p + name.n;
}

#define EACH(byte) (0x0101010101010101u * (byte))

/* Of eight bytes, one below 0x20 or DEL. */
static bool word_bad(uint64_t x)
{
	uint64_t low = (x - EACH(0x20)) & ~x, y = x ^ EACH(0x7f), del = (y - EACH(1)) & ~y;
	return (low | del) & EACH(0x80);
}

static uint64_t load(const char *p, size_t n)
{
	uint64_t x = EACH(' ');
	memcpy(&x, p, n);
	return x;
}

/* No byte that needs a second look: quick for what nearly all values are. Reads nothing behind s. */
static bool all_plain(struct str s)
{
	const char *p = s.p, *end = p + s.n;
#if SCAN_SSE2
	const __m128i most = _mm_set1_epi8(0x1f), del = _mm_set1_epi8(0x7f);
	if (s.n >= 16) /* the last sixteen overlap those before */
		for (;; p = end - p > 32 ? p + 16 : end - 16) {
			__m128i x = _mm_loadu_si128((const __m128i *)p);
			__m128i bad = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(x, most), x),
						   _mm_cmpeq_epi8(x, del));
			if (_mm_movemask_epi8(bad))
				return false;
			if (p == end - 16)
				return true;
		}
#endif
	for (; end - p >= 8; p += 8)
		if (word_bad(load(p, 8)))
			return false;
	if (end - p >= 4) {
		if (word_bad(load(p, 4)))
			return false;
		p += 4;
	}
	for (; p < end; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

bool field_value_ok(struct str value)
{
	return !value.n || all_plain(value) ||
	       scan_while(value.p, value.p + value.n, SCAN_VALUE) == value.p + value.n;
}

/* ":" port, or nothing. RFC 9110 7.2. */
static bool port_ok(const char *q, const char *end)
{
	unsigned port = 0;
	if (q == end)
		return true;
	if (*q++ != ':' || q == end || end - q > 16)
		return false;
	for (; q < end; q++) {
		if (!scan_is(*q, SCAN_DIGIT))
			return false;
		port = port * 10 + (unsigned)(*q - '0');
		if (port > 65535)
			return false;
	}
	return true;
}

/* A comma could stand in a reg-name but never does: it is what two Host fields look like after a careless
 * join, so it is refused. */
bool authority_ok(struct str a)
{
	const char *q = a.p, *end = q + a.n;
	if (!a.n)
		return false;
	if (*q == '[') { /* IP-literal; a zone or an IPvFuture has no business here */
		char text[INET6_ADDRSTRLEN];
		unsigned char addr[16];
		const char *close = memchr(q, ']', a.n);
		size_t n = close ? (size_t)(close - q) - 1 : 0;
		if (!n || n >= sizeof text)
			return false;
		memcpy(text, q + 1, n);
		text[n] = 0;
		if (memchr(text, 0, n) || inet_pton(AF_INET6, text, addr) != 1)
			return false;
		return port_ok(close + 1, end);
	}
	for (;;) {
		q = scan_while(q, end, SCAN_HOST);
		if (q == end || *q != '%')
			break;
		if (end - q < 3 || !scan_is(q[1], SCAN_HEX) || !scan_is(q[2], SCAN_HEX))
			return false;
		q += 3;
	}
	return q > a.p && port_ok(q, end);
}

enum method method_of(struct str s)
{
#define IS(lit, m)                                 \
	if (memcmp(s.p, lit, sizeof lit - 1) == 0) \
	return m
	switch (s.n) {
	case 3:
		IS("GET", METHOD_GET);
		IS("PUT", METHOD_PUT);
		break;
	case 4:
		IS("POST", METHOD_POST);
		IS("HEAD", METHOD_HEAD);
		break;
	case 5:
		IS("PATCH", METHOD_PATCH);
		IS("TRACE", METHOD_TRACE);
		break;
	case 6: IS("DELETE", METHOD_DELETE); break;
	case 7:
		IS("OPTIONS", METHOD_OPTIONS);
		IS("CONNECT", METHOD_CONNECT);
		break;
	default: break;
	}
#undef IS
	return METHOD_OTHER;
}

bool method_is_bare(enum method m)
{
	return m == METHOD_GET || m == METHOD_HEAD || m == METHOD_DELETE || m == METHOD_TRACE ||
	       m == METHOD_CONNECT;
}

bool head_is_grpc(const struct head *h)
{
	struct str t = head_value(h, FIELD_CONTENT_TYPE);
	return str_starts(t, STR("application/grpc")) && (t.n == 16 || t.p[16] == '+');
}

const char *grpc_status_of(unsigned status)
{
	switch (status) {
	case 400: return "13";
	case 401: return "16";
	case 403: return "7";
	case 404: return "12";
	case 429:
	case 502:
	case 503:
	case 504: return "14";
	default: return "2";
	}
}

/* The IANA registry of status codes, as of RFC 9110 and its additions. */
/* clang-format off */
static const char *const texts[] = {
	[100] = "Continue", [101] = "Switching Protocols", [102] = "Processing",
	[103] = "Early Hints", [200] = "OK", [201] = "Created", [202] = "Accepted",
	[203] = "Non-Authoritative Information", [204] = "No Content", [205] = "Reset Content",
	[206] = "Partial Content", [207] = "Multi-Status", [208] = "Already Reported",
	[226] = "IM Used", [300] = "Multiple Choices", [301] = "Moved Permanently", [302] = "Found",
	[303] = "See Other", [304] = "Not Modified", [305] = "Use Proxy",
	[307] = "Temporary Redirect", [308] = "Permanent Redirect", [400] = "Bad Request",
	[401] = "Unauthorized", [402] = "Payment Required", [403] = "Forbidden", [404] = "Not Found",
	[405] = "Method Not Allowed", [406] = "Not Acceptable",
	[407] = "Proxy Authentication Required", [408] = "Request Timeout", [409] = "Conflict",
	[410] = "Gone", [411] = "Length Required", [412] = "Precondition Failed",
	[413] = "Payload Too Large", [414] = "URI Too Long", [415] = "Unsupported Media Type",
	[416] = "Range Not Satisfiable", [417] = "Expectation Failed",
	[421] = "Misdirected Request", [422] = "Unprocessable Entity", [423] = "Locked",
	[424] = "Failed Dependency", [425] = "Too Early", [426] = "Upgrade Required",
	[428] = "Precondition Required", [429] = "Too Many Requests",
	[431] = "Request Header Fields Too Large", [451] = "Unavailable For Legal Reasons",
	[500] = "Internal Server Error", [501] = "Not Implemented", [502] = "Bad Gateway",
	[503] = "Service Unavailable", [504] = "Gateway Timeout",
	[505] = "HTTP Version Not Supported", [506] = "Variant Also Negotiates",
	[507] = "Insufficient Storage", [508] = "Loop Detected", [510] = "Not Extended",
	[511] = "Network Authentication Required",
};
/* clang-format on */

const char *status_text(unsigned status)
{
	const char *t = status < sizeof texts / sizeof *texts ? texts[status] : NULL;
	return t ? t : "";
}

bool list_has(struct str list, struct str token)
{
	struct str item;
	while (list.n) {
		str_cut(list, ',', &item, &list);
		if (str_ieq(str_trim(item), token))
			return true;
	}
	return false;
}

/* src/filters/fallback/schedule_test.c: clients, origins, faults and time in random order, thousands of times (spec/fallback.md 1). Whatever the
 * order: an exchange gets one answer, one origin's or ours, never half of one as if it were whole; it is one that the specification allows for
 * what the origins say; an origin gets a request whole or sees that it is not; nothing is left behind. Prints the seed when a run fails;
 * `test-fallback-schedule SEED` plays it again. */
#include "filters/fallback/fallback_test.h"
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined __SANITIZE_ADDRESS__ || __has_feature(address_sanitizer)
#define RUNS 1000
#else
#define RUNS 3000
#endif
enum { CLIENTS = 5, SIDES = 48, NUMBERS = 40, STEPS = 200, PAGE_MOST = 120000, BODY_MOST = 120000 };

static uint64_t seed, dice_state;
static unsigned dice(unsigned n)
{
	return dice_of(&dice_state, n);
}

static struct world w;
static struct listening places[ORIGINS], nobody;
static struct {
	bool refused[ORIGINS];
	bool no_memory; /* allocations fail */
	bool may_fail;  /* max_inflight, breaker: a fallback may not be asked */
} run;

/* ---- what an origin will say about a request, fixed beforehand */

enum fault {
	SOUND,
	RESET_BEFORE,
	CLOSE_BEFORE,
	GARBAGE,
	STALL_BEFORE,
	CUT_HEAD,
	TWO_LENGTHS,
	CUT_BODY,
	RESET_BODY,
	STALL_BODY,
	TOO_LONG,
	BAD_CHUNK,
	EARLY,
	EARLY_CLOSE,
	INTERIM,
	FAULTS
};
enum framing { BY_LENGTH, BY_CHUNKS, BY_CLOSE };
struct script {
	enum fault fault;
	enum framing framing;
	unsigned status, slow;
	size_t size;
};
/* What may come of asking it. */
enum { HIT = 1, MISS = 2, FAIL = 4 };

static struct {
	struct script script[ORIGINS];
	unsigned asked[ORIGINS], whole[ORIGINS]; /* requests seen, of them complete */
	bool idempotent, has_body;
	size_t size; /* of the request's body */
	size_t sent; /* of it, by the client */
	bool sent_all;
} asks[NUMBERS];
static unsigned numbers;

static char page_byte(unsigned number, unsigned o, size_t i)
{
	return (char)(33 + (i * 31 + number * 17 + o * 57 + (i >> 8)) % 90);
}
static char body_byte(unsigned number, size_t i)
{
	return (char)(33 + (i * 13 + number * 29 + (i >> 7)) % 90);
}

static bool page_whole(const struct script *s)
{
	return s->fault != CUT_BODY && s->fault != RESET_BODY && s->fault != STALL_BODY &&
	       s->fault != BAD_CHUNK && s->fault != EARLY_CLOSE;
}

static struct script some_script(bool primary)
{
	static const unsigned hits[] = {200, 200, 200, 302, 304, 500, 410, 204, 206, 503},
			      misses[] = {404, 404, 404, 404, 403, 405, 501};
	static const size_t sizes[] = {0,   0,   1,    9,    9,    300,   300,
				       300, 300, 5000, 5000, 5000, 66000, PAGE_MOST};
	struct script s = {.fault = dice(2) ? SOUND : (enum fault)dice(FAULTS),
			   .framing = (enum framing)dice(3),
			   .slow = 1 + dice(4)};
	s.status = dice(10) < (primary ? 7u : 4u) ? misses[dice(primary ? 7 : 4)] : hits[dice(10)];
	s.size = s.status == 204 || s.status == 304 ? 0 : sizes[dice(14)];
	if (s.status == 204 || s.status == 304)
		s.framing = BY_LENGTH;
	bool breaks = s.fault == CUT_BODY || s.fault == RESET_BODY || s.fault == STALL_BODY;
	if (s.fault == BAD_CHUNK)
		s.framing = BY_CHUNKS;
	if ((breaks || s.fault == EARLY || s.fault == EARLY_CLOSE || s.fault == TOO_LONG) &&
	    s.framing == BY_CLOSE)
		s.framing = BY_LENGTH;
	if (s.fault == TOO_LONG && s.size > 5000)
		s.size =
			5000; /* all in one piece: what comes later would be the next request's answer */
	if ((breaks || s.fault == BAD_CHUNK) && s.size < 9)
		s.fault = SOUND;
	return s;
}

/* ---- origins */

enum reading { IN_HEAD, IN_LENGTH, IN_SIZE, IN_CHUNK, BEHIND_CHUNK, IN_TRAILER, NO_MORE };
struct side {
	int fd, origin;
	enum reading reading;
	char head[4096];
	size_t nhead;
	uint64_t left; /* of the body or chunk */
	size_t body;
	unsigned number, line;
	bool cr, is_head;
	bool asked, whole; /* a head has come; all of the request has */
	char *wire;        /* the answer, NULL: none begun */
	size_t nwire, at;
	enum { STAY, FIN, RST, HANG } then;
};
static struct side sides[SIDES];

static void side_end(struct side *s, bool reset)
{
	struct linger at_once = {1, 0};
	if (reset)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	close(s->fd);
	free(s->wire);
	memset(s, 0, sizeof *s);
	s->fd = -1;
}

static struct pollfd polled[ORIGINS + SIDES];

/* Who has come, and where something is to be read: sides are polled by their place. */
static void accept_all(void)
{
	for (int i = 0; i < ORIGINS; i++)
		polled[i] = (struct pollfd){places[i].fd, POLLIN, 0};
	for (int k = 0; k < SIDES; k++)
		polled[ORIGINS + k] = (struct pollfd){sides[k].fd, POLLIN, 0};
	must(poll(polled, ORIGINS + SIDES, 0) >= 0);
	for (int i = 0; i < ORIGINS; i++) {
		int fd;
		while (polled[i].revents && (fd = accept4(places[i].fd, NULL, NULL,
							  SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
			int k = 0;
			while (k < SIDES && sides[k].fd >= 0)
				k++;
			int one =
				/* the clock is faster than real time: no byte may wait for an
				 * acknowledgement */
				1;
			must(k < SIDES &&
			     setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
			sides[k] = (struct side){.fd = fd, .origin = i};
		}
	}
}

static void body_ends(struct side *s)
{
	s->reading = NO_MORE;
	s->whole = true;
	asks[s->number].whole[s->origin]++;
	if (s->body != asks[s->number].size || !asks[s->number].sent_all)
		fprintf(stderr,
			"origin %d takes request %u for whole: %zu bytes, %zu of %zu sent\n",
			s->origin, s->number, s->body, asks[s->number].sent, asks[s->number].size);
	must(s->body == asks[s->number].size && asks[s->number].sent_all);
}

static void head_is_there(struct side *s)
{
	const char *number = strstr(s->head, "\r\nx-n: "),
		   *length = strstr(s->head, "\r\ncontent-length: ");
	must(number && !s->asked);
	s->number = (unsigned)atoi(number + 7);
	must(s->number && s->number <= numbers);
	s->asked = true;
	if (getenv("TELL"))
		fprintf(stderr, "%llu o%d n%u asked %s\n", (unsigned long long)virtual_us,
			s->origin, s->number, s->head);
	s->is_head = !strncmp(s->head, "HEAD ", 5);
	unsigned n = ++asks[s->number].asked[s->origin];
	must(n <= (asks[s->number].idempotent ? 2 : 1));
	must(!run.refused[s->origin]);
	s->body = 0;
	if (strstr(s->head, "\r\ntransfer-encoding: chunked\r\n")) {
		s->reading = IN_SIZE;
		s->left = 0;
	} else {
		s->left = length ? strtoull(length + 18, NULL, 10) : 0;
		must(!length || s->left == asks[s->number].size);
		s->reading = IN_LENGTH;
		if (s->left == 0)
			body_ends(s);
	}
}

static void body_takes(struct side *s, char c)
{
	bool right = s->body < asks[s->number].size && c == body_byte(s->number, s->body);
	if (!right)
		fprintf(stderr, "origin %d, request %u: byte %zu of %zu is wrong\n", s->origin,
			s->number, s->body, asks[s->number].size);
	must(right);
	s->body++;
	s->left--;
}

static void next_request(struct side *s)
{
	free(s->wire);
	*s = (struct side){.fd = s->fd, .origin = s->origin};
}

/* One byte of a request. */
static void side_takes(struct side *s, char c)
{
	switch (s->reading) {
	case IN_HEAD:
		must(s->nhead < sizeof s->head - 1);
		s->head[s->nhead++] = c;
		s->head[s->nhead] = 0;
		if (s->nhead >= 4 && !memcmp(s->head + s->nhead - 4, "\r\n\r\n", 4))
			head_is_there(s);
		break;
	case IN_LENGTH:
		body_takes(s, c);
		if (s->left == 0)
			body_ends(s);
		break;
	case IN_SIZE:
		if (c == '\n') {
			s->reading = s->left ? IN_CHUNK : IN_TRAILER;
			s->line = 0;
		} else if (c != '\r') {
			s->left =
				s->left * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
		}
		break;
	case IN_CHUNK:
		body_takes(s, c);
		if (s->left == 0)
			s->reading = BEHIND_CHUNK;
		break;
	case BEHIND_CHUNK:
		if (c == '\n')
			s->reading = IN_SIZE;
		break;
	case IN_TRAILER:
		if (c == '\n')
			body_ends(s);
		break;
	case NO_MORE:
		/* the answer came early: the gateway may have sent the next request already */
		must(s->wire && s->at == s->nwire && s->then == STAY);
		next_request(s);
		side_takes(s, c);
		break;
	}
}

/* The answer's bytes, and what comes behind them. */
static void compose(struct side *s)
{
	const struct script *r = &asks[s->number].script[s->origin];
	char *b = malloc(PAGE_MOST * 2 + 4096);
	size_t n = 0, k, body_at;
	must(b);
	s->wire = b;
	s->at = 0;
	s->then = r->framing == BY_CLOSE && !s->is_head ? FIN : STAY;
	if (r->fault == INTERIM)
		n += (size_t)sprintf(b, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
	n += (size_t)sprintf(b + n,
			     "HTTP/1.1 %u X\r\nx-from: %d %u\r\nx-of-%d: 1\r\netag: "
			     "\"%d\"\r\nlast-modified: Tue, 24 Nov 2026 08:00:00 GMT\r\n",
			     r->status, s->origin, s->number, s->origin, s->origin);
	if (r->fault == CUT_HEAD) {
		s->nwire = n - dice(20);
		s->then = dice(2) ? FIN : RST;
		return;
	}
	bool bodyless = r->status == 204 || r->status == 304;
	if (r->framing == BY_LENGTH && !bodyless)
		n += (size_t)sprintf(b + n, "content-length: %zu\r\n", r->size);
	if (r->framing == BY_CHUNKS)
		n += (size_t)sprintf(b + n, "transfer-encoding: chunked\r\n");
	if (r->fault == TWO_LENGTHS)
		n += (size_t)sprintf(b + n, "content-length: 3\r\ncontent-length: 4\r\n");
	if (r->fault == EARLY_CLOSE)
		n += (size_t)sprintf(b + n, "connection: close\r\n");
	n += (size_t)sprintf(b + n, "\r\n");
	body_at = n;
	for (size_t i = 0; i < r->size && !s->is_head; i += k) {
		k = r->framing == BY_CHUNKS ? 1 + dice(20000) : r->size;
		k = k < r->size - i ? k : r->size - i;
		if (r->framing == BY_CHUNKS)
			n += (size_t)sprintf(b + n, "%zx\r\n", k);
		for (size_t x = 0; x < k; x++)
			b[n++] = page_byte(s->number, (unsigned)s->origin, i + x);
		if (r->framing == BY_CHUNKS)
			n += (size_t)sprintf(b + n, "\r\n");
	}
	bool has_body = !s->is_head && !bodyless;
	if (r->framing == BY_CHUNKS && has_body)
		n += (size_t)sprintf(b + n, r->fault == BAD_CHUNK ? "zz\r\n" : "0\r\n\r\n");
	if (r->fault == TOO_LONG)
		n += (size_t)sprintf(
			b + n, "HTTP/1.1 200 OK\r\nx-from: 9 9\r\ncontent-length: 6\r\n\r\npoison");
	if (has_body &&
	    (r->fault == CUT_BODY || r->fault == RESET_BODY || r->fault == STALL_BODY)) {
		n = body_at + dice((unsigned)(r->size - 1));
		s->then = r->fault == CUT_BODY ? FIN : r->fault == RESET_BODY ? RST : HANG;
	}
	if (r->fault == EARLY_CLOSE)
		s->then = FIN;
	s->nwire = n;
}

static void answer_some(struct side *s)
{
	const struct script *r = &asks[s->number].script[s->origin];
	if (!s->wire) {
		bool early = r->fault == EARLY || r->fault == EARLY_CLOSE;
		if (!s->asked || (!s->whole && !early) || r->fault == STALL_BEFORE || dice(r->slow))
			return;
		if (r->fault == RESET_BEFORE || r->fault == CLOSE_BEFORE) {
			side_end(s, r->fault == RESET_BEFORE);
			return;
		}
		if (r->fault == GARBAGE) {
			s->wire = strdup("SSH-2.0-OpenSSH_9.2\r\n\r\n");
			s->nwire = strlen(s->wire);
			s->at = 0;
			s->then = HANG;
		} else {
			compose(s);
		}
	}
	size_t n = s->nwire - s->at, most = dice(2) || r->fault == TOO_LONG ? n : 1 + dice(9000);
	if (n && dice(r->slow) == 0) {
		ssize_t put = send(s->fd, s->wire + s->at, n < most ? n : most, MSG_NOSIGNAL);
		if (put < 0 && errno != EAGAIN) {
			side_end(s, false);
			return;
		}
		s->at += put > 0 ? (size_t)put : 0;
		if (getenv("TELL"))
			fprintf(stderr, "%llu o%d n%u sent %zd at %zu of %zu\n",
				(unsigned long long)virtual_us, s->origin, s->number, put, s->at,
				s->nwire);
	}
	if (s->at < s->nwire || s->then == HANG)
		return;
	if (s->then != STAY) {
		side_end(s, s->then == RST);
	} else if (s->whole) {
		next_request(s);
	}
}

static void play(struct side *s)
{
	char b[16384];
	bool news =
		polled[ORIGINS + (s - sides)].revents && polled[ORIGINS + (s - sides)].fd == s->fd;
	if (s->reading != NO_MORE && news && dice(4)) {
		ssize_t n = recv(s->fd, b, dice(3) ? sizeof b : 1 + dice(sizeof b), 0);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			side_end(s, false);
			return;
		}
		for (ssize_t i = 0; i < n; i++)
			side_takes(s, b[i]);
	} else if (s->reading == NO_MORE && news && dice(4) == 0) { /* has the gateway gone? */
		ssize_t n = recv(s->fd, b, 1, MSG_PEEK);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			side_end(s, false);
			return;
		}
	}
	answer_some(s);
}

/* ---- what may be answered, from the words of the specification */

enum result { BY_PRIMARY = 1, BY_PRIMARY_DEGRADED = 2, BY_A = 4, BY_B = 8, BY_US = 16 };
enum way { WAY_TRY, WAY_ALONE, WAY_ONLY };

struct client {
	struct exchange *ex;     /* NULL: none */
	unsigned number, leaves; /* leaves: 0 never, else one step in so many */
	enum way way;
	const char *method;
	bool is_head, chunked, may_go_alone, over, cut;
	/* the answer */
	bool begun;
	int from; /* -1: ours */
	bool no_store;
	unsigned status;
	size_t got;
	char details[60];
};
static struct client clients[CLIENTS];

static unsigned says(const struct client *c, unsigned o)
{
	const struct script *s = &asks[c->number].script[o];
	bool safe = asks[c->number].idempotent && !strchr("PD", c->method[0]);
	const struct statuses *set = o      ? &w.cfg.origins[o - 1].keep
				     : safe ? &w.cfg.trigger
					    : &w.cfg.try_trigger;
	unsigned by_head = statuses_has(set, s->status) ? MISS : HIT, may = 0;
	if (run.refused[o])
		return FAIL;
	if (o && run.may_fail)
		may = FAIL;
	if (o && (w.cfg.memory != MEMORY_OFF || w.cfg.hedge_us) && !page_whole(s))
		may = FAIL; /* it breaks off while it waits for the primary */
	switch (s->fault) {
	case RESET_BEFORE:
	case CLOSE_BEFORE:
	case GARBAGE:
	case STALL_BEFORE:
	case CUT_HEAD:
	case TWO_LENGTHS: return FAIL;
	case RESET_BODY: return by_head | FAIL; /* the reset may overtake the head */
	case EARLY_CLOSE:
		return by_head | FAIL |
		       may; /* as may the one that answers what still comes of the request */
	default: return by_head | may;
	}
}

/* Asking the fallbacks in order: what comes of it, and in which[] who may have the answer. */
static unsigned fallbacks_say(const struct client *c, unsigned *winners)
{
	unsigned all_missed = 1, some_failed = 0, out = 0; /* may we have come so far that way? */
	*winners = 0;
	for (unsigned o = 1; o <= w.cfg.norigins && (all_missed || some_failed); o++) {
		unsigned s = says(c, o);
		if (s & HIT)
			*winners |= o == 1 ? BY_A : BY_B;
		out |= s & HIT;
		unsigned failed = (some_failed && s & (MISS | FAIL)) || (all_missed && s & FAIL);
		all_missed = all_missed && s & MISS;
		some_failed = failed;
	}
	return out | (all_missed ? MISS : 0) | (some_failed ? FAIL : 0);
}

static unsigned on_miss(unsigned f, unsigned winners, bool torn)
{
	unsigned out = f & HIT ? winners : 0;
	if (f & MISS)
		out |= BY_PRIMARY;
	if (f & FAIL)
		out |= (w.cfg.error_on_failure ? BY_US : BY_PRIMARY_DEGRADED) |
		       (torn ? BY_PRIMARY : 0);
	return out;
}

static unsigned allowed(const struct client *c)
{
	unsigned p = says(c, 0), winners, f = fallbacks_say(c, &winners), out = 0;
	bool torn = !page_whole(&asks[c->number].script[0]),
	     remembers = w.cfg.memory == MEMORY_TRUST && c->way == WAY_TRY;
	unsigned alone = says(c, 1);
	if (c->may_go_alone && w.cfg.norigins > 1 &&
	    alone & (MISS | FAIL)) /* its body may be gone by then */
		f |= FAIL;
	if (c->way == WAY_ALONE || c->may_go_alone)
		out |= (alone & (HIT | MISS) ? BY_A : 0) | (alone & FAIL ? BY_US : 0);
	if (c->way == WAY_ALONE)
		return out;
	if (c->way == WAY_ONLY || remembers)
		out |= (p & (HIT | MISS) ? BY_PRIMARY : 0) | (p & FAIL ? BY_US : 0);
	if (c->way == WAY_ONLY)
		return out;
	if (p & HIT)
		out |= BY_PRIMARY;
	if (p & MISS)
		out |= on_miss(f, winners, torn);
	if (p & FAIL)
		out |= !w.cfg.ask_on_failure
			       ? BY_US
			       : (f & HIT ? winners : 0) | (f & (MISS | FAIL) ? BY_US : 0);
	if (remembers) /* a known miss: the fallback first */
		out |= (f & HIT ? winners : 0) | (p & FAIL && f & (MISS | FAIL) ? BY_US : 0);
	return out;
}

static void say_client(const struct client *c)
{
	fprintf(stderr,
		"seed %llu request %u %s way %d: got %s%d status %u%s %zu bytes%s; allowed %x, "
		"sent %zu of %zu%s\n",
		(unsigned long long)seed, c->number, c->method, c->way,
		c->begun ? "answer of " : "nothing ", c->from, c->status,
		c->no_store ? " no-store" : "", c->got, c->cut ? " cut" : "", allowed(c),
		asks[c->number].sent, asks[c->number].size, c->chunked ? " chunked" : "");
	fprintf(stderr,
		"  %s; time %llu, fallbacks %u memory %d hedge %d most %u breaker %u "
		"ask_on_failure %d error_on_failure %d hold %d of %d memory %d spool %d\n",
		c->details, (unsigned long long)virtual_us, w.cfg.norigins, w.cfg.memory,
		(int)w.cfg.hedge_us, w.cfg.max_inflight, w.cfg.breaker_failures,
		w.cfg.ask_on_failure, w.cfg.error_on_failure, (int)w.cfg.hold_bytes,
		(int)w.cfg.hold_total, (int)w.cfg.memory_bytes, (int)w.cfg.spool_bytes);
	for (unsigned o = 0; o < ORIGINS; o++) {
		const struct script *s = &asks[c->number].script[o];
		fprintf(stderr,
			"  origin %u%s: fault %d status %u framing %d size %zu; asked %u whole "
			"%u\n",
			o, run.refused[o] ? " refuses" : "", s->fault, s->status, s->framing,
			s->size, asks[c->number].asked[o], asks[c->number].whole[o]);
	}
}

static void say_sides(void)
{
	for (int k = 0; k < SIDES; k++)
		if (sides[k].fd >= 0)
			fprintf(stderr,
				"  side %d of origin %d: reading %d head \"%.30s\" n%u asked %d "
				"whole %d at %zu of %zu then %d\n",
				k, sides[k].origin, sides[k].reading, sides[k].head,
				sides[k].number, sides[k].asked, sides[k].whole, sides[k].at,
				sides[k].nwire, sides[k].then);
}
/* The answer is over, and nobody has left. */
static void judge(const struct client *c)
{
	unsigned what = !c->begun      ? 0
			: c->from < 0  ? BY_US
			: c->from == 1 ? BY_A
			: c->from == 2 ? BY_B
			: c->no_store  ? BY_PRIMARY_DEGRADED
				       : BY_PRIMARY;
	bool ok = run.no_memory || (what & allowed(c));
	if (what && what != BY_US) {
		const struct script *s = &asks[c->number].script[c->from];
		size_t want = c->is_head ? 0 : s->size;
		bool sound = page_whole(s) || want == 0; /* nothing is missing of an empty page */
		if (!c->cut && (c->got != want || (!sound && s->fault != EARLY_CLOSE)))
			ok = false; /* half an answer as a whole one */
		if (c->cut && sound && s->fault != EARLY_CLOSE && !run.no_memory)
			ok = false;
		unsigned status = what == BY_PRIMARY_DEGRADED && w.cfg.degraded_status != 404
					  ? w.cfg.degraded_status
					  : s->status;
		if (c->status != status)
			ok = false;
	}
	/* Nobody is asked in vain. */
	bool both = w.cfg.memory != MEMORY_OFF || w.cfg.hedge_us || w.cfg.shadow_percent;
	if (c->way == WAY_TRY && !c->may_go_alone && !both && !run.no_memory && says(c, 0) == HIT &&
	    (asks[c->number].asked[1] || asks[c->number].asked[2]))
		ok = false;
	if (c->way == WAY_ALONE && asks[c->number].asked[0])
		ok = false;
	if (!ok)
		say_client(c), say_sides();
	must(ok);
}

/* ---- clients */

static void port_nothing(struct exchange *ex)
{
}
static void port_over(struct exchange *ex, bool cut)
{
	struct client *c = ex->port_data;
	must(!c->over);
	c->over = true;
	c->cut = cut;
}
static const struct exch_port port = {
	.output = port_nothing, .room = port_nothing, .over = port_over};

static bool put(struct exchange *ex, const char *name, struct str value)
{
	return head_add_copy(&ex->req.head, str_of(name), value);
}

static void begin(struct client *c)
{
	static const char *const methods[] = {"GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"};
	static const size_t sizes[] = {0, 1, 500, 500, 500, 9000, 30000, BODY_MOST};
	char text[32];
	if (numbers + 1 >= NUMBERS)
		return;
	unsigned n = ++numbers;
	*c = (struct client){.number = n,
			     .method = methods[dice(7)],
			     .leaves = dice(4) ? 0 : 1 + dice(60),
			     .from = -1};
	bool plain = c->method[0] == 'G' || c->method[0] == 'H', override = dice(12) == 0,
	     has_body = plain ? dice(20) == 0 : dice(5) > 0;
	asks[n].idempotent = strcmp(c->method, "POST") != 0;
	asks[n].has_body = has_body;
	asks[n].size = has_body ? sizes[dice(8)] : 0;
	asks[n].sent_all = asks[n].size == 0;
	c->is_head = !strcmp(c->method, "HEAD");
	c->chunked = has_body && (asks[n].size == 0 || dice(2));
	asks[n].sent_all &= !c->chunked;
	for (unsigned o = 0; o < ORIGINS; o++)
		asks[n].script[o] = some_script(o == 0);
	struct exchange *ex = exch_new(&w.env, &port, c, &w.peer, w.model, &w.hcm);
	if (!ex) {
		must(run.no_memory);
		return;
	}
	struct arena *a = &ex->arena;
	struct str path =
		arena_printf(a, "/p%u%s", w.cfg.memory ? dice(3) : n, override ? "?wp=1" : "");
	bool ok = path.p && put(ex, ":authority", STR("t.test")) && put(ex, ":path", path) &&
		  put(ex, ":method", str_of(c->method)) && put(ex, ":scheme", STR("http"));
	snprintf(text, sizeof text, "%u", n);
	ok = ok && put(ex, "x-n", str_of(text));
	snprintf(text, sizeof text, "%zu", asks[n].size);
	if (has_body && !c->chunked)
		ok = ok && put(ex, "content-length", str_of(text));
	if (!ok) {
		exch_drop(ex);
		return;
	}
	enum fb_method how = plain ? METHOD_TRY_PRIMARY : w.cfg.other_methods;
	bool too_long = how == METHOD_TRY_PRIMARY && has_body && !c->chunked &&
			asks[n].size > w.cfg.spool_bytes;
	c->way = override || how == METHOD_DIRECT || too_long ? WAY_ALONE
		 : how == METHOD_PRIMARY_ONLY                 ? WAY_ONLY
							      : WAY_TRY;
	c->may_go_alone = c->way == WAY_TRY && c->chunked && asks[n].size > w.cfg.spool_bytes;
	c->ex = ex;
	exch_begin(ex, c->chunked ? -1 : (int64_t)asks[n].size);
}

static void send_body(struct client *c)
{
	struct exchange *ex = c->ex;
	size_t room = exch_request_room(ex), left = asks[c->number].size - asks[c->number].sent,
	       most = dice(2) ? 1 + dice(300) : 1 + dice(60000);
	struct chain bytes = {0};
	static char b[60000];
	if (asks[c->number].sent_all || !room || dice(3) == 0)
		return;
	size_t n = left < most ? left : most;
	n = n < room ? n : room;
	n = n < sizeof b ? n : sizeof b;
	for (size_t i = 0; i < n; i++)
		b[i] = body_byte(c->number, asks[c->number].sent + i);
	if (!chain_copy(&bytes, b, n)) {
		chain_clear(&bytes);
		return;
	}
	asks[c->number].sent += n;
	bool end = n == left && (!c->chunked || dice(2)); /* the last chunk may come by itself */
	if (left == 0 && c->chunked)
		end = true;
	asks[c->number].sent_all = end;
	exch_request_data(ex, &bytes, end, NULL);
}

static void read_head(struct client *c)
{
	const struct head *h = &c->ex->resp.head;
	const struct field *from = head_find(h, STR("x-from"));
	unsigned n = 0, marks = 0;
	char text[64];
	c->begun = c->ex->head_sent = true;
	c->status = h->status;
	snprintf(c->details, sizeof c->details, "%s", c->ex->details);
	c->no_store = str_eq(head_value(h, FIELD_CACHE_CONTROL), STR("no-store"));
	for (unsigned o = 0; o < ORIGINS; o++) {
		snprintf(text, sizeof text, "x-of-%u", o);
		marks += head_find(h, str_of(text)) != NULL;
	}
	if (from) {
		snprintf(text, sizeof text, "%.*s", STR_ARG(field_value(from)));
		must(sscanf(text, "%d %u", &c->from, &n) == 2 && c->from >= 0 &&
		     c->from < ORIGINS && n == c->number);
	}
	must(marks == (from ? 1 : 0)); /* nothing of the loser's */
	must(!c->no_store || (!head_has(h, FIELD_ETAG) && !head_has(h, FIELD_LAST_MODIFIED)));
}

static void take_answer(struct client *c)
{
	struct exchange *ex = c->ex;
	static char b[16384];
	for (struct interim_out *i = ex->interim; i; i = ex->interim)
		ex->interim = i->next;
	if (!c->begun && exch_answer_ready(ex))
		read_head(c);
	if (c->begun && ex->resp.out.n && dice(3)) {
		size_t n = ex->resp.out.n < sizeof b ? ex->resp.out.n : sizeof b;
		n = dice(2) ? n : 1 + dice((unsigned)n);
		chain_read(&ex->resp.out, 0, b, n);
		chain_skip(&ex->resp.out, n);
		for (size_t i = 0; i < n && c->from >= 0; i++)
			must(b[i] == page_byte(c->number, (unsigned)c->from, c->got + i));
		c->got += n;
		exch_answer_taken(ex, n);
	}
	if (ex->resp.out.n == 0 && (ex->cut || (c->begun && ex->resp.ended)))
		exch_answer_done(ex);
}

static void step_client(struct client *c)
{
	if (!c->ex) {
		if (dice(4) == 0)
			begin(c);
		return;
	}
	if (!c->over && c->leaves && dice(c->leaves) == 0) {
		exch_client_gone(c->ex);
		must(c->over);
		c->ex = NULL; /* nothing to judge */
		return;
	}
	if (!c->over)
		send_body(c);
	if (!c->over)
		take_answer(c);
	if (!c->over)
		return;
	judge(c);
	c->ex = NULL;
}

/* ---- a run */

static void some_policy(void)
{
	struct fb_cfg *cfg = &w.cfg;
	static const uint64_t holds[] = {0, 100, 65536};
	static struct fb_override by_query;
	by_query = (struct fb_override){.kind = OVER_QUERY,
					.name = STR("wp"),
					.match = {.kind = STRING_EXACT, .text = STR("1")}};
	cfg->overrides = &by_query;
	cfg->noverrides = 1;
	cfg->norigins = 1 + dice(2);
	cfg->hold_bytes = holds[dice(3)];
	cfg->hold_total = dice(4) ? 67108864 : dice(200);
	cfg->drain_bytes = dice(3) ? 131072 : 0;
	cfg->ask_on_failure = dice(3) == 0;
	cfg->error_on_failure = dice(6) == 0;
	cfg->degraded_status = dice(4) ? 404 : 503;
	cfg->other_methods = (enum fb_method)dice(3);
	cfg->mark_request = dice(2);
	cfg->memory_bytes = dice(2) ? 65536 : 1000;
	cfg->spool_bytes = dice(2) ? 33554432 : 50000;
	cfg->memory = dice(3) ? MEMORY_OFF : (enum memory_mode)dice(3);
	cfg->miss_ttl_us = cfg->both_ttl_us = cfg->memory ? 3000000 : 0;
	cfg->hedge_us = dice(6) ? 0 : 1 + dice(20000);
	if (dice(8) == 0)
		cfg->max_inflight = 1 + dice(2);
	else if (dice(8) == 0)
		cfg->breaker_failures = 1 + dice(2);
	cfg->shadow_percent = dice(8) ? 0 : 1 + dice(100);
	cfg->shadow_compare = 1 + dice(7);
	cfg->quick = cfg->memory == MEMORY_OFF && !cfg->hedge_us && !cfg->shadow_percent;
	run.may_fail = cfg->max_inflight || cfg->breaker_failures;
	w.route.timeout_us = 30000000;
}

static void turn(uint64_t us, bool fails)
{
	static const struct timespec moment = {0, 1000};
	if (us >= 100000) /* the kernel may still have to bring something, which must not be late */
		nanosleep(&moment, NULL);
	virtual_us += us;
	if (fails)
		mem_fail_nth(1 + dice(40));
	loop_turn(w.loop, 0);
	mem_fail_nth(0);
	accept_all();
	for (int k = 0; k < SIDES; k++)
		if (sides[k].fd >= 0 && dice(4))
			play(&sides[k]);
}

static void one_run(void)
{
	static const unsigned passes[] = {8, 1, 256};
	const struct listening *at[ORIGINS];
	dice_state = seed;
	memset(&run, 0, sizeof run);
	memset(asks, 0, sizeof asks);
	memset(clients, 0, sizeof clients);
	numbers = 0;
	for (int o = 0; o < ORIGINS; o++) {
		run.refused[o] = dice(12) == 0;
		at[o] = run.refused[o] ? &nobody : &places[o];
	}
	run.no_memory = dice(8) == 0;
	world_up(&w, at, passes[dice(3)]);
	some_policy();
	for (unsigned s = 0; s < STEPS; s++) {
		for (int i = 0; i < CLIENTS; i++)
			if (dice(2)) {
				if (run.no_memory && dice(20) == 0)
					mem_fail_nth(1 + dice(20));
				step_client(&clients[i]);
				mem_fail_nth(0);
			}
		turn(dice(4) ? dice(500) : 0, run.no_memory && dice(10) == 0);
	}
	/* Time alone must end what is left: soon where nobody is silent, then at the limits. */
	numbers = NUMBERS - 1;
	for (unsigned s = 0, busy = 1; busy && s < 3000; s++) {
		busy = 0;
		for (int i = 0; i < CLIENTS; i++) {
			clients[i].leaves = 0;
			if (clients[i].ex)
				step_client(&clients[i]);
			busy |= clients[i].ex != NULL;
		}
		turn(s < 300 ? 1000 : s % 9 ? 0 : 500000, false); /* who is slow must not be late */
	}
	for (int i = 0; i < CLIENTS; i++) {
		if (clients[i].ex)
			say_client(&clients[i]);
		must(!clients[i].ex);
	}
	for (int s = 0; s < 25; s++)
		turn(20000, false); /* losers are drained within 250 ms */
	for (int s = 0; s < 8 && w.cfg.shadow_percent; s++)
		turn(5000000, false); /* comparisons end within 30 s */
	world_down(&w);
	for (int k = 0; k < SIDES; k++)
		if (sides[k].fd >= 0)
			side_end(&sides[k], false);
	accept_all(); /* of connections that nobody needed any more */
	for (int k = 0; k < SIDES; k++)
		if (sides[k].fd >= 0)
			side_end(&sides[k], false);
}

static void say_seed(int number)
{
	dprintf(2, "seed %llu\n", (unsigned long long)seed);
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].number)
			say_client(&clients[i]);
}

static volatile uint64_t *at_seed; /* shared by the processes */

static void some_runs(uint64_t from, uint64_t runs)
{
	struct mem_totals before, after;
	start_tests();
	nobody = refusing();
	for (int i = 0; i < ORIGINS; i++)
		places[i] = listen_local();
	for (int k = 0; k < SIDES; k++)
		sides[k].fd = -1;
	signal(SIGABRT, say_seed);
	for (uint64_t i = 0; i < runs; i++) {
		seed = from + i;
		*at_seed = seed;
		one_run();
		mem_read_totals(i ? &after : &before);
		for (int k = 0; i && k < MEM_CLASSES; k++)
			if (k != MEM_OBS)
				must(after.bytes[k] == before.bytes[k]);
	}
}

/* In a process of its own. True: all of them went well. */
static bool apart(uint64_t from, uint64_t runs)
{
	int status;
	pid_t child = fork();
	must(child >= 0);
	if (child == 0) {
		some_runs(from, runs);
		exit(0);
	}
	must(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The clock is the test's, but the sockets are the kernel's: on a machine with other work a byte may come later than the
 * schedule has it. A mistake in the filter fails again with the same seed, a late byte does not. */
enum { AGAIN = 3, EXCUSED_MOST = 3 };

static bool fails_again(uint64_t one)
{
	for (int i = 0; i < AGAIN; i++)
		if (!apart(one, 1))
			return true;
	fprintf(stderr, "seed %llu does not fail again\n", (unsigned long long)one);
	return false;
}

int main(int argc, char **argv)
{
	uint64_t from = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint64_t end = from + (argc > 2 ? strtoull(argv[2], NULL, 10) : argc > 1 ? 1 : RUNS);
	unsigned excused = 0;
	at_seed = mmap(NULL, sizeof *at_seed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	must(at_seed != MAP_FAILED);
	if (argc > 1) {
		some_runs(from, end - from);
		return 0;
	}
	while (from < end && !apart(from, end - from)) {
		from = *at_seed;
		if (fails_again(from) || ++excused > EXCUSED_MOST)
			return 1;
		from++;
	}
	return 0;
}

/* src/upstream/balance_test.c: who is chosen, and how often. No sockets. */
#include "upstream/balance.c"
#include "upstream/upstream_test.h"

enum { HOSTS = 12, DRAWS = 20000 };

static struct host hosts[HOSTS];
static struct host *list[HOSTS];
static char texts[HOSTS][32];
static struct cluster_cfg cfg;
static struct balance b;

static void make(unsigned n, enum lb_policy lb)
{
	balance_fini(&b);
	cfg = (struct cluster_cfg){.lb = lb,
				   .choice_count = 2,
				   .ring_min = 1024,
				   .ring_max = 8388608,
				   .healthy_panic = 50,
				   .overprovisioning = 140};
	for (unsigned i = 0; i < n; i++) {
		snprintf(texts[i], sizeof texts[i], "127.0.0.1:%u", 90 + i);
		hosts[i] =
			(struct host){.id = i + 1, .healthy = true, .weight = 1, .text = texts[i]};
		list[i] = &hosts[i];
	}
}

static void build_now(unsigned n)
{
	must(balance_build(&b, &cfg, list, n));
}

static unsigned counts[HOSTS];

static void draw(unsigned n, const struct balance_ask *given)
{
	memset(counts, 0, sizeof counts);
	for (unsigned i = 0; i < n; i++) {
		struct balance_ask ask = given ? *given : (struct balance_ask){0};
		struct host *h = balance_pick(&b, &cfg, &ask);
		if (h)
			counts[h - hosts]++;
	}
}

static void near(unsigned got, double want)
{
	if (got < want * 0.9 - 20 || got > want * 1.1 + 20)
		printf("got %u, wanted about %.0f\n", got, want);
	must(got >= want * 0.9 - 20 && got <= want * 1.1 + 20);
}

static void one_after_the_other(void)
{
	make(5, LB_ROUND_ROBIN);
	build_now(5);
	draw(5000, NULL);
	for (int i = 0; i < 5; i++)
		must(counts[i] == 1000);
}

static void weights_count(void)
{
	for (int lb = LB_ROUND_ROBIN; lb <= LB_LEAST_REQUEST; lb++) {
		make(3, (enum lb_policy)lb);
		hosts[0].weight = 1;
		hosts[1].weight = 3;
		hosts[2].weight = 6;
		build_now(3);
		draw(10000, NULL);
		for (int i = 0; i < 3; i++)
			must(counts[i] >= hosts[i].weight * 1000 - 2 &&
			     counts[i] <= hosts[i].weight * 1000 + 2);
	}
	/* Evenly spread, not in runs: among any 10 in a row the lightest comes once. */
	make(2, LB_ROUND_ROBIN);
	hosts[1].weight = 4;
	build_now(2);
	for (int i = 0; i < 100; i++) {
		draw(5, NULL);
		must(counts[0] == 1 && counts[1] == 4);
	}
}

static void the_idle_ones_get_more(void)
{
	make(4, LB_LEAST_REQUEST);
	build_now(4);
	draw(DRAWS, NULL);
	for (int i = 0; i < 4; i++)
		near(counts[i], DRAWS / 4.0);
	hosts[0].active = 10;
	draw(DRAWS, NULL);
	near(counts[0], DRAWS / 16.0); /* only when it is drawn twice */
	cfg.choice_count = 8;
	build_now(4);
	draw(DRAWS, NULL);
	must(counts[0] < 10);
	make(2, LB_LEAST_REQUEST);
	hosts[0].weight = 2;
	hosts[0].active = 3; /* weighs 2 / 4 now */
	build_now(2);
	draw(9000, NULL);
	near(counts[0], 3000);
}

static void random_is_even(void)
{
	make(4, LB_RANDOM);
	build_now(4);
	draw(DRAWS, NULL);
	for (int i = 0; i < 4; i++)
		near(counts[i], DRAWS / 4.0);
}

static struct host *at_hash(uint64_t hash)
{
	struct balance_ask ask = {.has_hash = true, .hash = hash};
	return balance_pick(&b, &cfg, &ask);
}

/* The points that Envoy's own ring has for these addresses. */
static void the_ring_is_envoys(void)
{
	static const struct {
		uint64_t hash;
		unsigned port;
	} ring[] = {
		{833437586790550860u, 94},   {928266305478181108u, 92},
		{1033482794131418490u, 90},  {3551244743356806947u, 95},
		{3851675632748031481u, 93},  {5583722120771150861u, 91},
		{6311230543546372928u, 91},  {7700377290971790572u, 93},
		{13144177310400110813u, 95}, {13444792449719432967u, 92},
		{15516499411664133160u, 94}, {16117243373044804889u, 90},
	};
	make(6, LB_RING_HASH);
	cfg.ring_min = 12;
	build_now(6);
	must(b.tiers[0].nring == 12);
	for (unsigned i = 0; i < 12; i++) {
		must(b.tiers[0].ring[i].hash == ring[i].hash);
		must(at_hash(ring[i].hash) == &hosts[ring[i].port - 90]);
		must(at_hash(ring[i].hash + 1) == &hosts[ring[(i + 1) % 12].port - 90]);
	}
	must(at_hash(0) == &hosts[4] && at_hash(UINT64_MAX) == &hosts[4]);
}

static void a_lost_host_moves_only_its_own_keys(void)
{
	static struct host *before[DRAWS];
	make(10, LB_RING_HASH);
	build_now(10);
	must(b.tiers[0].nring == 1030);
	cfg.ring_min = 1000;
	build_now(10);
	for (unsigned i = 0; i < DRAWS; i++)
		before[i] = at_hash(hash_fixed(&i, sizeof i));
	cfg.ring_min = 900; /* 100 points each, as before */
	build_now(9);
	unsigned moved = 0;
	for (unsigned i = 0; i < DRAWS; i++) {
		struct host *h = at_hash(hash_fixed(&i, sizeof i));
		must(before[i] == &hosts[9] || h == before[i]);
		moved += h != before[i];
	}
	must(moved > DRAWS / 10 / 2 && moved < DRAWS / 10 * 2);
}

static void ring_bounds_and_weights(void)
{
	make(3, LB_RING_HASH);
	cfg.ring_min = 1;
	cfg.ring_max = 2; /* fewer points than hosts */
	build_now(3);
	must(b.tiers[0].nring <= 3 && at_hash(7));
	cfg.ring_min = 0;
	cfg.ring_max = 0;
	build_now(3);
	must(at_hash(7)); /* no point at all: any host */
	cfg.ring_min = 1000;
	cfg.ring_max = 100000;
	hosts[0].weight = 8;
	build_now(3);
	unsigned n[3] = {0};
	for (unsigned i = 0; i < b.tiers[0].nring; i++)
		n[b.tiers[0].ring[i].host - hosts]++;
	must(n[0] == 8 * n[1] && n[1] == n[2] && n[1] == 100);
	draw(DRAWS, NULL); /* without a hash: anywhere */
	must(counts[0] > counts[1] && counts[1] > 0 && counts[2] > 0);
}

static void the_first_priority_takes_all_while_it_is_well(void)
{
	make(8, LB_ROUND_ROBIN);
	for (unsigned i = 4; i < 8; i++)
		hosts[i].priority = 1;
	build_now(8);
	draw(4000, NULL);
	must(counts[0] + counts[1] + counts[2] + counts[3] == 4000);
	/* 3 of 4 well: 105 percent, still all. */
	hosts[0].healthy = false;
	build_now(8);
	draw(3000, NULL);
	must(counts[0] == 0 && counts[1] == 1000);
	/* 2 of 4: 70 percent, the rest goes to the next. */
	hosts[1].healthy = false;
	build_now(8);
	draw(DRAWS, NULL);
	near(counts[2] + counts[3], DRAWS * 0.7);
	near(counts[4] + counts[5] + counts[6] + counts[7], DRAWS * 0.3);
	/* None. */
	hosts[2].healthy = hosts[3].healthy = false;
	build_now(8);
	draw(DRAWS, NULL);
	must(counts[0] + counts[1] + counts[2] + counts[3] == 0);
}

static void panic_looks_at_all_hosts(void)
{
	make(4, LB_ROUND_ROBIN);
	hosts[0].healthy = hosts[1].healthy = hosts[2].healthy = false;
	build_now(4); /* 25 percent are well: below 50 */
	draw(4000, NULL);
	for (int i = 0; i < 4; i++)
		must(counts[i] == 1000);
	cfg.healthy_panic = 0;
	build_now(4);
	draw(4000, NULL);
	must(counts[3] == 4000);
	hosts[3].healthy = false;
	build_now(4);
	struct balance_ask ask = {0};
	must(balance_pick(&b, &cfg, &ask) == NULL);
	cfg.healthy_panic = 50;
	build_now(4);
	draw(4000, NULL);
	must(counts[0] == 1000);
	/* Everybody in panic: by the number of hosts. */
	make(4, LB_ROUND_ROBIN);
	for (int i = 0; i < 4; i++)
		hosts[i].healthy = false;
	hosts[3].priority = 1;
	build_now(4);
	draw(DRAWS, NULL);
	near(counts[3], DRAWS * 0.25);
}

static void tried_hosts_and_priorities_are_avoided(void)
{
	make(4, LB_RANDOM);
	build_now(4);
	uint64_t tried[] = {1, 2};
	struct balance_ask ask = {.attempt = 1, .tried = tried, .ntried = 2, .host_attempts = 50};
	draw(DRAWS, &ask);
	must(counts[0] + counts[1] < 3 && counts[2] && counts[3]);
	ask.host_attempts = 0; /* no predicate */
	draw(DRAWS, &ask);
	near(counts[0], DRAWS / 4.0);
	make(4, LB_RING_HASH);
	build_now(4);
	for (uint64_t i = 0; i < 500; i++) {
		uint64_t hash = hash_fixed(&i, sizeof i);
		struct host *first = at_hash(hash);
		uint64_t one[] = {first->id};
		struct balance_ask again = {.has_hash = true,
					    .hash = hash,
					    .attempt = 1,
					    .tried = one,
					    .ntried = 1,
					    .host_attempts = 20};
		must(balance_pick(&b, &cfg, &again) != first);
	}
	make(4, LB_ROUND_ROBIN);
	hosts[2].priority = hosts[3].priority = 1;
	build_now(4);
	struct balance_ask skip = {.attempt = 1, .skip_tiers = 1};
	draw(1000, &skip);
	must(counts[0] + counts[1] == 0 && counts[2] == 500);
	skip.skip_tiers = 3; /* all: as if none */
	draw(1000, &skip);
	must(counts[0] == 500);
}

static void an_override_comes_first(void)
{
	make(4, LB_ROUND_ROBIN);
	build_now(4);
	struct balance_ask ask = {.override_host = STR("127.0.0.1:92")};
	draw(100, &ask);
	must(counts[2] == 100);
	ask.override_host = STR("127.0.0.1:1");
	draw(100, &ask);
	must(counts[2] == 25);
	ask.override_strict = true;
	must(!balance_pick(&b, &cfg, &ask));
	ask.override_host = STR("127.0.0.1:92");
	ask.attempt = 1; /* a retry chooses freely */
	draw(100, &ask);
	must(counts[2] == 25);
	hosts[2].healthy = false;
	build_now(4);
	ask.attempt = 0;
	must(!balance_pick(&b, &cfg, &ask));
}

static void many_priorities_and_no_memory(void)
{
	make(HOSTS, LB_RING_HASH);
	for (unsigned i = 0; i < HOSTS; i++) {
		hosts[i].priority = i * 11;
		hosts[i].healthy = i > 7;
	}
	build_now(HOSTS);
	draw(1000, NULL);
	must(counts[8] == 1000);
	make(HOSTS, LB_ROUND_ROBIN);
	for (unsigned i = 0; i < HOSTS; i++) {
		hosts[i].weight = i + 1;
		hosts[i].healthy = i != 3;
		hosts[i].priority = i % 3;
	}
	build_now(HOSTS);
	for (uint64_t n = 1;; n++) {
		mem_fail_nth(n);
		bool ok = balance_build(&b, &cfg, list, HOSTS);
		bool fired = mem_fail_left() == 0;
		mem_fail_nth(0);
		must(ok == !fired);
		draw(100, NULL);
		must(counts[0] + counts[6] + counts[9] == 100);
		if (ok)
			break;
	}
}

int main(void)
{
	start_tests();
	for (unsigned i = 0; i < HOSTS; i++)
		list[i] = &hosts[i];
	one_after_the_other();
	weights_count();
	the_idle_ones_get_more();
	random_is_even();
	the_ring_is_envoys();
	a_lost_host_moves_only_its_own_keys();
	ring_bounds_and_weights();
	the_first_priority_takes_all_while_it_is_well();
	panic_looks_at_all_hosts();
	tried_hosts_and_priorities_are_avoided();
	an_override_comes_first();
	many_priorities_and_no_memory();
	balance_fini(&b);
	return 0;
}

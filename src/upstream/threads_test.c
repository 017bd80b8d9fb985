/* src/upstream/threads_test.c: workers that change their clusters while another thread reads
 * /clusters. For TSan above all. */
#include "upstream/upstream_test.h"

enum { WORKERS = 2, SWAPS = 300 };

static struct model *models[2];
static atomic_int running;

static void *work(void *arg)
{
	struct loop *mine = loop_new((unsigned)(uintptr_t)arg);
	must(mine);
	struct upstream *u = upstream_new(mine, models[0]);
	must(u);
	for (int i = 0; i < SWAPS; i++) {
		upstream_swap(u, models[i & 1]);
		struct breaker_use *use = breaker_open(STR("web"));
		must(use && breaker_take(use, 0, USE_REQUESTS, 1000));
		loop_turn(mine, 0);
		breaker_give(use, 0, USE_REQUESTS);
		breaker_close(use);
	}
	upstream_free(u);
	loop_turn(mine, 0);
	loop_free(mine);
	atomic_fetch_sub(&running, 1);
	chain_trim();
	arena_trim();
	return NULL;
}

static void look(void *arg, const struct endpoint_row *r)
{
	must(r->address[0] && r->weight == 1);
	++*(int *)arg;
}

int main(void)
{
	pthread_t threads[WORKERS];
	start_tests();
	struct listening s[3] = {listen_local(), listen_local(), listen_local()};
	const struct listening *first[] = {&s[0], &s[1]}, *second[] = {&s[1], &s[2]};
	for (int i = 0; i < 2; i++) {
		models[i] = model_with_options();
		cluster_new(models[i], "web", i ? second : first, 2);
		cluster_new(models[i], i ? "b" : "a", first, 1);
		prepare(models[i]);
	}
	atomic_store(&running, WORKERS);
	for (uintptr_t i = 0; i < WORKERS; i++)
		must(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
	int rows = 0;
	do {
		upstream_rows(models[rows & 1], look, &rows);
	} while (atomic_load(&running));
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	must(in_use("web", USE_REQUESTS) == 0);
	for (int i = 0; i < 2; i++)
		model_unref(models[i]);
	return 0;
}

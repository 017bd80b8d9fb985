/* src/filters/lua/guard.c: processor time of scripts (robustness.md L1).
 *
 * Each VM has a timer on its thread's processor time: nothing is armed or asked per run. The
 * handler, on that thread, looks
 * whether the same run was there at the last tick; after enough ticks it sets a count hook, which
 * raises an error before the next
 * instruction and stays set until control is back in C, so that no pcall can swallow it. Functions
 * of ours that loop in C look at
 * the flag themselves (guard_check).
 *
 * The compiler is off. Debian's LuaJIT ends the process when an allocation is refused inside
 * compiled code (lj_err_mem reads
 * the frame of the last C call, which by then may be anything; later versions take it from the
 * trace): with a memory limit
 * that is within every script's reach. lua_test.c has the script ("kept[#kept + 1] = {i}" in a
 * loop). Scripts that call the API
 * run no slower for it (bench/lua_bench.c); hooks stop everything, on any number of threads; and
 * nothing needs executable memory.
 */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TICK_US = 10000 };

struct guard {
	lua_State *L;
	timer_t timer;
	unsigned depth;          /* guard_enter nests */
	struct guard *before;    /* another VM's script under this one on the stack */
	volatile unsigned limit; /* ticks allowed */
	volatile unsigned run, seen, ticks;
	volatile bool over;
};

/* Whose script runs on this thread. */
static _Thread_local struct guard *volatile armed;

static void stop(lua_State *L, lua_Debug *ar)
{
	luaL_where(L, 0); /* a hook is no level of its own */
	lua_pushliteral(L, "script exceeded its time limit");
	lua_concat(L, 2);
	lua_error(L);
}

/* The tick is also a sample of whose script it is that computes. Nothing else on this thread adds
 * to that counter. */
static void sample(void)
{
	const struct run *r = run_now;
	if (!r->self)
		return;
	stat_id id = ((const struct lua_filter *)r->self->config)->cpu_ms;
	if (stat_pages[id / STAT_PAGE]) /* making a page would allocate */
		stat_add(id, TICK_US / 1000);
}

static void on_tick(int signal, siginfo_t *info, void *context)
{
	struct guard *g = armed;
	if (!g || info->si_value.sival_ptr != g)
		return;
	sample();
	if (g->seen != g->run) {
		g->seen = g->run;
		g->ticks = 0;
		return;
	}
	if (++g->ticks < g->limit)
		return;
	g->over = true;
	lua_sethook(g->L, stop, LUA_MASKCOUNT, 1);
}

static int tick_signal(void)
{
	return SIGRTMIN + 3;
}

static bool handled;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void handle(void)
{
	struct sigaction tick = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigemptyset(&tick.sa_mask);
	handled = sigaction(tick_signal(), &tick, NULL) == 0;
}

struct guard *guard_new(struct vm *vm)
{
	struct guard *g = mem_zalloc(MEM_LUA, sizeof *g);
	if (!g)
		return NULL;
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID,
			      .sigev_signo = tick_signal(),
			      .sigev_value.sival_ptr = g};
	struct itimerspec every = {.it_interval.tv_nsec = TICK_US * 1000,
				   .it_value.tv_nsec = TICK_US * 1000};
	sigset_t set;
	pthread_once(&once, handle);
	sigemptyset(&set);
	sigaddset(&set, tick_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	g->L = vm->L;
	if (!handled || timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &g->timer)) {
		mem_free(MEM_LUA, g);
		return NULL;
	}
	if (timer_settime(g->timer, 0, &every, NULL)) {
		guard_free(g);
		return NULL;
	}
	return g;
}

void guard_free(struct guard *g)
{
	if (!g)
		return;
	must(g->depth == 0);
	timer_delete(g->timer);
	mem_free(MEM_LUA, g);
}

void guard_enter(struct vm *vm, uint64_t limit_us)
{
	struct guard *g = vm->guard;
	if (g->depth++)
		return; /* on the time of the one outside */
	/* Unwinding takes some time too: the stop comes at three fifths. */
	uint64_t ticks = limit_us * 3 / 5 / TICK_US;
	g->limit = ticks ? (unsigned)ticks : 1;
	g->run++;
	g->before = armed;
	armed = g;
}

bool guard_leave(struct vm *vm)
{
	struct guard *g = vm->guard;
	if (--g->depth)
		return g->over;
	armed = g->before;
	if (__builtin_expect(!g->over, 1))
		return false;
	lua_sethook(g->L, NULL, 0, 0);
	g->over = false;
	return true;
}

void guard_check(lua_State *L)
{
	const struct guard *g = armed;
	if (g && g->over)
		luaL_error(L, "script exceeded its time limit");
}

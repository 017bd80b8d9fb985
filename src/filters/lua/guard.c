/* src/filters/lua/guard.c: processor time of scripts (dependencies.md 6.6, robustness.md L1).
 *
 * Each VM has a timer on its thread's processor time. The handler, on that thread, looks whether the same run was there at
 * the last tick; after enough ticks it sets a count hook, which raises an error and stays set until control is back in C, so
 * that no pcall can swallow it. Compiled traces do not look at hooks, but those compiled in the profiler's mode "l" look at the
 * profiler's flag: the handler takes the process's one profiler slot, which an idle VM of ours holds, and calls the profiler's own
 * signal handler, which raises that flag. All calls are public; that they do this together is not promised anywhere, hence the
 * self-test: where it fails, the compiler is off and the hook is enough.
 */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { TICK_US = 10000, TEST_TICK_US = 1000 };

struct guard {
	lua_State *L;
	timer_t timer;
	bool timed;	  /* the timer exists */
	bool traces;	  /* this VM's traces can be stopped */
	unsigned depth;	  /* guard_enter nests */
	unsigned tick_us;
	volatile unsigned limit; /* ticks allowed */
	volatile unsigned run, seen, ticks;
	volatile bool over;
	bool slot; /* this VM has the profiler slot */
	struct guard *before; /* another VM's script under this one on the stack */
};

/* Whose script runs on this thread. */
static _Thread_local struct guard *volatile armed;

/* --- the profiler slot --- */

static lua_State *idle;		       /* holds the slot when nobody stops a trace */
static void (*raise_flag)(int signal); /* the profiler's own SIGPROF handler */
static atomic_flag slot_taken = ATOMIC_FLAG_INIT;

static void no_sample(void *data, lua_State *L, int samples, int vmstate)
{
}

static void idle_takes_slot(void)
{
	const struct itimerval off = {0};
	luaJIT_profile_start(idle, "i10000000", no_sample, NULL);
	setitimer(ITIMER_PROF, &off, NULL);
}

/* --- the tick --- */

static void stop(lua_State *L, lua_Debug *ar)
{
	luaL_error(L, "script exceeded its time limit");
}

static void on_tick(int signal, siginfo_t *info, void *context)
{
	struct guard *g = armed;
	if (!g || info->si_value.sival_ptr != g)
		return;
	if (g->seen != g->run) {
		g->seen = g->run;
		g->ticks = 0;
		return;
	}
	if (++g->ticks < g->limit)
		return;
	g->over = true;
	lua_sethook(g->L, stop, LUA_MASKCOUNT, 1);
	if (!g->traces)
		return;
	if (!g->slot) {
		if (atomic_flag_test_and_set(&slot_taken))
			return; /* another worker stops a script: at the next tick */
		luaJIT_profile_stop(idle);
		luaJIT_profile_start(g->L, "i10000000", no_sample, NULL);
		g->slot = true;
	}
	raise_flag(SIGPROF);
}

static int tick_signal(void)
{
	return SIGRTMIN + 3;
}

static bool timer_start(struct guard *g, unsigned tick_us)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = tick_signal(), .sigev_value.sival_ptr = g};
	struct itimerspec every = {.it_interval.tv_nsec = (long)tick_us * 1000, .it_value.tv_nsec = (long)tick_us * 1000};
	sigset_t set;
	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigemptyset(&set);
	sigaddset(&set, tick_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	g->tick_us = tick_us;
	if (timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &g->timer))
		return false;
	g->timed = timer_settime(g->timer, 0, &every, NULL) == 0;
	if (!g->timed)
		timer_delete(g->timer);
	return g->timed;
}

/* --- may traces be stopped here? --- */

/* Makes traces of L look at the profiler's flag. */
static void watch_traces(lua_State *L)
{
	luaJIT_profile_stop(L); /* a VM at an address used before may seem to be the owner */
	luaJIT_profile_start(L, "l", no_sample, NULL);
}

static int spin(lua_State *L)
{
	if (luaL_loadstring(L, "while true do end") == 0)
		lua_call(L, 0, 0);
	return 0;
}

/* An endless loop, compiled, with the guard on it. */
static bool self_test(void)
{
	struct guard g = {.limit = 1};
	lua_State *L = luaL_newstate();
	struct timespec from, to;
	if (!L)
		return false;
	g.L = L;
	g.traces = true;
	lua_pushcfunction(L, luaopen_jit);
	lua_pushstring(L, LUA_JITLIBNAME);
	bool ok = lua_pcall(L, 1, 0, 0) == 0 && timer_start(&g, TEST_TICK_US);
	if (ok) {
		watch_traces(L);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		armed = &g;
		g.run++;
		ok = lua_cpcall(L, spin, NULL) != 0;
		armed = NULL;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		timer_delete(g.timer);
		lua_sethook(L, NULL, 0, 0);
		ok = ok && g.over && (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000 < 1000;
	}
	if (g.slot) {
		luaJIT_profile_stop(L);
		idle_takes_slot();
		atomic_flag_clear(&slot_taken);
	}
	lua_close(L);
	return ok;
}

static bool executable_memory(void)
{
	size_t n = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool ok = p != MAP_FAILED && mprotect(p, n, PROT_READ | PROT_EXEC) == 0;
	if (p != MAP_FAILED)
		munmap(p, n);
	return ok;
}

static bool jit_allowed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find_out(void)
{
	struct sigaction tick = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART}, prof;
	sigemptyset(&tick.sa_mask);
	if (sigaction(tick_signal(), &tick, NULL))
		return;
	if (!executable_memory()) {
		log_line(LOG_LUA, LOG_WARNING, "memory may not be made executable here: scripts run without the compiler");
		return;
	}
	idle = luaL_newstate();
	if (!idle)
		return;
	idle_takes_slot();
	if (sigaction(SIGPROF, NULL, &prof) || prof.sa_handler == SIG_DFL || prof.sa_handler == SIG_IGN)
		return;
	raise_flag = prof.sa_handler;
	jit_allowed = self_test();
	if (!jit_allowed)
		log_line(LOG_LUA, LOG_WARNING, "a compiled endless loop could not be stopped here: scripts run without the compiler");
}

bool guard_jit_allowed(void)
{
	pthread_once(&once, find_out);
	return jit_allowed;
}

/* --- guards --- */

struct guard *guard_new(struct vm *vm)
{
	struct guard *g = mem_zalloc(MEM_LUA, sizeof *g);
	if (!g)
		return NULL;
	bool jit = guard_jit_allowed() && vm->env;
	g->L = vm->L;
	g->traces = jit;
	if (!timer_start(g, TICK_US)) {
		mem_free(MEM_LUA, g);
		return NULL;
	}
	if (jit)
		watch_traces(vm->L);
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
	/* The stop itself takes some time (unwinding): it comes at three fifths. */
	uint64_t ticks = limit_us * 3 / 5 / g->tick_us;
	g->limit = ticks ? (unsigned)ticks : 1;
	g->run++;
	g->before = armed;
	armed = g;
}

/* The script is back, stopped: hooks and the slot as they were. */
static void recover(struct guard *g)
{
	lua_sethook(g->L, NULL, 0, 0);
	if (g->slot) {
		luaJIT_profile_stop(g->L);
		idle_takes_slot();
		luaJIT_profile_start(g->L, "l", no_sample, NULL);
		g->slot = false;
		atomic_flag_clear(&slot_taken);
	}
	g->over = false;
}

bool guard_leave(struct vm *vm)
{
	struct guard *g = vm->guard;
	if (--g->depth)
		return g->over;
	armed = g->before;
	if (__builtin_expect(!g->over, 1))
		return false;
	recover(g);
	return true;
}

void guard_check(lua_State *L)
{
	const struct guard *g = armed;
	if (g && g->over)
		luaL_error(L, "script exceeded its time limit");
}

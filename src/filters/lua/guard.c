/* src/filters/lua/guard.c: processor time of scripts (robustness.md L1).
 *
 * Each VM has a timer on its thread's processor time: nothing is armed or asked per run. The
 * handler, on that thread, looks whether the same run was there at the last tick; after enough
 * ticks it sets a count hook, which stays set until control is back in C and ends the coroutine
 * before its next instruction.
 *
 * It ends it by a yield that nobody resumes: pcall does not see it, and ten thousand of them on
 * the stack cost nothing, where an error would be caught and raised again ten thousand times (a
 * microsecond each: the unwinder's). Below a function of ours that calls back (gsub, sort) there
 * is no yielding: there the hook raises an error, and should that last, it leaves by longjmp and
 * the VM is given up (vm->broken). It may, for at a hook nothing is half done and no lock is held.
 *
 * Functions of ours that loop in C look at the flag themselves (guard_check).
 *
 * The compiler is off. Debian's LuaJIT ends the process when an allocation is refused inside
 * compiled code (lj_err_mem reads the frame of the last C call, which by then may be anything;
 * later versions take it from the trace): with a memory limit that is within every script's reach.
 * lua_test.c has the script ("kept[#kept + 1] = {i}" in a loop). Scripts that call the API run no
 * slower for it (bench/lua_bench.c); hooks stop everything, on any number of threads; and nothing
 * needs executable memory.
 */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	TICK_US = 10000,
	HARD_AFTER = 1,         /* ticks from the first stop to the last resort */
	STACK_MOST = 512 * 1024 /* of C's stack, where scripts call C that calls scripts */
};

struct guard {
	lua_State *L;
	timer_t timer;
	unsigned depth;        /* guard_resume nests */
	bool may_jump;         /* out is set */
	bool stopped;          /* the hook has struck in this run */
	const char *base;      /* of C's stack, where the run began */
	char text[GUARD_TEXT]; /* where it was stopped, and why */
	jmp_buf out;
	struct guard *before;    /* another VM's script under this one on the stack */
	volatile unsigned limit; /* ticks allowed */
	volatile unsigned run, seen, ticks;
	volatile bool over;
};

/* Whose script runs on this thread. */
static _Thread_local struct guard *volatile armed;

/* Notes where the run is, once: in the script, not in the functions that postern itself has written
 * in Lua (libs.c). No allocation: it may have run out of memory. */
static void note(struct guard *g, lua_State *L)
{
	static const char why[] = "script exceeded its time limit";
	lua_Debug ar;
	if (g->stopped)
		return;
	g->stopped = true;
	for (int level = 0; level < 8 && lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "Sl", &ar);
		if (ar.currentline > 0 && strcmp(ar.short_src, "postern") != 0) {
			snprintf(g->text, sizeof g->text, "%s:%d: %s", ar.short_src, ar.currentline,
				 why);
			return;
		}
	}
	snprintf(g->text, sizeof g->text, "%s", why);
}

static void stop(lua_State *L, lua_Debug *ar)
{
	struct guard *g = armed;
	must(g);
	note(g, L);
	if (g->may_jump && g->ticks >= g->limit + HARD_AFTER)
		_longjmp(g->out, 1);
	if (lua_isyieldable(L))
		lua_yield(L, 0); /* does not return to a hook */
	else
		luaL_error(L, "script exceeded its time limit");
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

static void enter(struct guard *g, uint64_t limit_us)
{
	/* Unwinding takes some time too: the stop comes at three fifths. */
	uint64_t ticks = limit_us * 3 / 5 / TICK_US;
	g->limit = ticks ? (unsigned)ticks : 1;
	g->run++;
	g->stopped = false;
	g->base = __builtin_frame_address(0);
	g->before = armed;
	armed = g;
}

static __attribute__((noinline)) int leave_stopped(struct guard *g, int status)
{
	lua_sethook(g->L, NULL, 0, 0);
	g->over = false;
	return g->stopped ? GUARD_STOPPED
			  : status; /* else it had ended, or waits, when the tick came */
}

static __attribute__((noinline)) int give_up(struct vm *vm)
{
	struct guard *g = vm->guard;
	g->depth = 0;
	g->may_jump = false;
	armed = g->before;
	g->over = false;
	vm->doomed = vm->broken = true;
	return GUARD_STOPPED;
}

int guard_resume(struct vm *vm, lua_State *co, int nargs, uint64_t limit_us)
{
	struct guard *g = vm->guard;
	if (g->depth) { /* on the time of the one outside */
		int status;
		g->may_jump = false;
		g->depth++;
		status = lua_resume(co, nargs);
		g->depth--;
		return g->over && status != 0 ? GUARD_STOPPED : status;
	}
	enter(g, limit_us);
	g->depth = 1;
	g->may_jump = vm->env != NULL;
	if (_setjmp(g->out))
		return give_up(vm);
	int status = lua_resume(co, nargs);
	g->depth = 0;
	g->may_jump = false;
	armed = g->before;
	return __builtin_expect(g->over, 0) ? leave_stopped(g, status) : status;
}

const char *guard_text(const struct vm *vm)
{
	return vm->guard->text;
}

bool guard_late(const struct vm *vm)
{
	const struct guard *g = vm->guard;
	return g->seen == g->run && g->ticks >= g->limit / 3;
}

void guard_check(lua_State *L)
{
	struct guard *g = armed;
	if (!g || !g->over)
		return;
	note(g, L);
	luaL_error(L, "script exceeded its time limit");
}

void guard_stack(lua_State *L)
{
	const struct guard *g = armed;
	if (g && (size_t)(g->base - (const char *)__builtin_frame_address(0)) > STACK_MOST)
		luaL_error(L, "C stack overflow");
}

/* src/filters/lua/guard.c: processor time of scripts (dependencies.md 6.6). */
#include "base/mem.h"
#include "base/must.h"
#include "filters/lua/lua_int.h"
#include <sys/mman.h>
#include <unistd.h>

bool guard_jit_allowed(void)
{
	static int known;
	if (!known) {
		size_t n = (size_t)sysconf(_SC_PAGESIZE);
		void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		bool ok = p != MAP_FAILED && mprotect(p, n, PROT_READ | PROT_EXEC) == 0;
		if (p != MAP_FAILED)
			munmap(p, n);
		known = ok ? 1 : 2;
	}
	return known == 1;
}

struct guard *guard_new(struct vm *vm)
{
	return NULL;
}

void guard_free(struct guard *g)
{
}

void guard_enter(struct vm *vm, uint64_t limit_us)
{
	vm->depth++;
}

bool guard_leave(struct vm *vm)
{
	vm->depth--;
	return false;
}

void guard_check(lua_State *L)
{
}

/* src/http/names_test.c: every listed name is found in any case, nothing else is; prints the
 * table when it is stale. */
#include "base/must.h"
#include "http/names_int.h"
#include <stdio.h>

/* Same answers from both look-ups, the second with the slack it asks for. */
static enum field_id ask(const char *p, size_t n)
{
	char buf[NAME_ROOM * 2 + 16];
	memset(buf, 'x', sizeof buf);
	memcpy(buf, p, n);
	enum field_id id = name_id(p, n);
	must(name_id_slack(buf, n) == id);
	return id;
}

static int stale(void)
{
	uint8_t want[NAME_SLOTS] = {0};
	bool same = true;
	for (unsigned id = 1; id < FIELD_IDS; id++) {
		unsigned slot = name_slot(name_infos[id].name, name_infos[id].n);
		if (want[slot]) {
			printf("%s and %s share slot %u: choose another odd factor in "
			       "name_slot()\n",
			       name_infos[id].name, name_infos[want[slot]].name, slot);
			return 1;
		}
		want[slot] = (uint8_t)id;
	}
	static const char *const ids[] = {
#define X(id, name, flags) [id] = #id,
		FIELD_NAMES(X)
#undef X
	};
	for (unsigned i = 0; i < NAME_SLOTS; i++)
		same &= name_slots[i] == want[i];
	for (unsigned i = 0; !same && i < NAME_SLOTS; i++)
		if (want[i])
			printf("\t[%u] = %s,\n", i, ids[want[i]]);
	return !same;
}

int main(void)
{
	char buf[64];
	if (stale())
		return 1;
	for (unsigned id = 1; id < FIELD_IDS; id++) {
		size_t n = name_infos[id].n;
		const char *name = name_infos[id].name;
		must(n >= 2 && n == strlen(name) && name_lengths[id] == n);
		must(ask(name, n) == id);
		for (size_t i = 0; i < n; i++)
			must(!(name[i] >= 'A' && name[i] <= 'Z'));
		for (size_t i = 0; i < n; i++) /* what one step of 0x40 takes for a letter is one */
			must(!!(name[i] & 0x40) == (name[i] >= 'a' && name[i] <= 'z'));
		for (size_t i = 0; i < n; i++)
			buf[i] = name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 32) : name[i];
		must(ask(buf, n) == id);
		/* One byte different, in any way: another name or none. */
		for (size_t i = 0; i < n; i++)
			for (unsigned c = 0; c < 256; c++) {
				memcpy(buf, name, n);
				buf[i] = (char)c;
				bool same = strncasecmp(buf, name, n) == 0 && c < 128;
				must((ask(buf, n) == id) == same);
			}
		must(ask(name, n - 1) != id);
		memcpy(buf, name, n);
		buf[n] = 's';
		must(ask(buf, n + 1) != id);
	}
	must(ask("", 0) == FIELD_OTHER && ask("x", 1) == FIELD_OTHER);
	must(name_id("\rost", 4) == FIELD_OTHER);
	return 0;
}

/* src/testverb.h: `postern test SCRIPT CASES.yaml`: cases of a Lua filter, run by the gateway
 * itself between scripted peers. */
#pragma once

/* argv[0] is "test". Exit status: 0 all passed, 1 some failed, 2 they could not be run. */
int testverb(int argc, char **argv);

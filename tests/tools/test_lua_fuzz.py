"""The fuzzer of the Lua API knows every method that scripts have."""
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def methods():
    out = set()
    for path in glob.glob(os.path.join(ROOT, "src", "filters", "lua", "*.c")):
        if path.endswith("_test.c"):
            continue
        with open(path) as f:
            text = f.read()
        for table in re.findall(r"static const luaL_Reg \w+\[\] = \{(.*?)\};|const luaL_Reg \w+\[\] = \{(.*?)\};", text, re.S):
            out |= set(re.findall(r'\{\s*"(\w+)"', "".join(table)))
    with open(os.path.join(ROOT, "src", "filters", "lua", "connection.c")) as f:
        out |= set(re.findall(r"X\((\w+), OBJ_SSL", f.read()))
    return out


def test_every_method_is_in_the_fuzzers_tables():
    found = methods()
    assert len(found) > 60, found
    with open(os.path.join(ROOT, "fuzz", "fuzz_lua.c")) as f:
        fuzzer = f.read()
    missing = sorted(m for m in found if not re.search(r'[" ]%s[ "]' % m, fuzzer))
    assert not missing

"""Every page about the Lua filter has an example, and every example holds."""
import glob
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = sorted(glob.glob(os.path.join(ROOT, "docs", "lua", "*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def examples(page):
    """Pairs of a script and its cases: a block of lua, and the next block when that is yaml with cases."""
    with open(page) as f:
        blocks = FENCE.findall(f.read())
    return [(a[1], b[1]) for a, b in zip(blocks, blocks[1:]) if a[0] == "lua" and b[0] == "yaml" and "cases:" in b[1]]


def names(page):
    return os.path.basename(page)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_examples_of_a_page_hold(binary, tmp_path, page):
    found = examples(page)
    assert found or os.path.basename(page) == "README.md", "a page without an example"
    for i, (script, cases) in enumerate(found):
        lua, yaml = tmp_path / ("%d.lua" % i), tmp_path / ("%d.yaml" % i)
        lua.write_text(script)
        yaml.write_text(cases)
        r = subprocess.run([binary, "test", str(lua), str(yaml)], capture_output=True, text=True, timeout=60)
        assert r.returncode == 0, script + r.stdout + r.stderr


def test_every_method_of_the_handle_has_a_page():
    with open(os.path.join(ROOT, "src", "filters", "lua", "lint.c")) as f:
        listed = re.search(r"handle_methods\[\] = \{(.*?)NULL\}", f.read(), re.S).group(1)
    text = "".join(open(p).read() for p in PAGES)
    missing = [m for m in re.findall(r'"(\w+)"', listed) if m + "(" not in text]
    assert not missing


def test_the_index_names_every_page():
    with open(os.path.join(ROOT, "docs", "lua", "README.md")) as f:
        index = f.read()
    assert [p for p in map(names, PAGES) if p != "README.md" and "(%s)" % p not in index] == []

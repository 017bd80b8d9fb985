"""tools/ratchet must call every difference between a kit's result and the checked-in list an error."""
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "ratchet")

LUA = """
import sys
cases = %r
if "--list" in sys.argv:
    print("\\n".join(cases))
    sys.exit()
if "--isolate" in sys.argv:
    cases = {c: ok or c.endswith("shy") for c, ok in cases.items() if c == sys.argv[-1]}
for c, ok in cases.items():
    if not ok:
        print("FAIL " + c)
bad = sum(not ok for ok in cases.values())
print("%%d passed, %%d failed" %% (len(cases) - bad, bad))
"""
ROBUST = """
import json, sys
cases = %r
if "--only" in sys.argv:
    assert sys.argv[sys.argv.index("--suite") + 1] == "g"
    only = sys.argv[sys.argv.index("--only") + 1]
    cases = {c: ok or c.endswith("shy") for c, ok in cases.items() if only == "^" + c.split("/")[1] + "$"}
rows = [{"suite": c.split("/")[0], "id": c.split("/")[1], "verdict": "pass" if ok else "FAIL"} for c, ok in cases.items()]
json.dump({"rows": rows}, open(sys.argv[sys.argv.index("--json") + 1], "w"))
"""


@pytest.mark.parametrize("kind", ["lua", "robust"])
@pytest.mark.parametrize("cases,listed,code,last", [
    ({"g/a": True, "g/b": True}, [], 0, "2 passed, 0 failed"),
    ({"g/a": True, "g/b": False}, ["g/b"], 0, "1 passed, 0 failed"),
    ({"g/a": True, "g/b": False}, [], 1, "1 passed, 1 failed"),
    ({"g/a": True, "g/b": True}, ["g/b"], 1, "2 passed, 1 failed"),
    ({"g/a": True}, ["g/gone"], 1, "1 passed, 1 failed"),
    ({"g/a": False, "g/b": True}, ["g/b # why"], 1, "1 passed, 2 failed"),
    ({"g/a": True, "g/shy": True}, ["?g/shy # why"], 0, "2 passed, 0 failed"),
    ({"g/a": True, "g/shy": False}, ["?g/shy # why"], 0, "2 passed, 0 failed"),  # passes alone
    ({"g/a": True, "g/b": False}, ["?g/b # why"], 1, "1 passed, 1 failed"),
    ({"g/a": True, "g/shy": False}, [], 1, "1 passed, 1 failed"),
    ({"g/a": True}, ["?g/gone"], 1, "1 passed, 1 failed"),
])
def test_differences_are_errors(tmp_path, kind, cases, listed, code, last):
    (tmp_path / "run.py").write_text((LUA if kind == "lua" else ROBUST) % cases)
    (tmp_path / "list").write_text("# comment\n" + "\n".join(listed) + "\n")
    p = subprocess.run([sys.executable, TOOL, kind, str(tmp_path), str(tmp_path / "list")],
                       capture_output=True, text=True)
    assert p.stdout.splitlines()[-1] == last, p.stdout + p.stderr
    assert p.returncode == code


def test_a_kit_that_dies_is_an_error(tmp_path):
    (tmp_path / "run.py").write_text("import sys; sys.exit(3)")
    for kind in ("lua", "robust"):
        p = subprocess.run([sys.executable, TOOL, kind, str(tmp_path), str(tmp_path / "list")],
                           capture_output=True, text=True)
        assert p.returncode == 1
        assert p.stdout.splitlines()[-1] == "0 passed, 1 failed"


def test_update_writes_what_was_seen(tmp_path):
    (tmp_path / "run.py").write_text(LUA % {"g/a": True, "g/b": False})
    args = [sys.executable, TOOL, "lua", str(tmp_path), str(tmp_path / "list")]
    assert subprocess.run(args + ["--update"], capture_output=True).returncode == 0
    assert "g/b\n" in (tmp_path / "list").read_text()
    (tmp_path / "list").write_text("g/b # why\n?g/a # may\n")
    assert subprocess.run(args + ["--update"], capture_output=True).returncode == 0
    assert "g/b # why\n?g/a # may\n" in (tmp_path / "list").read_text()
    assert subprocess.run(args, capture_output=True).returncode == 0

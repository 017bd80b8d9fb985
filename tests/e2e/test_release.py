"""What only the program as it is shipped can show: its size, its start, its libraries."""
import re
import statistics
import subprocess
import time

import pytest

from rig import ROOT, route, until

pytestmark = pytest.mark.release


def test_it_needs_8_mib_after_the_start(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    with open("/proc/%d/smaps_rollup" % g.process.pid) as f:
        pss = [int(line.split()[1]) for line in f if line.startswith("Pss:")][0]
    assert pss <= 8192, "%d KiB" % pss


def test_it_answers_soon_after_its_start(rig):
    took = []
    for _ in range(5):
        rig.port, rig.admin_port = rig.free_port(), rig.free_port()
        config = rig.bootstrap([route("/", direct_response={"status": 200})])
        begin = time.monotonic()
        g = rig.start(config, wait=False)

        def answered():
            try:
                return g.get("/").status == 200
            except OSError:
                assert g.process.poll() is None, g.log()
                return False
        until(answered, "the first answer")
        took.append(time.monotonic() - begin)
    assert statistics.median(took) < 0.1, took  # 20 ms of it are the goal; the rest is this test's


def test_it_links_what_the_documentation_says(rig):
    out = subprocess.run(["readelf", "-d", rig.binary], capture_output=True, text=True).stdout
    libs = set(re.findall(r"NEEDED.*\[lib([a-zA-Z0-9+_-]+?)(?:-5\.1|-0)?\.so", out))
    known = {"ssl", "crypto", "nghttp2", "cares", "luajit", "yaml", "jansson", "re2", "stdc++", "c", "m", "gcc_s"}
    assert libs <= known, libs - known
    assert {"ssl", "nghttp2", "cares", "yaml", "jansson"} <= libs, libs
    page = open(ROOT + "/docs/dependencies.md").read()
    for name in libs - {"c", "m", "gcc_s", "stdc++", "crypto"}:
        assert name in page.lower().replace("c-ares", "cares"), name


def test_it_is_hardened(rig):
    out = subprocess.run(["readelf", "-hldW", rig.binary], capture_output=True, text=True).stdout
    assert re.search(r"Type:\s+DYN", out), "not position-independent"
    assert "GNU_RELRO" in out and "BIND_NOW" in out or "NOW" in out
    assert re.search(r"GNU_STACK.*RW ", out), "the stack is executable"

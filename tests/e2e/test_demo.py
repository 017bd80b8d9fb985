"""`./dev run` after its build: the four URLs it prints do what they promise, and Ctrl-C ends it."""
import os
import re
import signal
import subprocess
import sys
import urllib.parse

import pytest

import peers
from rig import ROOT, TROUBLE, until


@pytest.fixture
def demo(rig):
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:exitcode=99", UBSAN_OPTIONS="halt_on_error=1")
    log = rig.tmp / "demo.out"
    err = rig.tmp / "demo.err"
    p = subprocess.Popen([sys.executable, os.path.join(ROOT, "examples", "article", "demo.py"), rig.binary],
                         stdin=subprocess.DEVNULL, stdout=open(log, "wb"), stderr=open(err, "wb"), cwd=ROOT, env=env)

    def urls():
        assert p.poll() is None, err.read_text() + log.read_text()
        found = dict((m.group(2), m.group(1)) for m in re.finditer(
            r"^(http://127\.0\.0\.1:\d+/\S*)\s+(hit|fallback|both-miss|override)\b", log.read_text(), re.M))
        return found if len(found) == 4 else None
    try:
        found = until(urls, "four URLs are printed", 30)
        yield p, found
        assert not TROUBLE.search(err.read_text()), err.read_text()
    finally:
        if p.poll() is None:
            p.kill()
        p.wait()
        rig.transcript.add("demo", "printed", log.read_bytes() + err.read_bytes())


def fetch(rig, url, *fields):
    u = urllib.parse.urlsplit(url)
    import socket
    s = socket.create_connection((u.hostname, u.port), 10)
    c = peers.Client(s, "browser", rig.transcript)
    c.tx("GET %s HTTP/1.1\nHost: %s\nConnection: close\n%s\n" % (
        u.path + ("?" + u.query if u.query else ""), u.netloc, "".join(f + "\n" for f in fields)))
    a = c.rx()
    s.close()
    return a


def test_the_four_urls_keep_their_promises(rig, demo):
    p, urls = demo
    ports = {urllib.parse.urlsplit(u).port for u in urls.values()}
    assert len(ports) == 1
    hit = fetch(rig, urls["hit"])
    assert hit.status == 200 and b"new site" in hit.body
    old = fetch(rig, urls["fallback"])
    assert old.status == 200 and b"old site" in old.body
    miss = fetch(rig, urls["both-miss"])
    assert miss.status == 404 and b"new site" in miss.body
    over = fetch(rig, urls["override"])
    assert "?" in urls["override"]
    assert over.status == 200 and b"old site" in over.body
    base = urls["hit"].split("/", 3)
    root = "/".join(base[:3])
    made_up = fetch(rig, root + "/made/up/path-%d" % p.pid)
    assert made_up == miss
    forced = fetch(rig, root + "/made/up?wp=1")
    assert forced.status == 404 and b"old site" in forced.body and forced.body != miss.body
    cookie = fetch(rig, urls["hit"], "Cookie: wp=1")
    assert cookie.status == 200 and b"old site" in cookie.body
    start = fetch(rig, root + "/index.html")
    assert start.status == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_soon(rig, demo, number):
    p, _ = demo
    p.send_signal(number)
    assert p.wait(10) in (0, 130)


def test_it_starts_beside_another_one(rig, demo):
    p, urls = demo
    q = subprocess.Popen([sys.executable, os.path.join(ROOT, "examples", "article", "demo.py"), rig.binary],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True)
    try:
        for line in q.stdout:
            if line.startswith("http://"):
                assert line.split("/")[2] != urls["hit"].split("/")[2]
                break
        else:
            raise AssertionError("no URL was printed")
    finally:
        q.send_signal(signal.SIGINT)
        q.communicate(timeout=10)
        assert q.returncode in (0, 130)


def test_every_example_passes_check(rig):
    import pathlib
    files = sorted(pathlib.Path(ROOT, "examples").rglob("envoy*.yaml"))
    assert files
    for f in files:
        p = subprocess.run([rig.binary, "check", "-c", str(f.relative_to(ROOT))], cwd=ROOT, capture_output=True,
                           text=True, timeout=60)
        assert p.returncode == 0, p.stdout + p.stderr


def test_the_script_is_the_articles(rig):
    import hashlib
    text = open(os.path.join(ROOT, "examples", "article", "article.lua"), "rb").read()
    assert hashlib.sha256(text).hexdigest() == "c05ade1f66849d94bca7fe52e5bc1dfcaff69a7f0178d75041ce0667789c5a2f"

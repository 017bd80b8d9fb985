"""The static filter's bodies: several ranges, clients that leave, files that change, scripts that want all of it."""
import os
import re

import pytest

from rig import access_log, lua, route, static, until

DATA = os.urandom(700000)


@pytest.fixture
def site(rig):
    root = rig.tmp / "site"
    root.mkdir()
    (root / "f.bin").write_bytes(DATA)
    (root / "small.txt").write_bytes(b"0123456789")
    rig.root = root
    return rig


def serve(rig, filters=None, **over):
    return rig.gateway([route("/", direct_response={"status": 503})], (filters or []) + [static(rig.root)], **over)


def descriptors(g):
    n = 0
    for fd in os.listdir("/proc/%d/fd" % g.process.pid):
        try:
            n += os.readlink("/proc/%d/fd/%s" % (g.process.pid, fd)).endswith(("f.bin", "small.txt"))
        except OSError:
            pass
    return n


def test_several_ranges_come_as_parts(site):
    g = serve(site)
    a = g.get("/f.bin", "Range: bytes=0-9, 100000-199999, -5, 9999999-")
    assert a.status == 206
    boundary = re.fullmatch(r"multipart/byteranges; boundary=([0-9a-f]+)", a.headers.get("content-type")).group(1)
    assert a.headers.get("content-range") is None
    assert int(a.headers.get("content-length")) == len(a.body)
    parts = a.body.split(b"--" + boundary.encode())
    assert parts[0] == b"" and parts[-1] == b"--\r\n" and len(parts) == 5
    for part, (first, last) in zip(parts[1:-1], ((0, 9), (100000, 199999), (len(DATA) - 5, len(DATA) - 1))):
        head, body = part.split(b"\r\n\r\n", 1)
        assert b"content-range: bytes %d-%d/%d" % (first, last, len(DATA)) in head
        assert b"content-type: application/octet-stream" in head
        assert body == DATA[first:last + 1] + b"\r\n"
    a = g.get("/f.bin", "Range: bytes=0-9,20-29", method="HEAD")
    assert a == (200, b"") and a.headers.get("content-length") == str(len(DATA))


def test_two_range_fields_are_no_range(site):
    assert serve(site).get("/small.txt", "Range: bytes=0-1", "Range: bytes=4-5") == (200, b"0123456789")


def test_a_client_that_leaves_closes_the_file(site):
    g = serve(site)
    clients = [g.client() for _ in range(5)]
    for c in clients:
        c.get("/f.bin")
        c.rx_head()
    # what the kernel's buffers take is gone already when the file is small; this one is not
    for c in clients:
        c.abort()
    until(lambda: descriptors(g) == 0, "no file is open")
    assert g.get("/small.txt") == (200, b"0123456789")
    assert descriptors(g) == 0


def test_a_body_on_get_is_thrown_away(site):
    c = serve(site).client()
    c.tx("GET /small.txt HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello")
    assert c.rx() == (200, b"0123456789")
    assert c.get("/small.txt").rx() == (200, b"0123456789")


def test_a_file_cut_short_cuts_the_answer(site):
    big = site.root / "big.bin"
    with open(big, "wb") as f:
        f.truncate(64 << 20)
    g = serve(site)
    c = g.client()
    c.get("/big.bin")
    c.rx_head()
    c.take(1000)
    os.truncate(big, 2000)
    got = 1000 + len(c.rest())
    assert got < 64 << 20
    assert g.get("/small.txt") == (200, b"0123456789")


def test_a_script_sees_the_whole_file(site):
    code = """function envoy_on_response(h)
      local b = h:body()
      h:headers():replace("x-length", tostring(b:length()))
      if b:length() < 100 then b:setBytes("changed") end
    end"""
    g = serve(site, [lua(code)])
    a = g.get("/f.bin")
    assert a == (200, DATA)
    assert a.headers.get("x-length") == str(len(DATA))
    assert g.get("/small.txt") == (200, b"changed")


def test_a_root_that_is_a_link_is_followed_when_it_turns(site):
    old, new = site.tmp / "v1", site.tmp / "v2"
    for folder, text in ((old, b"one"), (new, b"two")):
        folder.mkdir()
        (folder / "x.txt").write_bytes(text)
    link = site.tmp / "current"
    os.symlink(old, link)
    g = site.gateway([route("/", direct_response={"status": 503})], [static(link)])
    assert g.get("/x.txt") == (200, b"one")
    os.symlink(new, site.tmp / "next")
    os.rename(site.tmp / "next", link)
    until(lambda: g.get("/x.txt").body == b"two", "the new folder is served")


def test_a_redirect_stays_on_the_site(site):
    (site.root / "evil.example").mkdir()
    g = serve(site)
    a = g.get("//evil.example?x=//y")
    assert a.status == 301 and a.headers.get("location") == "/evil.example/?x=//y"


def test_the_log_tells_what_was_served(site):
    log = site.tmp / "access.log"
    g = serve(site, hcm_over={"access_log": access_log(log, text="%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %BYTES_SENT%\n")})
    g.get("/small.txt")
    g.get("/none")
    g.get("/small.txt", "If-None-Match: *")
    until(lambda: log.exists() and log.read_text().count("\n") == 3, "three lines")
    lines = log.read_text().splitlines()
    assert lines[0] == "200 static_file 10"
    assert lines[1].startswith("404 static_not_found ")
    assert lines[2] == "304 static_not_modified 0"

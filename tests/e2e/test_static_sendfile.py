"""Files that nobody on the way looks at go from the file to the socket: sendfile(2)."""
import errno
import os
import signal

import pytest

from forbid import wrapper
from rig import access_log, lua, route, static, tls_down, until

SIZE = 3 << 20
DATA = os.urandom(SIZE)
LOOKS = "function envoy_on_response(h) for piece in h:bodyChunks() do end end"
PASSES = "function envoy_on_response(h) h:headers():add('x-passed', '1') end"
WHOLE = "function envoy_on_response(h) h:headers():add('x-length', tostring(h:body():length())) end"


@pytest.fixture
def site(rig):
    root = rig.tmp / "site"
    root.mkdir()
    (root / "big.bin").write_bytes(DATA)
    (root / "small.bin").write_bytes(DATA[:80000])
    (root / "small.txt").write_bytes(b"0123456789")
    rig.root = root
    return rig


def serve(rig, filters=None, text=None, **over):
    if text:
        over["hcm_over"] = {"access_log": access_log(rig.tmp / "access.log", text=text + "\n")}
    return rig.gateway([route("/", direct_response={"status": 503})], (filters or []) + [static(rig.root)], **over)


def logged(rig, lines=1):
    log = rig.tmp / "access.log"
    until(lambda: log.exists() and log.read_text().count("\n") >= lines, "%d lines" % lines)
    return log.read_text().splitlines()


def killed_by_big(g):
    """Run without sendfile, on pain of death: where it is used, the process ends."""
    c = g.client()
    c.get("/big.bin")
    c.rest()
    until(lambda: g.process.poll() is not None, "the process is gone")
    g.expected_exit = -signal.SIGSYS
    return g.process.returncode == -signal.SIGSYS


def test_a_plain_answer_is_sent_by_sendfile(site):
    site.binary = wrapper(site.tmp, site.binary, "sendfile", "kill")
    g = serve(site, [lua(PASSES)])
    assert g.get("/small.txt") == (200, b"0123456789")
    assert g.get("/small.bin") == (200, DATA[:80000])
    assert g.get("/big.bin", method="HEAD").headers.get("content-length") == str(SIZE)
    assert g.get("/big.bin", "Range: bytes=100-199") == (206, DATA[100:200])
    a = g.get("/big.bin", "Range: bytes=0-9, 1000000-1999999")
    assert a.status == 206 and DATA[1000000:2000000] in a.body
    assert killed_by_big(g)


@pytest.mark.parametrize("code", (LOOKS, WHOLE))
def test_what_a_script_looks_at_is_read(site, code):
    site.binary = wrapper(site.tmp, site.binary, "sendfile", "kill")
    assert serve(site, [lua(code)]).get("/big.bin") == (200, DATA)


def test_what_is_encrypted_is_read(site, certs):
    site.binary = wrapper(site.tmp, site.binary, "sendfile", "kill")
    g = serve(site, tls=tls_down(certs.pem("a.example"), certs.key("a.example")))
    c = g.client(tls=certs.client())
    c.get("/big.bin", host="a.example")
    assert c.rx() == (200, DATA)


def test_http2_is_read(site):
    site.binary = wrapper(site.tmp, site.binary, "sendfile", "kill")
    g = serve(site)
    c = g.h2()
    assert c.rx(c.request(path="/big.bin")) == (200, DATA)


def test_a_kernel_that_refuses_gets_read_bytes(site):
    site.binary = wrapper(site.tmp, site.binary, "sendfile", errno.EINVAL)
    g = serve(site, text="%RESPONSE_CODE% %BYTES_SENT%")
    c = g.client()
    for _ in range(2):
        c.get("/big.bin")
        assert c.rx() == (200, DATA)
    assert logged(site, 2) == ["200 %d" % SIZE] * 2


def test_downloads_follow_each_other_and_are_counted(site):
    g = serve(site, text="%RESPONSE_CODE% %BYTES_SENT%")
    c = g.client()
    for fields, status, body in (((), 200, DATA), (("Range: bytes=12345-",), 206, DATA[12345:]),
                                 (("Range: bytes=100000-1999999",), 206, DATA[100000:2000000]), ((), 200, DATA)):
        c.get("/big.bin", *fields)
        assert c.rx() == (status, body)
    assert logged(site, 4) == ["200 %d" % SIZE, "206 %d" % (SIZE - 12345), "206 1900000", "200 %d" % SIZE]
    tx = g.stat("http.in.downstream_cx_tx_bytes_total")
    assert tx > 2 * SIZE + SIZE - 12345 + 1900000


def test_requests_in_a_row_are_answered_in_order(site):
    c = serve(site).client()
    for path in ("/big.bin", "/small.txt", "/big.bin"):
        c.get(path)
    assert c.rx() == (200, DATA)
    assert c.rx() == (200, b"0123456789")
    assert c.rx() == (200, DATA)


def test_a_slow_client_gets_all_of_it(site):
    c = serve(site).client()
    c.get("/big.bin")
    c.rx_head()
    got = b""
    while len(got) < SIZE:
        got += c.take(min(70001, SIZE - len(got)))
    assert got == DATA


def test_what_a_client_left_behind_is_not_counted(site):
    with open(site.root / "huge.bin", "wb") as f:
        f.truncate(256 << 20)
    g = serve(site, text="%RESPONSE_FLAGS% %BYTES_SENT%")
    c = g.client()
    c.get("/huge.bin")
    head = c.rx_head()
    tx = "http.in.downstream_cx_tx_bytes_total"
    g.wait_stat(tx, 100000)
    c.abort()
    flags, sent = logged(site)[0].split()
    assert flags == "DC"
    # all that was written, but for the head
    assert g.stat(tx) - 2000 < int(sent) < g.stat(tx), head
    until(lambda: not any("huge.bin" in f for f in open_files(g)), "the file is closed")


def open_files(g):
    out = []
    for fd in os.listdir("/proc/%d/fd" % g.process.pid):
        try:
            out.append(os.readlink("/proc/%d/fd/%s" % (g.process.pid, fd)))
        except OSError:
            pass
    return out


def test_a_file_cut_short_meanwhile_cuts_the_answer(site):
    huge = site.root / "huge.bin"
    with open(huge, "wb") as f:
        f.truncate(256 << 20)
    g = serve(site, text="%RESPONSE_CODE_DETAILS% %BYTES_SENT%")
    c = g.client()
    c.get("/huge.bin")
    c.rx_head()
    g.wait_stat("http.in.downstream_cx_tx_bytes_total", 100000)
    os.truncate(huge, 50000)
    got = len(c.rest())
    details, sent = logged(site)[0].split()
    assert details == "file"
    assert got <= int(sent) < 64 << 20
    assert g.stat("http.in.downstream_cx_tx_bytes_total") - 2000 < int(sent)
    assert not any("huge.bin" in f for f in open_files(g))
    assert g.get("/big.bin") == (200, DATA)


def run_form(rig, fallback):
    return ["run", "--no-supervise", "--static", str(rig.root), "--fallback", "http://127.0.0.1:%d" % fallback.port,
            "--listen", "127.0.0.1:%d" % rig.port, "--admin", "127.0.0.1:%d" % rig.admin_port, "--no-probe"]


def test_the_fallback_sends_the_folders_files_this_way(site):
    site.binary = wrapper(site.tmp, site.binary, "sendfile", "kill")
    o = site.origin("old")
    g = site.start(site.bootstrap(), form=run_form(site, o))
    assert g.get("/small.txt") == (200, b"0123456789")
    assert killed_by_big(g)


def test_a_page_held_for_the_fallback_is_sent_when_that_misses_too(site):
    (site.root / "404.html").write_bytes(DATA)
    o = site.origin("old")
    g = site.start(site.bootstrap(), form=run_form(site, o))
    c = g.client()
    c.get("/none")
    o.answer("GET /none", "404 Not Found", "nothing")
    assert c.rx() == (404, DATA)

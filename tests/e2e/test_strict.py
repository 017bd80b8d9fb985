"""Malformed heads and bodies: one answer, the connection closed, nothing of it ever reaches an origin."""
import pytest

from rig import route

H = b"Host: a\r\n"
BAD = {
    "bare-lf": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare-cr-in-a-value": (b"GET / HTTP/1.1\r\n" + H + b"X: a\rb\r\n\r\n", 400),
    "nul-in-a-value": (b"GET / HTTP/1.1\r\n" + H + b"X: a\0b\r\n\r\n", 400),
    "control-in-a-value": (b"GET / HTTP/1.1\r\n" + H + b"X: a\x01b\r\n\r\n", 400),
    "folded-line": (b"GET / HTTP/1.1\r\n" + H + b"X: a\r\n b\r\n\r\n", 400),
    "blank-before-colon": (b"GET / HTTP/1.1\r\n" + H + b"X : a\r\n\r\n", 400),
    "empty-name": (b"GET / HTTP/1.1\r\n" + H + b": a\r\n\r\n", 400),
    "no-colon": (b"GET / HTTP/1.1\r\n" + H + b"nonsense\r\n\r\n", 400),
    "name-with-bracket": (b"GET / HTTP/1.1\r\n" + H + b"X[0]: a\r\n\r\n", 400),
    "two-blanks-in-the-start-line": (b"GET  / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "blank-in-the-target": (b"GET /a b HTTP/1.1\r\n" + H + b"\r\n", 400),
    "fragment-in-the-target": (b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n", 400),
    "high-byte-in-the-target": (b"GET /\xff HTTP/1.1\r\n" + H + b"\r\n", 400),
    "method-is-no-token": (b"GE(T / HTTP/1.1\r\n" + H + b"\r\n", 400),
    "http-0.9": (b"GET /\r\n\r\n", 400),
    "version-with-two-digits": (b"GET / HTTP/1.10\r\n" + H + b"\r\n", 400),
    "lower-case-version": (b"GET / http/1.1\r\n" + H + b"\r\n", 400),
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two-hosts": (b"GET / HTTP/1.1\r\n" + H + H + b"\r\n", 400),
    "host-with-userinfo": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "host-with-a-port-too-big": (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
    "relative-target": (b"GET a HTTP/1.1\r\n" + H + b"\r\n", 400),
    "length-and-chunked": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two-lengths": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "two-equal-lengths": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "length-list": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "length-with-sign": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +3\r\n\r\nabc", 400),
    "length-overflow": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 18446744073709551617\r\n\r\nabc", 400),
    "length-empty": (b"POST / HTTP/1.1\r\n" + H + b"Content-Length:\r\n\r\n", 400),
    "chunked-twice": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked-not-last": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
    "coding-with-vertical-tab": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "coding-in-1.0": (b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400, 426)),
    "unknown-coding": (b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip\r\n\r\n", (400, 501)),
    "method-too-long": (b"A" * 300 + b" / HTTP/1.1\r\n" + H + b"\r\n", 501),
    "target-too-long": (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n" + H + b"\r\n", 414),
    "too-many-fields": (b"GET / HTTP/1.1\r\n" + H + b"".join(b"X-%d: 1\r\n" % i for i in range(200)) + b"\r\n", 431),
    "name-too-long": (b"GET / HTTP/1.1\r\n" + H + b"X" * 300 + b": 1\r\n\r\n", 431),
    "head-too-long": (b"GET / HTTP/1.1\r\n" + H + b"X: " + b"a" * 70000 + b"\r\n\r\n", 431),
    "tls-on-a-plain-port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "connection-lists-host": (b"GET / HTTP/1.1\r\n" + H + b"Connection: host\r\n\r\n", 400),
}


@pytest.fixture(scope="module")
def shared(request, binary, certs, tmp_path_factory):
    """One gateway for the whole table: after every attack it must still serve."""
    from rig import Rig
    r = Rig(binary, tmp_path_factory.mktemp("strict"), certs)
    r.main = r.origin()
    r.g = r.gateway()
    yield r
    r.finish()


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_malformed_request_gets_one_answer_and_reaches_no_origin(request, shared, name):
    request.node.rig = shared
    raw, status = BAD[name]
    c = shared.g.client()
    c.try_tx(raw)
    c.try_tx(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    c.methods = ["GET"]
    a = c.rx()
    assert a.status in (status if isinstance(status, tuple) else (status,))
    assert a.headers.get("connection") == "close"
    assert c.rest() == b"", "a second answer"
    d = shared.g.client()
    d.get("/alive-" + name)
    shared.main.answer("GET /alive-" + name)
    assert d.rx().status == 200
    d.close()


BAD_CHUNKS = {
    "no-size": b"\r\n\r\n",
    "sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "blank": b" 3\r\nabc\r\n0\r\n\r\n",
    "overflow": b"11111111111111111\r\nabc\r\n0\r\n\r\n",
    "lf-only": b"3\nabc\r\n0\r\n\r\n",
    "no-crlf-after-data": b"3\r\nabcd\r\n0\r\n\r\n",
    "bad-extension": b"3;a=\x01\r\nabc\r\n0\r\n\r\n",
    "endless-extension": b"3;a=" + b"x" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    "bad-trailer": b"3\r\nabc\r\n0\r\nX Y: 1\r\n\r\n",
}


@pytest.mark.parametrize("name", sorted(BAD_CHUNKS))
def test_a_malformed_chunk_never_completes_a_request(rig, name):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    conn = o.accept()
    conn.rx_head("POST /")
    c.try_tx(BAD_CHUNKS[name] + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    a = c.rx()
    assert a.status == 400
    assert a.headers.get("connection") == "close"
    rest = conn.rest()
    assert b"0\r\n\r\n" not in rest, "the origin saw a complete request: %r" % rest
    assert b"smuggled" not in rest
    assert c.rest() == b""


GOOD = {
    "an-unknown-method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", b"BREW / "),
    "one-empty-line-first": (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / "),
    "blanks-round-a-value": (b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", b"GET / "),
    "high-bytes-in-a-value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\r\n\r\n", b"GET / "),
    "what-browsers-send": (b"GET /a\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /a"),
    "leading-zeros": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc", b"POST / "),
    "upper-case-chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", b"POST / "),
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_an_unusual_but_valid_request_passes(rig, name):
    o = rig.origin()
    c = rig.gateway().client()
    raw, starts = GOOD[name]
    c.tx(raw)
    c.methods = ["GET"]
    o.answer(starts.decode())
    assert c.rx().status == 200


def test_http_1_0_is_426_unless_accepted(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.tx("GET / HTTP/1.0\nHost: a\nContent-Type: application/grpc\n\n")
    assert c.rx() == (426, b"Upgrade Required")
    o.untouched()


def test_http_1_0_is_served_and_closed_where_accepted(rig):
    o = rig.origin()
    g = rig.gateway(hcm_over={"http_protocol_options": {
        "accept_http_10": True, "default_host_for_http_10": "fallback.example"}})
    c = g.client()
    c.tx("GET / HTTP/1.0\n\n")
    r = o.rx("GET / HTTP/1.1")
    assert r.headers.get("host") == "fallback.example"
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n")
    a = c.rx()
    assert a == (200, b"ok")
    assert "transfer-encoding" not in a.headers
    c.eof()


def test_an_invalid_head_is_answered_before_it_is_complete(rig):
    rig.origin()
    c = rig.gateway().client()
    c.tx(b"GET / HTTP/1.1\r\nHost: a\r\nX : ")
    assert c.rx().status == 400


def test_underscores_in_names_follow_the_configured_action(rig):
    o = rig.origin()
    for action, status in (("REJECT_REQUEST", 400), ("DROP_HEADER", 200), ("ALLOW", 200)):
        rig.port, rig.admin_port = rig.free_port(), rig.free_port()
        g = rig.gateway(hcm_over={"common_http_protocol_options": {
            "headers_with_underscores_action": action}})
        c = g.client()
        c.tx("GET / HTTP/1.1\nHost: a\nx_y: 1\n\n")
        if status == 200:
            r = o.answer()
            assert ("x_y" in r.headers) == (action == "ALLOW")
        assert c.rx().status == status


def test_paths_are_normalised_before_they_are_matched(rig):
    o = rig.origin()
    g = rig.gateway([route("/admin", direct_response={"status": 403}), route("/", "main")],
                    hcm_over={"normalize_path": True, "merge_slashes": True,
                              "path_with_escaped_slashes_action": "REJECT_REQUEST"})
    for target in ("/admin", "/x/../admin", "/./admin", "//admin", "/%61dmin", "/x/%2e%2e/admin"):
        assert g.get(target).status == 403, target
    assert g.get("/x%2fadmin").status == 400
    assert g.get("/%00").status == 400
    c = g.client()
    c.get("/a/b/../c?x=/../y")
    o.answer("GET /a/c?x=/../y HTTP/1.1")
    assert c.rx().status == 200

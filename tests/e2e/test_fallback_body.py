"""The fallback policy: methods, request bodies, upgrades, interim answers (spec/fallback.md 8, 15)."""
import hashlib
import threading
import time

import pytest

from rig import cluster, route, until
from test_fallback import NOT_FOUND, fallback, hang_up, two

HCM = {"proxy_100_continue": True, "upgrade_configs": [{"upgrade_type": "websocket"}]}


def body_of(n, seed=b"x"):
    block = hashlib.sha256(seed).digest() * 1024
    return (block * (n // len(block) + 1))[:n]


def send(conn, data, pieces=1, pause=0.0):
    """In a thread of its own: the other side may not read at once."""
    def run():
        step = min(max(1, len(data) // pieces), 1 << 18)  # the time limit of sendall is for all it is given
        try:
            for i in range(0, len(data), step):
                conn.sock.sendall(data[i:i + step])
                if pause:
                    time.sleep(pause)
        except OSError:
            pass
    t = threading.Thread(target=run)
    t.start()
    return t


def chunked(data, size=8192):
    out = [b"%x\r\n%s\r\n" % (len(data[i:i + size]), data[i:i + size]) for i in range(0, len(data), size)]
    return b"".join(out) + b"0\r\n\r\n"


def head(method, target, n, how):
    return "%s %s HTTP/1.1\nHost: example.com\n%s\n\n" % (
        method, target, "Content-Length: %d" % n if how == "length" else "Transfer-Encoding: chunked")


# 8: DIRECT

@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
@pytest.mark.parametrize("status", [200, 404])
def test_other_methods_go_to_the_fallback_alone(rig, method, status):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(head(method, "/x", 4, "length") + "body")
    r = wp.rx(method + " /x")
    assert r.body == b"body" and r.headers.get("content-length") == "4"
    wp.tx("HTTP/1.1 %d X\nContent-Length: 2\n\nok" % status)
    assert c.rx() == (status, b"ok")
    static.untouched()


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("n", [0, 1, 65536, 1 << 20])
def test_direct_streams_the_body_with_its_framing(rig, how, n):
    g, static, wp = two(rig)
    c = g.client()
    data = body_of(n)
    c.tx(head("POST", "/x", n, how))
    t = send(c, data if how == "length" else chunked(data), pieces=7)
    r = wp.rx("POST /x")
    t.join()
    assert r.body == data and (r.framing == how or n == 0)
    wp.tx("HTTP/1.1 201 Created\nContent-Length: 0\n\n")
    assert c.rx().status == 201


def test_direct_sends_the_first_bytes_while_the_client_still_sends(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(head("POST", "/x", 10, "length") + "01234")
    wp.rx_head("POST /x")
    assert wp.last.take(5) == b"01234"
    c.tx(b"56789")
    assert wp.last.take(5) == b"56789"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


def test_a_direct_answer_that_comes_early_is_delivered(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(head("POST", "/x", 1 << 20, "length"))
    t = send(c, body_of(1 << 20))
    wp.rx_head("POST /x")
    wp.tx("HTTP/1.1 413 Content Too Large\nContent-Length: 2\n\nno")
    assert c.rx() == (413, b"no")
    t.join()


def test_a_cut_direct_body_is_no_request(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(head("POST", "/x", 10, "length") + "0123")
    wp.rx_head("POST /x")
    assert wp.last.take(4) == b"0123"
    c.abort()
    assert wp.last.rest() == b""


@pytest.mark.parametrize("what,status", [("refuse", 503), ("reset", 503), ("garbage", 502)])
def test_a_direct_request_whose_fallback_fails_is_an_error(rig, what, status):
    static, wp = rig.origin("static"), rig.origin("wp")
    port = rig.free_port() if what == "refuse" else wp.port
    g = rig.gateway([route("/", "static")], [fallback()], clusters=[cluster("static", static.port), cluster("wp", port)])
    c = g.client()
    c.tx(head("POST", "/x", 4, "length") + "body")
    if what != "refuse":
        wp.rx()
        hang_up(wp) if what == "reset" else wp.tx(b"garbage\r\n\r\n")
    assert c.rx().status == status
    static.untouched()
    assert g.stat("fallback.postern.fallback.responses.error.%d" % status) == 1


def test_a_lost_post_is_not_sent_again(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(head("POST", "/1", 1, "length") + "a")
    wp.answer("POST /1")
    assert c.rx().status == 200
    c.tx(head("POST", "/2", 1, "length") + "b")
    wp.rx("POST /2")
    hang_up(wp)
    assert c.rx().status in (502, 503)
    wp.untouched()


@pytest.mark.parametrize("method,rule,first", [("OPTIONS", "PRIMARY_ONLY", "static"), ("GET", "DIRECT", "wp")])
def test_a_method_may_have_its_own_rule(rig, method, rule, first):
    g, static, wp = two(rig, methods={method: rule})
    c = g.client()
    c.tx("%s /x HTTP/1.1\nHost: a\n\n" % method)
    {"static": static, "wp": wp}[first].answer(method, "404 Not Found", "f")
    assert c.rx() == (404, b"f")
    {"static": wp, "wp": static}[first].untouched()


# 8: Expect

def test_expect_is_forwarded_and_the_fallbacks_100_relayed(rig):
    g, static, wp = two(rig, hcm_over=HCM)
    c = g.client()
    c.tx("POST /x HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 4\n\n")
    assert wp.rx_head().headers.get("expect") == "100-continue"
    c.silent(0.2)
    wp.tx("HTTP/1.1 100 Continue\n\n")
    assert c.rx_head().status == 100
    c.tx(b"body")
    assert wp.last.take(4) == b"body"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


def test_a_silent_fallback_does_not_keep_a_client_from_sending(rig):
    g, static, wp = two(rig, hcm_over=HCM)
    c = g.client()
    began = time.monotonic()
    c.tx("POST /x HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 4\n\n")
    wp.rx_head()
    assert c.rx_head().status == 100
    assert 0.9 < time.monotonic() - began < 3
    c.tx(b"body")
    assert wp.last.take(4) == b"body"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


def test_expect_never_reaches_the_primary(rig):
    g, static, wp = two(rig, hcm_over=HCM, other_methods="TRY_PRIMARY")
    c = g.client()
    c.tx("POST /x HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 4\n\n")
    assert c.rx_head().status == 100
    c.tx(b"body")
    r = static.rx("POST /x")
    assert "expect" not in r.headers and r.body == b"body"
    static.tx("HTTP/1.1 405 Nope\nContent-Length: 0\n\n")
    r = wp.rx("POST /x")
    assert "expect" not in r.headers and r.body == b"body"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


@pytest.mark.parametrize("method,more", [("GET", ""), ("HEAD", ""), ("GET", "Content-Length: 0\n")])
def test_an_expect_without_a_body_reaches_neither(rig, method, more):
    g, static, wp = two(rig, hcm_over=HCM)
    c = g.client()
    for _ in range(2):  # the connection stays usable
        c.tx("%s /x HTTP/1.1\nHost: a\nExpect: 100-continue\n%s\n" % (method, more))
        assert "expect" not in static.rx(method + " /x").headers
        static.tx("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n")
        assert "expect" not in wp.rx(method + " /x").headers
        wp.tx("HTTP/1.1 204 Fine\n\n")
        assert c.rx().status == 204


# 8: TRY_PRIMARY

SIZES = [0, 1, 65536, 1 << 20, pytest.param(32 << 20, marks=pytest.mark.release)]  # the last is all that may be kept
# What the primary does with the request, and whether the fallback is asked then.
PRIMARY = {
    "reads it all": (True, "405 No"), "reads it all and has it": (False, "200 OK"), "answers early": (True, "403 No"),
    "answers early and has it": (False, "200 OK"), "answers early and closes": (True, "405 No"), "answers early and resets": (True, "405 No"),
    "closes": (True, None), "closes in mid-body": (True, None), "resets": (True, None), "refuses": (True, None),
}


@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("what", PRIMARY, ids=lambda s: s.replace(" ", "_"))
def test_the_fallback_gets_every_byte_or_is_not_asked(rig, what, n, how, slow):
    asked, status = PRIMARY[what]
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback(other_methods="TRY_PRIMARY", on_primary_failure="FALLBACK")],
                    clusters=[cluster("static", rig.free_port() if what == "refuses" else static.port), cluster("wp", wp.port)])
    c = g.client()
    data = body_of(n)
    c.tx(head("POST", "/x", n, how))
    wire = data if how == "length" else chunked(data, 65536 if n > 65536 else 1000)
    some = len(wire) // 2 if "early" in what or "mid" in what else len(wire)
    first = send(c, wire[:some], pieces=12 if slow else 1, pause=0.003 if slow else 0)
    if "reads" in what:
        assert static.rx("POST /x").body == data
    elif what != "refuses":
        static.rx_head("POST /x")
    if "mid" in what and n > 10:
        assert static.last.take(5)
    if "early" in what:
        first.join() if n < 100000 else None  # as much as it takes in
    if status:
        static.tx("HTTP/1.1 %s\n%sContent-Length: 4\n\nnope" % (status, "Connection: close\n" if "and closes" in what else ""))
    if "closes" in what or "resets" in what:
        hang_up(static, reset="resets" in what)
    rest = None
    if not asked:
        assert c.rx() == (200, b"nope")
        c.close()
    else:
        def go_on():
            first.join()
            step = max(1, (len(wire) - some) // 12) if slow else 1 << 18
            for i in range(some, len(wire), step):
                c.sock.sendall(wire[i:i + step])
                if slow:
                    time.sleep(0.003)
        rest = threading.Thread(target=go_on)
        rest.start()
        r = wp.rx("POST /x")
        assert r.body == data and (r.framing == how or n == 0)
        wp.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
        rest.join()
        assert c.rx() == (200, b"ok")
        if "early" not in what:
            c.get("/next")
            wp.answer("GET /next", "200 OK", "hit") if what == "refuses" else static.answer("GET /next", "200 OK", "hit")
            assert c.rx() == (200, b"hit")
    first.join()
    wp.untouched(0.02)
    assert wp.conns <= 1
    until(lambda: g.stat("fallback.postern.fallback.spooled_bytes") == 0, "nothing is kept")


def test_a_hit_ends_the_keeping(rig):
    g, static, wp = two(rig, other_methods="TRY_PRIMARY")
    c = g.client()
    for n in (10, 1 << 20):
        data = body_of(n)
        c.tx(head("PUT", "/x", n, "length"))
        t = send(c, data)
        assert static.rx("PUT /x").body == data
        t.join()
        static.tx("HTTP/1.1 404 Not Found\nContent-Length: 1\n\nn" if n == 10 else "HTTP/1.1 200 OK\nContent-Length: 1\n\ny")
        if n == 10:
            wp.answer("PUT /x", "404 Not Found", "w")
            a = c.rx()
            assert a == (404, b"n")
        else:
            assert c.rx() == (200, b"y")
    assert g.stat("fallback.postern.fallback.spooled_bytes") == 0


def test_a_length_beyond_the_spool_goes_to_the_fallback_at_once(rig):
    g, static, wp = two(rig, other_methods="TRY_PRIMARY", request_body={"spool_bytes": 100000})
    c = g.client()
    data = body_of(100001)
    c.tx(head("POST", "/x", len(data), "length"))
    t = send(c, data)
    assert wp.rx("POST /x").body == data
    t.join()
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200
    static.untouched()


def test_a_chunked_body_that_outgrows_the_spool_leaves_the_primary(rig):
    g, static, wp = two(rig, other_methods="TRY_PRIMARY", request_body={"spool_bytes": 200000, "directory": str(rig.tmp)})
    c = g.client()
    data = body_of(1 << 20)
    c.tx(head("POST", "/x", 0, "chunked"))
    t = send(c, chunked(data))
    static.rx_head("POST /x")
    p = static.last
    r = wp.rx("POST /x")
    t.join()
    assert r.body == data
    assert b"0\r\n\r\n" not in p.rest()[-5:]  # aborted, never complete
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert c.rx() == (200, b"ok")


def test_a_body_that_outgrows_the_spool_after_the_miss_streams_on(rig):
    g, static, wp = two(rig, other_methods="TRY_PRIMARY", request_body={"memory_bytes": 1000, "spool_bytes": 50000})
    c = g.client()
    data = body_of(1 << 20)
    wire = chunked(data)
    c.tx(head("POST", "/x", 0, "chunked"))
    c.tx(wire[:9000])
    static.rx_head("POST /x")
    static.tx("HTTP/1.1 405 Nope\nContent-Length: 0\n\n")
    t = send(c, wire[9000:])
    r = wp.rx("POST /x")
    t.join()
    assert r.body == data
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


def test_a_primary_that_refuses_leaves_the_body_for_the_fallback(rig):
    wp = rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback(other_methods="TRY_PRIMARY", on_primary_failure="FALLBACK")],
                    clusters=[cluster("static", rig.free_port()), cluster("wp", wp.port)])
    for n in (4, 1 << 20):
        c = g.client()
        data = body_of(n)
        c.tx(head("POST", "/x", n, "length"))
        t = send(c, data)
        assert wp.rx("POST /x").body == data
        t.join()
        wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
        assert c.rx().status == 200


def test_a_cut_body_reaches_no_fallback(rig):
    g, static, wp = two(rig, other_methods="TRY_PRIMARY")
    c = g.client()
    c.tx(head("POST", "/x", 100, "length") + "some")
    static.rx_head()
    c.abort()
    static.last.rest()
    wp.untouched()


def test_the_second_of_two_fallbacks_gets_the_body_too(rig):
    g, static, a, b = two(rig, origins=("a", "b"), other_methods="TRY_PRIMARY")
    c = g.client()
    data = body_of(100000)
    c.tx(head("POST", "/x", len(data), "length"))
    t = send(c, data)
    assert static.rx().body == data
    static.tx("HTTP/1.1 501 Nope\nContent-Length: 0\n\n")
    assert a.rx().body == data
    a.tx("HTTP/1.1 404 Nope\nContent-Length: 0\n\n")
    assert b.rx().body == data
    b.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200
    t.join()


def test_the_primarys_own_error_on_a_write_is_the_last_word_when_the_fallback_is_gone(rig):
    g, static, wp = two(rig, other_methods="TRY_PRIMARY")
    c = g.client()
    c.tx(head("POST", "/x", 4, "length") + "body")
    static.rx()
    static.tx("HTTP/1.1 405 Method Not Allowed\nContent-Length: 9\nETag: \"e\"\n\nnot here\n")
    wp.rx()
    hang_up(wp)
    a = c.rx()
    assert a.body == b"not here\n" and a.status in (404, 405) and a.headers.get("cache-control") == "no-store"


def test_a_get_with_a_body_is_tried_with_it(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(head("GET", "/x", 4, "length") + "body")
    assert static.rx("GET /x").body == b"body"
    static.tx(NOT_FOUND)
    assert wp.rx("GET /x").body == b"body"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


# 15

def test_a_websocket_goes_to_the_fallback_and_both_directions_are_raw(rig):
    g, static, wp = two(rig, hcm_over=HCM)
    c = g.client()
    c.tx("GET /ws HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: x\n\n")
    r = wp.rx_head("GET /ws")
    assert r.headers.get("upgrade").lower() == "websocket"
    wp.tx("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\n")
    assert c.rx_head().status == 101
    c.tx(b"\x01ping")
    assert wp.last.take(5) == b"\x01ping"
    wp.tx(b"\x02pong")
    assert c.take(5) == b"\x02pong"
    active = "http.in.downstream_cx_upgrades_active"
    assert g.stat(active) == 1
    c.close()
    wp.last.close()
    until(lambda: g.stat(active) == 0, "the tunnel to be over")
    static.untouched()


def test_an_upgrade_that_is_not_configured_is_an_ordinary_request(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.tx("GET /x HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
    static.answer("GET /x", "200 OK", "p")
    assert c.rx() == (200, b"p")


def test_a_refused_upgrade_is_delivered(rig):
    g, static, wp = two(rig, hcm_over=HCM)
    c = g.client()
    c.tx("GET /ws HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
    wp.rx_head("GET /ws")
    wp.tx("HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno")
    assert c.rx() == (404, b"no")


def test_interim_answers_never_reach_the_final_one(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx("HTTP/1.1 103 Early Hints\nLink: </p.css>\n\n")
    static.tx(NOT_FOUND)
    wp.rx()
    wp.tx("HTTP/1.1 103 Early Hints\nLink: </w.css>\n\n")
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    a = c.rx()
    assert a == (200, b"ok") and "link" not in a.headers

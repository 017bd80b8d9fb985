"""The fallback policy with HTTP/2 clients, plain and over TLS (spec/fallback.md 16)."""
import pytest

from rig import TRAILERS, cluster, route, tls_down, until
from test_fallback import NOT_FOUND, fallback, hang_up, override
from test_fallback_body import HCM, body_of
from test_fallback_faults import nothing_left


@pytest.fixture(params=["plain", "tls"])
def h2(request, rig, certs):
    """Gives a function: (policy's fields) -> (gateway, an HTTP/2 client's maker, static, wp)."""
    tls = request.param == "tls"

    def make(**over):
        static, wp = rig.origin("static"), rig.origin("wp")
        over.setdefault("override", override())
        g = rig.gateway([route("/", {"cluster": "static", "timeout": "0s"})], [fallback(**over)], hcm_over=HCM,
                        clusters=[cluster("static", static.port, **TRAILERS), cluster("wp", wp.port, **TRAILERS)],
                        tls=tls_down(certs.pem("a.example"), certs.key("a.example")) if tls else None)

        def client(**more):
            h = g.h2(tls=certs.client(alpn=["h2"]) if tls else None, **more)
            h.scheme = "https" if tls else "http"
            return h
        return g, client, static, wp
    return make


def test_hit_miss_and_both_miss(h2):
    g, client, static, wp = h2()
    h = client()
    for i in range(3):
        sid = h.request("GET", "/hit", scheme=h.scheme)
        static.rx("GET /hit")
        static.tx("HTTP/1.1 200 OK\nETag: \"p\"\nContent-Length: 3\n\nhit")
        a = h.rx(sid)
        assert a == (200, b"hit") and a.headers.get("etag") == '"p"'
        sid = h.request("GET", "/old?a=1", ("cookie", "a=b"), ("cookie", "c=d"), scheme=h.scheme)
        static.rx("GET /old?a=1")
        static.tx(NOT_FOUND)
        r = wp.rx("GET /old?a=1")
        assert r.headers.get("cookie") == "a=b; c=d" and r.headers.get("x-forwarded-proto") == h.scheme
        assert r.headers.get("host") == "example.com"
        wp.tx("HTTP/1.1 200 OK\nSet-Cookie: a=1\nSet-Cookie: b=2\nConnection: keep-alive\nContent-Length: 3\n\nold")
        a = h.rx(sid)
        assert a == (200, b"old") and a.headers.all("set-cookie") == ["a=1", "b=2"]
        assert "etag" not in a.headers and "connection" not in a.headers
        sid = h.request("GET", "/gone", scheme=h.scheme)
        static.rx("GET /gone")
        static.tx(NOT_FOUND)
        wp.answer("GET /gone", "404 Not Found", "no")
        a = h.rx(sid)
        assert a == (404, b"not here\n") and a.headers.get("etag") == '"p404"'
    assert static.conns <= 2 and wp.conns <= 2


def test_head_has_a_length_and_no_body(h2):
    g, client, static, wp = h2()
    h = client()
    sid = h.request("HEAD", "/big", scheme=h.scheme)
    static.rx("HEAD /big")
    static.tx("HTTP/1.1 404 Not Found\nContent-Length: 120\n\n")
    wp.rx("HEAD /big")
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 3145728\n\n")
    a = h.rx(sid)
    assert a == (200, b"") and a.headers.get("content-length") == "3145728"


def test_override_by_query_and_by_cookie_crumbs(h2):
    g, client, static, wp = h2()
    h = client()
    for target, fields in (("/p?wp=1", []), ("/p", [("cookie", "a=b"), ("cookie", "wp=1"), ("cookie", "c=d")])):
        sid = h.request("GET", target, *fields, scheme=h.scheme)
        wp.answer("GET " + target, "404 Not Found", "wp")
        a = h.rx(sid)
        assert a == (404, b"wp") and a.headers.get("cache-control") == ("private" if fields else None)
    static.untouched()


@pytest.mark.parametrize("n", [0, 1, 65536, 1 << 20])
@pytest.mark.parametrize("length", [True, False])
def test_a_body_goes_to_the_fallback_as_it_comes(h2, n, length):
    g, client, static, wp = h2()
    h, data = client(), body_of(n)
    sid = h.request("POST", "/x", *([("content-length", str(n))] if length else []), end=False, scheme=h.scheme)
    if n:
        h.send(sid, data[:1000])
        wp.rx_head("POST /x")
    import threading
    t = threading.Thread(target=lambda: (h.send(sid, data[1000:], end=True)))
    t.start()
    if n == 0:
        wp.rx_head("POST /x")
    headers = wp.last
    got = b""
    if length and n:
        got = headers.take(n)
    elif n:
        while True:
            piece = headers.chunk()
            if not piece:
                break
            got += piece
        headers.trailers()
    t.join()
    assert got == data
    wp.tx("HTTP/1.1 201 Created\nContent-Length: 0\n\n")
    assert h.rx(sid).status == 201
    static.untouched()


def test_a_body_is_kept_for_the_fallback(h2):
    g, client, static, wp = h2(other_methods="TRY_PRIMARY", request_body={"memory_bytes": 1000})
    h, data = client(), body_of(50000)
    for early in (False, True):
        sid = h.request("POST", "/x", end=False, scheme=h.scheme)
        h.send(sid, data[:20000])
        if early:
            static.rx_head("POST /x")
            static.tx("HTTP/1.1 405 No\nContent-Length: 2\n\nno")
            h.send(sid, data[20000:], end=True)
        else:
            h.send(sid, data[20000:], end=True)
            assert static.rx("POST /x").body == data
            static.tx("HTTP/1.1 405 No\nContent-Length: 2\n\nno")
        assert wp.rx("POST /x").body == data
        wp.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
        assert h.rx(sid) == (200, b"ok")
        if early:
            static.open.clear()
    nothing_left(g)


@pytest.mark.parametrize("methods", ["DIRECT", "TRY_PRIMARY"])
def test_trailers_both_ways(h2, methods):
    g, client, static, wp = h2(other_methods=methods)
    h = client()
    sid = h.request("POST", "/x", ("te", "trailers"), end=False, scheme=h.scheme)
    h.send(sid, b"body")
    h.trailers(sid, ("x-sum", "42"))
    if methods == "TRY_PRIMARY":
        r = static.rx("POST /x")
        assert r.body == b"body" and [(n.lower(), v) for n, v in r.trailers] == [("x-sum", "42")]
        static.tx("HTTP/1.1 405 No\nTransfer-Encoding: chunked\n\n2\r\nno\r\n0\r\nX-P: 1\r\n\r\n")
    r = wp.rx("POST /x")
    assert r.body == b"body" and [(n.lower(), v) for n, v in r.trailers] == [("x-sum", "42")]
    wp.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: x-took\n\n2\r\nok\r\n0\r\nX-Took: 1\r\n\r\n")
    a = h.rx(sid)
    assert a == (200, b"ok") and a.trailers == [("x-took", "1")]


def test_the_held_pages_trailers_pass(h2):
    g, client, static, wp = h2()
    h = client()
    sid = h.request("GET", "/x", ("te", "trailers"), scheme=h.scheme)
    static.rx("GET /x")
    static.tx("HTTP/1.1 404 No\nTransfer-Encoding: chunked\n\n4\r\npage\r\n0\r\nX-P: 1\r\n\r\n")
    wp.rx("GET /x")
    wp.tx("HTTP/1.1 404 No\nTransfer-Encoding: chunked\n\n2\r\nno\r\n0\r\nX-W: 1\r\n\r\n")
    a = h.rx(sid)
    assert a == (404, b"page") and a.trailers == [("x-p", "1")]


def test_many_streams_at_once_one_of_them_reset(h2):
    g, client, static, wp = h2()
    h = client()
    n = 30
    sids = {"/%d" % i: h.request("GET", "/%d" % i, scheme=h.scheme) for i in range(n)}
    conns = {}
    for _ in range(n):
        target = static.rx("GET /").target
        conns[target] = static.last
    for target, conn in conns.items():
        conn.tx("HTTP/1.1 404 Not Found\nContent-Length: 70000\n\n" + "p" * 100)  # held, and not whole
    asked = {}
    for _ in range(n):
        target = wp.rx("GET /").target
        asked[target] = wp.last
    h.reset(sids["/7"])
    conns["/7"].rest()
    assert asked["/7"].rest() == b""
    for conn in (conns["/7"], asked["/7"]):
        for o in (static, wp):
            if conn in o.open:
                o.open.remove(conn)
    for i in reversed(range(n)):
        target = "/%d" % i
        if i == 7:
            continue
        if i % 3 == 0:
            asked[target].tx("HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno")
            conns[target].tx("p" * 69900)
        elif i % 3 == 1:
            asked[target].tx("HTTP/1.1 200 OK\nContent-Length: %d\n\n%s" % (len(target), target))
        else:  # breaks off
            asked[target].tx("HTTP/1.1 200 OK\nContent-Length: 100\n\nhalf")
            asked[target].abort()
            wp.open.remove(asked[target])
    for i in range(n):
        target = "/%d" % i
        if i == 7:
            continue
        if i % 3 == 0:
            assert h.rx(sids[target]) == (404, b"p" * 70000)
        elif i % 3 == 1:
            assert h.rx(sids[target]) == (200, target.encode())
        else:
            s = h.wait(sids[target], lambda s: s["end"] or s["reset"] is not None or (s["head"] and s["head"].get(":status") == "404"), "end")
            if s["reset"] is None:  # the reset overtook the head: nothing was known of the answer
                conns[target].tx("p" * 69900)
                a = h.rx(sids[target])
                assert a == (404, b"p" * 70000) and a.headers.get("cache-control") == "no-store"
    nothing_left(g)


def test_a_stream_that_is_not_read_stops_the_fallback_and_nobody_else(h2):
    g, client, static, wp = h2()
    h = client(auto_credit=False)
    slow = h.request("GET", "/slow", scheme=h.scheme)
    static.answer("GET /slow", "404 Not Found", "p")
    wp.rx("GET /slow")
    f, total = wp.last, 8 << 20
    f.tx(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    f.sock.settimeout(0.3)
    sent = 0
    try:
        while sent < total:
            sent += f.sock.send(b"w" * 65536)
    except OSError:
        pass  # the kernel's buffers are full: nobody reads
    assert sent < total
    assert len(h.data(slow, 60000)) <= 65535  # the connection's window
    h.credit(1 << 20)
    other = h.request("GET", "/other", scheme=h.scheme)
    static.answer("GET /other", "200 OK", "quick")
    assert h.rx(other) == (200, b"quick")
    h.reset(slow)
    f.rest()
    wp.open.remove(f)
    nothing_left(g)


def test_an_expecting_client_hears_100_from_the_fallback(h2):
    g, client, static, wp = h2()
    h = client()
    sid = h.request("POST", "/x", ("expect", "100-continue"), ("content-length", "4"), end=False, scheme=h.scheme)
    assert wp.rx_head("POST /x").headers.get("expect") == "100-continue"
    wp.tx("HTTP/1.1 100 Continue\n\n")
    s = h.wait(sid, lambda s: s["interim"], "100")
    assert s["interim"][0].get(":status") == "100"
    h.send(sid, b"body", end=True)
    assert wp.last.take(4) == b"body"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert h.rx(sid).status == 200


def test_a_degraded_answer(h2):
    g, client, static, wp = h2()
    h = client()
    sid = h.request("GET", "/x", scheme=h.scheme)
    static.rx()
    static.tx(NOT_FOUND)
    wp.rx()
    hang_up(wp)
    a = h.rx(sid)
    assert a == (404, b"not here\n") and a.headers.get("cache-control") == "no-store" and "etag" not in a.headers
    until(lambda: g.stat("fallback.postern.fallback.responses.degraded.404") == 1, "counted")

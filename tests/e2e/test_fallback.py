"""The fallback policy between two scripted origins (spec/fallback.md; section numbers in the names of the groups)."""
import threading

import pytest

from rig import T, cluster, lua, route

NOT_FOUND = "HTTP/1.1 404 Not Found\nContent-Length: 9\nETag: \"p404\"\nLast-Modified: Tue, 24 Nov 2026 08:00:00 GMT\n\nnot here\n"


def fallback(*clusters, name="postern.fallback", **over):
    origins = [dict({"cluster": c} if isinstance(c, str) else c) for c in clusters or ("wp",)]
    return {"name": name, "typed_config": dict(
        {"@type": T + "postern.filters.http.fallback.v1.Fallback", "fallbacks": origins}, **over)}


def hang_up(origin, reset=True):
    """The connection of the last request ends."""
    origin.open.remove(origin.last)
    origin.last.abort() if reset else origin.last.close()


def override():
    return [{"query": {"name": "wp", "exact": "1"}}, {"cookie": {"name": "wp", "exact": "1"}}]


def two(rig, before=(), hcm_over=None, routes=None, origins=("wp",), **over):
    """(gateway, static, wordpress, …)"""
    static = rig.origin("static")
    others = [rig.origin(n) for n in origins]
    over.setdefault("override", override())
    g = rig.gateway(routes or [route("/", {"cluster": "static", "timeout": "0s"})],
                    list(before) + [fallback(*origins, **over)], hcm_over=hcm_over)
    return (g, static, *others)


# 2, 3: hit and miss

def test_a_hit_does_not_touch_the_fallback(rig):
    g, static, wp = two(rig)
    c = g.client()
    for status in ("200 OK", "302 Found", "304 Not Modified", "206 Partial Content", "412 Precondition Failed",
                   "416 Range Not Satisfiable", "403 Forbidden", "410 Gone", "500 Internal Server Error"):
        c.get("/page")
        static.rx("GET /page")
        static.tx("HTTP/1.1 %s\n%sX-P: 1\n\n" % (status, "" if status.startswith("304") else "Content-Length: 0\n"))
        a = c.rx()
        assert a.status == int(status[:3]) and a.headers.get("x-p") == "1"
    wp.untouched()
    assert static.conns == 1


@pytest.mark.parametrize("status", ["200 OK", "301 Moved Permanently", "302 Found", "206 Partial Content", "400 Bad Request",
                                    "401 Unauthorized", "403 Forbidden", "410 Gone", "416 Range Not Satisfiable",
                                    "500 Internal Server Error", "503 Service Unavailable"])
def test_on_a_miss_whatever_the_fallback_says_wins_but_its_404(rig, status):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/old", "Accept: text/html", "Accept-Language: de", "Accept-Language: en", "Cookie: a=b")
    p = static.rx("GET /old")
    static.tx(NOT_FOUND)
    f = wp.rx("GET /old")
    wp.tx("HTTP/1.1 %s\nContent-Length: 3\nSet-Cookie: a=1\nSet-Cookie: b=2\nRetry-After: 7\nLocation: /old/\n\nold" % status)
    a = c.rx()
    assert a == (int(status[:3]), b"old")
    assert a.headers.all("set-cookie") == ["a=1", "b=2"]
    assert a.headers.get("location") == "/old/"
    for name in ("etag", "last-modified"):
        assert name not in a.headers
    assert a.headers.get("content-length") == "3"
    for name in ("host", "accept", "x-request-id", "x-forwarded-proto", "cookie"):
        assert p.headers.get(name) == f.headers.get(name)
    assert f.headers.all("accept-language") == ["de", "en"]
    assert f.headers.get("x-forwarded-host") == "example.com"
    assert "x-envoy-expected-rq-timeout-ms" not in f.headers


def test_a_304_of_the_fallback_wins(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/old", 'If-None-Match: "w"', "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT", "Range: bytes=0-1", 'If-Range: "w"')
    for o, answer in ((static, NOT_FOUND), (wp, "HTTP/1.1 304 Not Modified\nETag: \"w\"\n\n")):
        r = o.rx("GET /old")
        assert r.headers.get("if-none-match") == '"w"' and "if-modified-since" in r.headers
        assert r.headers.get("range") == "bytes=0-1" and r.headers.get("if-range") == '"w"'
        o.tx(answer)
    a = c.rx()
    assert a.status == 304 and a.headers.get("etag") == '"w"'


def test_the_fallback_is_asked_as_soon_as_the_head_is_there(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/old")
    static.rx("GET /old")
    static.tx("HTTP/1.1 404 Not Found\nContent-Length: 1000000\n\nsome")  # the rest never comes
    wp.rx("GET /old")
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 4\n\nbody")
    assert c.rx() == (200, b"body")


# 4: both miss

@pytest.mark.parametrize("size", [0, 9, 70000, 4 << 20])
def test_both_miss_is_the_held_page_whole(rig, size):
    g, static, wp = two(rig)
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    c = g.client()
    c.get("/gone", 'If-None-Match: "p404"')
    static.rx("GET /gone")
    static.tx(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\nETag: \"p404\"\r\nX-P: 1\r\n\r\n" % size + body[:65536])
    wp.rx("GET /gone")
    wp.tx("HTTP/1.1 404 Not Found\nContent-Length: 2\nX-W: 1\nSet-Cookie: a=b\nETag: \"w\"\n\nno")
    static.tx(body[65536:])
    a = c.rx()
    assert a == (404, body)
    assert a.headers.get("etag") == '"p404"' and a.headers.get("x-p") == "1"
    assert "x-w" not in a.headers and "set-cookie" not in a.headers


@pytest.mark.parametrize("over", [{"hold_bytes": 0}, {"hold_bytes": 100}, {"hold_total_bytes": 10}, {"hold_bytes": 1000, "drain_bytes": 0}],
                         ids=lambda o: "-".join(o))
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_however_little_is_held_the_page_is_whole(rig, over, framing):
    g, static, wp = two(rig, **over)
    page = bytes(range(256)) * 1000
    c = g.client()
    for i in range(3):
        c.get("/gone%d" % i)
        static.rx("GET /gone")
        if framing == "length":
            wire = b"Content-Length: %d\r\n\r\n" % len(page) + page
        else:
            wire = b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"3e8\r\n" + page[k:k + 1000] + b"\r\n" for k in range(0, len(page), 1000)) + b"0\r\n\r\n"
        t = threading.Thread(target=static.last.sock.sendall, args=(b"HTTP/1.1 404 Not Found\r\n" + wire,))
        t.start()
        wp.rx("GET /gone")
        held = g.stat("fallback.postern.fallback.held_bytes")
        assert held <= over.get("hold_total_bytes", over.get("hold_bytes", 65536))
        wp.tx("HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno")
        assert c.rx() == (404, page)
        t.join()
        assert g.stat("fallback.postern.fallback.held_bytes") == 0


def test_forty_both_misses_cost_two_connections_to_each(rig):
    g, static, wp = two(rig)
    c = g.client()
    for i in range(40):
        c.get("/gone%d" % i)
        static.rx("GET /gone%d" % i)
        static.tx(b"HTTP/1.1 404 Not Found\r\nContent-Length: 20000\r\n\r\n" + b"p" * 20000)
        wp.rx("GET /gone%d" % i)
        page = b"".join(b"1000\r\n" + b"w" * 4096 + b"\r\n" for _ in range(10))
        wp.tx(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n" + page + b"0\r\n\r\n")
        assert c.rx() == (404, b"p" * 20000)
    assert static.conns <= 2 and wp.conns <= 2, (static.conns, wp.conns)


def test_forty_misses_cost_two_connections_to_each(rig):
    g, static, wp = two(rig)
    c = g.client()
    for i in range(40):
        c.get("/old%d" % i)
        static.rx()
        static.tx(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n" + b"p" * 100000)
        wp.answer("GET /old%d" % i, "200 OK", "w")
        assert c.rx() == (200, b"w")
    assert static.conns <= 2 and wp.conns <= 2, (static.conns, wp.conns)


def test_a_loser_of_unknown_size_is_drained_or_dropped_in_time(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/old")
    static.rx()
    static.tx("HTTP/1.1 404 Not Found\nTransfer-Encoding: chunked\n\n4\r\npage\r\n")
    held = static.last
    wp.answer("GET", "200 OK", "w")
    assert c.rx() == (200, b"w")
    held.eof()  # after 250 ms
    g.wait_stat("fallback.postern.fallback.losers.closed", 1)


# 5: HEAD

def test_head_is_asked_of_both_and_keeps_the_length(rig):
    g, static, wp = two(rig)
    c = g.client()
    for fate in ("wp", "static"):
        c.tx("HEAD /big HTTP/1.1\nHost: example.com\n\n")
        static.rx("HEAD /big")
        static.tx("HTTP/1.1 404 Not Found\nContent-Length: 120\n\n")
        wp.rx("HEAD /big")
        wp.tx("HTTP/1.1 %s\nContent-Length: 3145728\n\n" % ("200 OK" if fate == "wp" else "404 Not Found"))
        a = c.rx()
        assert a.status == (200 if fate == "wp" else 404)
        assert a.headers.get("content-length") == ("3145728" if fate == "wp" else "120")
    assert static.conns == 1 and wp.conns == 1


def test_ignore_if_modified_since_keeps_it_from_the_primary_only(rig):
    g, static, wp = two(rig, ignore_if_modified_since=True)
    c = g.client()
    c.get("/old", "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT")
    assert "if-modified-since" not in static.rx("GET /old").headers
    static.tx(NOT_FOUND)
    assert "if-modified-since" in wp.rx("GET /old").headers
    wp.tx("HTTP/1.1 304 Not Modified\n\n")
    assert c.rx().status == 304
    c.get("/old", "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT", 'If-None-Match: "x"')
    assert "if-modified-since" in static.rx("GET /old").headers
    static.tx("HTTP/1.1 304 Not Modified\n\n")
    assert c.rx().status == 304


# 12: override

@pytest.mark.parametrize("target,fields", [
    ("/p?wp=1", []), ("/p?a=b&wp=1", []), ("/p?wp=0&wp=1", []), ("/p?%77p=%31", []),
    ("/p", ["Cookie: wp=1"]), ("/p", ["Cookie: a=b; wp=1; c=d"]), ("/p", ["Cookie: a=b", "Cookie: c=d;wp=1"])])
def test_the_override_asks_the_fallback_alone(rig, target, fields):
    g, static, wp = two(rig)
    c = g.client()
    for status in ("200 OK", "404 Not Found"):
        c.get(target, *fields)
        wp.rx("GET " + target)
        wp.tx("HTTP/1.1 %s\nContent-Length: 2\nCache-Control: public, max-age=60\n\nwp" % status)
        a = c.rx()
        assert a == (int(status[:3]), b"wp")
        want = "private, max-age=60" if fields else "public, max-age=60"
        assert a.headers.get("cache-control") == want
    static.untouched()


@pytest.mark.parametrize("target,fields", [
    ("/p?xwp=1", []), ("/p?wp=10", []), ("/p?a=wp=1", []), ("/p?wp=+1", []), ("/p?wp", []), ("/p?wp=%2B1", []),
    ("/p", ["Cookie: xwp=1"]), ("/p", ["Cookie: a=wp=1"]), ("/p", ["Cookie: wp=10"]), ("/p", ["X-Cookie: wp=1"])])
def test_what_only_looks_like_the_override_is_none(rig, target, fields):
    g, static, wp = two(rig)
    c = g.client()
    c.get(target, *fields)
    static.answer("GET " + target, "200 OK", "static")
    assert c.rx() == (200, b"static")
    wp.untouched()


def test_override_kinds(rig):
    g, static, wp = two(rig, override=[
        {"header": {"name": "x-side", "prefix": "old"}}, {"query": {"name": "any", "present": True}},
        {"cookie": {"name": "re", "safe_regex": {"regex": "a+"}}}])
    c = g.client()
    for target, field in (("/a", "X-Side: older"), ("/a?any", "A: b"), ("/a?any=3", "A: b"), ("/a", "Cookie: re=aaa")):
        c.get(target, field)
        wp.answer("GET /a", "200 OK", "w")
        assert c.rx() == (200, b"w")
    for target, field in (("/a", "X-Side: new"), ("/a?many=1", "A: b"), ("/a", "Cookie: re=aab")):
        c.get(target, field)
        static.answer("GET /a", "200 OK", "s")
        assert c.rx() == (200, b"s")


@pytest.mark.parametrize("had,want", [(None, "private"), ("no-store", "no-store"), ("private, max-age=3", "private, max-age=3"),
                                      ("max-age=3", "private, max-age=3")])
def test_an_answer_chosen_by_a_cookie_is_private(rig, had, want):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/p", "Cookie: wp=1")
    wp.rx("GET /p")
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 2\n%s\nwp" % ("Cache-Control: %s\n" % had if had else ""))
    assert c.rx().headers.get("cache-control") == want


# 13: streaming

def test_the_fallbacks_page_streams(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/old")
    static.answer("GET /old", "404 Not Found", "nope")
    wp.rx("GET /old")
    wp.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n")
    assert c.rx_head().status == 200
    for part in (b"one", b"two"):
        wp.tx(b"3\r\n" + part + b"\r\n")
        assert c.chunk() == part
    wp.tx(b"0\r\n\r\n")
    assert c.chunk() == b""


def test_a_large_page_of_the_fallback_arrives_whole(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/old")
    static.answer("GET /old", "404 Not Found", "nope")
    wp.rx("GET /old")
    body = bytes(range(256)) * 40960  # 10 MB
    wp.tx(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    t = threading.Thread(target=wp.last.sock.sendall, args=(body,))
    t.start()
    a = c.rx()
    t.join()
    assert a.status == 200 and a.body == body


def test_a_fallback_that_breaks_off_is_visible(rig):
    g, static, wp = two(rig)
    for head, some in (("Content-Length: 100", b"half"), ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n")):
        c = g.client()
        c.get("/old")
        static.answer("GET /old", "404 Not Found", "nope")
        wp.rx("GET /old")
        wp.tx(("HTTP/1.1 200 OK\n%s\n\n" % head))
        wp.tx(some)
        assert c.rx_head().status == 200
        c.until(b"half")
        hang_up(wp)
        assert b"0\r\n\r\n" not in c.rest()


def test_a_client_that_leaves_ends_both_requests(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/old")
    static.rx("GET /old")
    p = static.last
    static.tx("HTTP/1.1 404 Not Found\nContent-Length: 100\n\nsome")
    wp.rx("GET /old")
    f = wp.last
    c.abort()
    p.rest()
    f.rest()


# 14: faults

def test_a_primary_that_refuses_is_a_503_at_once(rig):
    wp = rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback()], clusters=[cluster("static", rig.free_port()), cluster("wp", wp.port)])
    assert g.get("/x").status == 503
    wp.untouched()


@pytest.mark.parametrize("what,status", [("garbage", 502), ("reset", 503)])
def test_a_primary_that_fails_is_told_as_the_router_does(rig, what, status):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx(b"garbage\r\n\r\n") if what == "garbage" else hang_up(static)
    assert c.rx().status == status
    wp.untouched()


@pytest.mark.parametrize("wp_says,status", [("200 OK", 200), ("404 Not Found", 503), (None, 503)])
def test_on_primary_failure_the_fallback_may_help(rig, wp_says, status):
    wp = rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback(on_primary_failure="FALLBACK")],
                    clusters=[cluster("static", rig.free_port()), cluster("wp", wp.port)])
    c = g.client()
    c.get("/x")
    wp.rx("GET /x")
    if wp_says:
        wp.tx("HTTP/1.1 %s\nContent-Length: 2\n\nwp" % wp_says)
    else:
        hang_up(wp)
    a = c.rx()
    assert a.status == status
    assert (a.body == b"wp") == (status == 200)


def degraded(a):
    assert a == (404, b"not here\n")
    assert a.headers.get("cache-control") == "no-store"
    assert "etag" not in a.headers and "last-modified" not in a.headers


@pytest.mark.parametrize("what", ["reset", "close", "garbage", "framing"])
def test_a_fallback_that_fails_degrades_to_the_held_page(rig, what):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx(NOT_FOUND)
    wp.rx()
    if what == "reset":
        hang_up(wp)
    elif what == "close":
        hang_up(wp, reset=False)  # a GET lost on a fresh connection is not sent again
    elif what == "garbage":
        wp.tx(b"SSH-2.0-OpenSSH\r\n\r\n")
    else:
        wp.tx(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
    degraded(c.rx())


def test_a_fallback_that_refuses_degrades(rig):
    static = rig.origin("static")
    g = rig.gateway([route("/", "static")], [fallback()], clusters=[cluster("static", static.port), cluster("wp", rig.free_port())])
    c = g.client()
    for _ in range(2):
        c.get("/x")
        static.rx()
        static.tx(NOT_FOUND)
        degraded(c.rx())


def test_a_silent_fallback_degrades_after_header_timeout_and_long_bodies_live_on(rig):
    g, static, wp = two(rig)
    g.stop()
    g = rig.gateway([route("/", "static")], [fallback({"cluster": "wp", "header_timeout": "0.3s"})])
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx(NOT_FOUND)
    wp.rx()
    degraded(c.rx())
    c.get("/x")
    static.rx()
    static.tx(NOT_FOUND)
    wp.rx()
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 4\n\nlo")
    c.until(b"\r\n\r\nlo")
    c.silent(0.5)
    wp.tx(b"ng")
    assert c.take(2) == b"ng"


def test_degraded_status_and_errors_are_configurable(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback(degraded_status=503, retry_after="30s")])
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx(NOT_FOUND)
    wp.rx()
    hang_up(wp)
    a = c.rx()
    assert a == (503, b"not here\n")
    assert a.headers.get("retry-after") == "30" and a.headers.get("cache-control") == "no-store"
    assert a.reason == "Service Unavailable"
    g.stop()
    g = rig.gateway([route("/", "static")], [fallback(on_fallback_failure="ERROR")])
    for what, status in (("reset", 503), ("garbage", 502)):
        c = g.client()
        c.get("/x")
        static.rx()
        static.tx(NOT_FOUND)
        wp.rx()
        hang_up(wp) if what == "reset" else wp.tx(b"garbage\r\n\r\n")
        assert c.rx().status == status


def test_a_held_page_that_breaks_off_does_not_matter_when_the_fallback_has_one(rig):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx("HTTP/1.1 404 Not Found\nContent-Length: 100\n\nhalf")
    wp.rx()
    hang_up(static)
    g.wait_stat("cluster.static.upstream_cx_destroy", 1)
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert c.rx() == (200, b"ok")


@pytest.mark.parametrize("head,some", [("Content-Length: 100", b"half"), ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n")])
def test_a_held_page_that_breaks_off_is_cut_when_the_fallback_misses(rig, head, some):
    g, static, wp = two(rig)
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx("HTTP/1.1 404 Not Found\n%s\n\n" % head)
    static.tx(some)
    wp.rx()
    hang_up(static)
    g.wait_stat("cluster.static.upstream_cx_destroy", 1)
    wp.tx("HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno")
    assert c.rx_head().status == 404
    rest = c.rest()
    assert b"half" in rest and b"0\r\n\r\n" not in rest


def test_fallbacks_are_asked_in_order(rig):
    g, static, a, b = two(rig, origins=("a", "b"))
    c = g.client()
    c.get("/1")
    static.answer("GET /1", "404 Not Found", "p")
    a.answer("GET /1", "200 OK", "a")
    assert c.rx() == (200, b"a")
    c.get("/2")
    static.answer("GET /2", "404 Not Found", "p")
    a.answer("GET /2", "404 Not Found", "a")
    b.answer("GET /2", "200 OK", "b")
    assert c.rx() == (200, b"b")
    c.get("/3")
    static.answer("GET /3", "404 Not Found", "p")
    a.answer("GET /3", "404 Not Found", "a")
    b.answer("GET /3", "404 Not Found", "b")
    x = c.rx()
    assert x == (404, b"p") and "cache-control" not in x.headers
    c.get("/4")
    static.answer("GET /4", "404 Not Found", "p")
    a.rx("GET /4")
    hang_up(a)
    b.answer("GET /4", "404 Not Found", "b")
    x = c.rx()  # the first may have it
    assert x == (404, b"p") and x.headers.get("cache-control") == "no-store"


def test_the_loop_guard(rig):
    static = rig.origin("static")
    config = rig.bootstrap([route("/", "static")], [fallback("self")],
                           clusters=[cluster("static", static.port), cluster("self", rig.port)])
    status, out = rig.check(config)
    assert status == 1 and "endless loop" in out
    # a name that leads here is seen when it is resolved
    over = cluster("self", rig.port)
    over.update(type="STRICT_DNS", dns_lookup_family="V4_ONLY")
    over["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]["address"] = "localhost"
    g = rig.gateway([route("/", "static")], [fallback("self")], clusters=[cluster("static", static.port), over])
    c = g.client()
    c.get("/x")
    static.rx()
    static.tx(NOT_FOUND)
    degraded(c.rx())
    assert "leads back to our listener" in g.log()


# 9: the router's changes are for the primary

def test_a_route_that_rewrites_the_host_does_so_for_the_primary_only(rig):
    g, static, wp = two(rig, routes=[route("/", {"cluster": "static", "host_rewrite_literal": "bucket", "prefix_rewrite": "/site/"})])
    c = g.client()
    c.get("/x?a=%2F", "X-Forwarded-Proto: https")
    p = static.rx("GET /site/x?a=%2F")
    assert p.headers.get("host") == "bucket"
    static.tx(NOT_FOUND)
    f = wp.rx("GET /x?a=%2F")
    assert f.headers.get("host") == "example.com" and "x-envoy-original-path" not in f.headers
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


def test_the_fallback_may_want_another_host(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback({"cluster": "wp", "host_rewrite": "old.example.com"}, rewrite_location=["old.example.com"])])
    c = g.client()
    c.get("/x", host="www.example.com:8080")
    static.rx()
    static.tx(NOT_FOUND)
    f = wp.rx()
    assert f.headers.get("host") == "old.example.com" and f.headers.get("x-forwarded-host") == "www.example.com:8080"
    wp.tx("HTTP/1.1 302 Found\nLocation: https://old.example.com/y?u=http://old.example.com/\nContent-Location: //old.example.com/z\n"
          "Refresh: 3; url=http://old.example.com:80/\nSet-Cookie: a=b; Domain=.old.example.com; Path=/\nSet-Cookie: c=d; domain=other.com\n"
          "Link: <http://old.example.com/>; rel=x\nContent-Length: 0\n\n")
    h = c.rx().headers
    assert h.get("location") == "http://www.example.com:8080/y?u=http://old.example.com/"
    assert h.get("content-location") == "//www.example.com:8080/z"
    assert h.get("refresh") == "3; url=http://www.example.com:8080/"
    assert h.all("set-cookie") == ["a=b; Domain=.www.example.com; Path=/", "c=d; domain=other.com"]
    assert h.get("link") == "<http://old.example.com/>; rel=x"


# 1: filters in front see one answer, once

def test_a_script_in_front_sees_the_winner_only(rig):
    script = lua("function envoy_on_response(h)\n  h:headers():add('x-seen', h:headers():get(':status'))\n"
                 "  local m = h:streamInfo():dynamicMetadata():get('postern.fallback')\n"
                 "  if m then\n"
                 "    h:headers():add('x-served', m['served'])\n"
                 "    h:headers():add('x-facts', ('%s %s %s %s %s'):format(m['primary_status'], m['status'], m['held_bytes'],\n"
                 "      type(m['primary_ms']), type(m['ms'])))\n"
                 "  end\nend\n")
    g, static, wp = two(rig, before=[script])
    c = g.client()
    c.get("/x")
    static.answer("GET /x", "404 Not Found", "p")
    wp.answer("GET /x", "200 OK", "w")
    a = c.rx()
    assert a == (200, b"w") and a.headers.all("x-seen") == ["200"] and a.headers.get("x-served") == "fallback"
    assert a.headers.get("x-facts") == "404 200 0 number number"
    c.get("/y")
    static.answer("GET /y", "200 OK", "p")
    a = c.rx()
    assert a.headers.get("x-served") == "primary" and a.headers.get("x-facts") == "200 nil 0 number nil"
    c.get("/z")
    static.answer("GET /z", "404 Not Found", "page")
    wp.answer("GET /z", "404 Not Found", "w")
    a = c.rx()
    assert a.headers.get("x-served") == "both_miss" and a.headers.get("x-facts") == "404 404 4 number number"


def test_an_answer_of_a_filter_in_front_is_not_asked_about(rig):
    script = lua("function envoy_on_request(h)\n  h:respond({[':status'] = '404'}, 'mine')\nend\n")
    g, static, wp = two(rig, before=[script])
    c = g.client()
    c.get("/x")
    assert c.rx() == (404, b"mine")
    static.untouched()
    wp.untouched()


def test_a_script_that_gathers_gets_the_fallbacks_whole_body(rig):
    script = lua("function envoy_on_response(h)\n  h:headers():add('x-n', tostring(h:body():length()))\nend\n")
    g, static, wp = two(rig, before=[script])
    c = g.client()
    for target, status, body in (("/x", 200, "w" * 200000), ("/y", 404, "p" * 150000)):
        c.get(target)
        static.answer("GET " + target, "404 Not Found", "p" * 150000)
        wp.answer("GET " + target, "200 OK" if status == 200 else "404 Not Found", "w" * 200000)
        a = c.rx()
        assert a.status == status and a.body == body.encode() and a.headers.get("x-n") == str(len(body))


# per route

def test_a_route_may_replace_single_fields(rig):
    per = {"@type": T + "postern.filters.http.fallback.v1.FallbackPerRoute"}
    g, static, wp = two(rig, routes=[
        route("/off", "static", typed_per_filter_config={"postern.fallback": dict(per, disabled=True)}),
        route("/403", "static", typed_per_filter_config={"postern.fallback": dict(per, trigger=[403], served_by_header="x-by")}),
        route("/", "static")])
    c = g.client()
    c.get("/off?wp=1")
    static.answer("GET /off", "404 Not Found", "p")
    assert c.rx() == (404, b"p")
    c.get("/403/a")
    static.answer("GET /403/a", "404 Not Found", "p")
    a = c.rx()
    assert a == (404, b"p") and a.headers.get("x-by") == "primary"
    c.get("/403/a")
    static.answer("GET /403/a", "403 Forbidden", "p")
    wp.answer("GET /403/a", "200 OK", "w")
    a = c.rx()
    assert a == (200, b"w") and a.headers.get("x-by") == "fallback"
    c.get("/403/a?wp=1")
    wp.answer("GET /403/a?wp=1", "200 OK", "w")
    assert c.rx().headers.get("x-by") == "override"
    c.get("/x")
    static.answer("GET /x", "404 Not Found", "p")
    wp.answer("GET /x", "200 OK", "w")
    assert c.rx() == (200, b"w")


def test_mistakes_are_told_with_their_place(rig):
    rig.origin("static")
    rig.origin("wp")
    status, out = rig.check(rig.bootstrap(None, [fallback("wpp", triger=[404], on_primary_failure="FALBACK")]))
    assert status == 1
    assert 'unknown cluster "wpp"' in out and 'did you mean "wp"' in out
    assert 'did you mean "trigger"' in out and "FALBACK" in out
    status, out = rig.check(rig.bootstrap(None, [fallback("wp", trigger=[99], degraded_status=200, retry_after="soon",
                                                          served_by_header="a b", preset="s4")]))
    assert status == 1
    for text in ("a status from 200 to 599", "degraded_status must be", "retry_after must be a duration", "not the name of a header", "unknown preset"):
        assert text in out
    bad = fallback("wp")
    del bad["typed_config"]["fallbacks"]
    status, out = rig.check(rig.bootstrap(None, [bad]))
    assert status == 1 and "at least one cluster" in out


def test_the_s3_preset_takes_a_403_for_a_miss(rig):
    g, static, wp = two(rig, preset="s3_website")
    c = g.client()
    c.get("/x")
    static.answer("GET /x", "403 Forbidden", "p")
    wp.answer("GET /x", "200 OK", "w")
    assert c.rx() == (200, b"w")


def test_marks(rig):
    g, static, wp = two(rig, served_by_header="x-served-by", mark_request=True)
    c = g.client()

    def ask(target, p, w, *fields):
        c.get(target, "X-Fallback: 404", *fields)
        if p:
            static.answer("GET", p, "p")
        if w:
            r = wp.rx("GET")
            assert r.headers.all("x-fallback") == (["404"] if p else [])
            wp.tx("HTTP/1.1 %s\nContent-Length: 1\nX-Served-By: me\n\nw" % w)
        return c.rx().headers.all("x-served-by")
    assert ask("/1", "200 OK", None) == ["primary"]
    assert ask("/2", "404 Not Found", "200 OK") == ["fallback"]
    assert ask("/3", "404 Not Found", "404 Not Found") == ["primary; both-miss"]
    assert ask("/4?wp=1", None, "200 OK") == ["override"]

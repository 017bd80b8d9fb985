"""The fallback policy when things go wrong: the client leaves at each step; either origin fails in every way while an answer is held
(spec/fallback.md 13, 14). Whatever happens: one answer, never half of one as if it were whole, and nothing left behind."""
import socket
import ssl

import pytest

from peers import PeerError
from rig import cluster, route, tls_down, until
from test_fallback import NOT_FOUND, fallback, hang_up, two
from test_fallback_body import body_of, head, send

GAUGES = ["fallback.postern.fallback.held_bytes", "fallback.postern.fallback.inflight", "fallback.postern.fallback.spooled_bytes",
          "cluster.static.upstream_rq_active", "cluster.wp.upstream_rq_active", "cluster.static.upstream_rq_pending_active",
          "cluster.wp.upstream_rq_pending_active", "http.in.downstream_rq_active"]
POSTED = {"other_methods": "TRY_PRIMARY", "request_body": {"memory_bytes": 1000}}


def nothing_left(g):
    """Every gauge is back at zero (losers are drained for 250 ms at most)."""
    def look():
        s = g.stats()
        return all(s.get(name, 0) == 0 for name in GAUGES)
    until(look, "all gauges are zero", 3)


def whole_again(g, static, wp):
    """The next visitor gets a right answer."""
    c = g.client()
    for i, target in enumerate(("/next?", "/after?")):
        c.get(target)
        static.rx("GET " + target)
        static.tx(NOT_FOUND)
        wp.answer("GET " + target, "200 OK", "w%d" % i)
        assert c.rx() == (200, b"w%d" % i)
    c.close()


# ---- the client leaves

def ask_p(c, static, wp):
    static.rx_head()


def p_half_head(c, static, wp):
    static.rx_head()
    static.tx("HTTP/1.1 404 Not Fo")


def held(c, static, wp):
    static.rx_head()
    static.tx("HTTP/1.1 404 Not Found\nContent-Length: 100000\n\nsome of it")
    wp.rx_head()


def held_whole(c, static, wp):
    static.rx_head()
    static.tx(NOT_FOUND)
    wp.rx_head()


def f_half_head(c, static, wp):
    held(c, static, wp)
    wp.tx("HTTP/1.1 200 OK\nContent-Le")


def f_head(c, static, wp):
    held(c, static, wp)
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 100000\n\n")
    c.until(b"\r\n\r\n")


def f_body(c, static, wp):
    f_head(c, static, wp)
    wp.tx("some")
    assert c.take(4) == b"some"


def p_page(c, static, wp):
    held(c, static, wp)
    wp.tx("HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno")
    c.until(b"some of it")


def f_dead(c, static, wp):
    held(c, static, wp)
    hang_up(wp)
    c.until(b"some of it")


GETS = [None, ask_p, p_half_head, held, held_whole, f_half_head, f_head, f_body, p_page, f_dead]


@pytest.mark.parametrize("step", GETS, ids=lambda s: s.__name__ if s else "half_head")
def test_a_client_leaves_a_get(rig, step):
    g, static, wp = two(rig)
    c = g.client()
    if step is None:
        c.tx("GET /x HTTP/1.1\nHost: exam")
    else:
        c.get("/x")
        step(c, static, wp)
    c.abort()
    for o in (static, wp):
        for conn in list(o.open):
            if (step, o) not in ((held_whole, static), (p_page, wp)):  # those are idle in their pools
                conn.rest()
                o.open.remove(conn)
    nothing_left(g)
    whole_again(g, static, wp)


@pytest.mark.parametrize("step", [held, f_body], ids=lambda s: s.__name__)
def test_a_client_that_only_ends_its_side_may_be_gone(rig, step):
    """It might still read; that it does not shows when something is sent."""
    g, static, wp = two(rig)
    c = g.client()
    c.get("/x")
    step(c, static, wp)
    c.close()
    f = wp.last
    if step is held:
        f.tx("HTTP/1.1 200 OK\nContent-Length: 100000\n\n")

    def ended():
        f.try_tx("more")
        try:
            return not f.more(0.01)
        except PeerError:
            return False
    until(ended, "the fallback's request ends", 1)
    wp.open.remove(f)
    nothing_left(g)
    static.open.clear()
    whole_again(g, static, wp)


def while_p_reads(c, static, wp):
    static.rx_head()


def while_p_answers(c, static, wp):
    static.rx_head()
    static.tx("HTTP/1.1 405 No\nContent-Le")


def while_f_reads(c, static, wp):
    static.rx_head()
    static.tx("HTTP/1.1 405 No\nContent-Length: 100\n\nsome")
    wp.rx_head()
    c.tx(b"a" * 5000)


def after_f_has_answered(c, static, wp):
    while_f_reads(c, static, wp)
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 100000\n\nsome")
    c.until(b"some")


def after_both_have_answered(c, static, wp):
    while_f_reads(c, static, wp)
    wp.tx("HTTP/1.1 404 No\nContent-Length: 2\n\nno")
    c.until(b"some")


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("step", [while_p_reads, while_p_answers, while_f_reads, after_f_has_answered, after_both_have_answered],
                         ids=lambda s: s.__name__)
def test_a_client_leaves_before_the_end_of_its_body(rig, step, how):
    g, static, wp = two(rig, **POSTED)
    c = g.client()
    c.tx(head("POST", "/x", 100000, how))
    c.tx(b"a" * 3000 if how == "length" else b"bb8\r\n" + b"a" * 3000 + b"\r\n1388\r\n")
    step(c, static, wp)
    c.abort()
    for o in (static, wp):
        for conn in list(o.open):
            rest = conn.rest()
            assert not rest.endswith(b"0\r\n\r\n") and len(rest) < 100000  # never a whole request
            o.open.remove(conn)
    nothing_left(g)
    whole_again(g, static, wp)


@pytest.mark.parametrize("step", [None, "some", "early"])
def test_a_client_leaves_a_direct_request(rig, step):
    g, static, wp = two(rig)
    c = g.client()
    c.tx(head("POST", "/x", 100000, "length") + "some")
    wp.rx_head("POST /x")
    if step:
        assert wp.last.take(4) == b"some"
    if step == "early":
        wp.tx("HTTP/1.1 200 OK\nContent-Length: 100\n\npart")
        c.until(b"part")
    c.abort()
    assert len(wp.last.rest()) < 100
    static.untouched()
    nothing_left(g)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("step", [s for s in GETS if s not in (None, f_head, f_body, p_page, f_dead)], ids=lambda s: s.__name__)
def test_an_http2_client_resets_one_stream(rig, step, tls):
    """The others on its connection do not notice."""
    down = tls_down(rig.certs.pem("a.example"), rig.certs.key("a.example")) if tls else None
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback()], tls=down)
    h = g.h2(tls=rig.certs.client(alpn=["h2"]) if tls else None)
    before = h.request("GET", "/before")
    static.rx("GET /before")
    waiting = static.last
    sid = h.request("GET", "/x")
    step(None, static, wp)
    mine = static.last
    h.reset(sid)
    for o in (static, wp):
        for conn in list(o.open):
            if conn is waiting or (step is held_whole and conn is mine):
                continue
            conn.rest()
            o.open.remove(conn)
    after = h.request("GET", "/after")
    static.rx("GET /after")
    static.tx(NOT_FOUND)
    wp.answer("GET /after", "200 OK", "w")
    waiting.tx("HTTP/1.1 200 OK\nContent-Length: 1\n\np")
    assert h.rx(before) == (200, b"p") and h.rx(after) == (200, b"w")
    nothing_left(g)


# ---- the client ends its side (robustness.md 6)

def end_side(c):
    """FIN; with TLS a close_notify first."""
    if isinstance(c.sock, ssl.SSLSocket):
        c.sock.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):  # the other side's has not come
            c.sock.unwrap()
    c.transcript.add(c.who, "tx", "FIN")
    socket.socket.shutdown(c.sock, socket.SHUT_WR)  # ssl's own one forgets the keys


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("when,end", [("p asked", "hit")] + [(w, e) for w in ("p asked", "p held") for e in ("miss", "both miss", "fallback fails")])
def test_a_client_that_ended_its_side_gets_its_answer(rig, when, end, tls):
    """FIN behind a whole request takes nothing back, whoever it is that has not spoken yet."""
    down = tls_down(rig.certs.pem("a.example"), rig.certs.key("a.example")) if tls else None
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback()], tls=down)
    c = g.client(tls=rig.certs.client() if tls else None)
    c.get("/x")
    static.rx()
    if when == "p asked":
        end_side(c)
        static.last.silent()
    if end == "hit":
        static.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    else:
        static.tx("HTTP/1.1 404 Not Found\nContent-Length: 9\n\nnot")
        wp.rx()
        if when == "p held":
            end_side(c)
            wp.last.silent()
        static.tx(b" here\n")
        if end == "fallback fails":
            hang_up(wp)
        else:
            wp.tx("HTTP/1.1 %s\nContent-Length: 2\n\nok" % ("200 OK" if end == "miss" else "404 No"))
    assert c.rx() == ((200, b"ok") if end in ("hit", "miss") else (404, b"not here\n"))
    c.eof()
    nothing_left(g)


@pytest.mark.parametrize("step", [ask_p, held], ids=lambda s: s.__name__)
def test_a_client_that_ended_its_side_and_then_resets_is_gone(rig, step):
    """Both requests end, although nothing is sent to it."""
    g, static, wp = two(rig)
    c = g.client()
    c.get("/x")
    step(c, static, wp)
    c.half_close()
    asked = wp if step is held else static
    asked.last.silent()
    c.abort()
    for o in (static, wp):
        for conn in list(o.open):
            conn.eof()
            o.open.remove(conn)
    nothing_left(g)
    whole_again(g, static, wp)


@pytest.mark.parametrize("step", [ask_p, held], ids=lambda s: s.__name__)
def test_a_client_that_ended_its_side_waits_as_long_as_others(rig, step):
    """It may be gone without a trace: what bounds the wait for everybody bounds it here."""
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", {"cluster": "static", "timeout": "0.3s" if step is ask_p else "0s"})],
                    [fallback({"cluster": "wp", "header_timeout": "0.3s"})])
    c = g.client()
    c.get("/x")
    step(c, static, wp)
    c.half_close()
    if step is held:
        static.tx(b"a" * (100000 - 10))
        a = c.rx()
        assert a.status == 404 and len(a.body) == 100000 and a.headers.get("cache-control") == "no-store"
    else:
        assert c.rx().status == 504
    c.eof()
    nothing_left(g)


# ---- an origin fails while an answer is held

PAGE = b"the 404 page of the primary\n"
# What the primary sends behind the first bytes of its page, and whether its page is whole then (None: not yet).
PRIMARY = {
    "sound": ("length", PAGE[4:], None, True), "reset": ("length", PAGE[4:9], "reset", False), "close": ("length", PAGE[4:9], "close", False),
    "at once": ("length", None, "close", False), "stalls": ("length", b"", None, None), "too long": ("length", PAGE[4:] + b"HTTP/1.1 200 OK\r\n\r\n", None, True),
    "bad chunk": ("chunked", b"zz\r\n", None, False), "no last chunk": ("chunked", b"3\r\nabc\r\n", "close", False),
    "chunked": ("chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(PAGE) - 4, PAGE[4:]), None, True),
}
# What the fallback does: (answer, then) and what that is: hit, miss, failure, or a hit that breaks off.
FALLBACK = {
    "hit": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None, "hit"),
    "miss": (b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", None, "miss"),
    "reset": (b"", "reset", "fails"), "close": (b"", "close", "fails"), "garbage": (b"\x15\x03\x01\x00\x02\x02\x46", None, "fails"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", "close", "fails"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", None, "fails"),
    "too long": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", None, "hit"),
    "too short": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "close", "breaks"),
    "bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", None, "breaks"),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "close", "breaks"),
    "reset in its body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "reset", "either"),
}


def end(origin, conn, how):
    if how is None:
        return
    origin.open.remove(conn)
    conn.abort() if how == "reset" else conn.close()


@pytest.mark.parametrize("first", ["p", "f"], ids=["primary_first", "fallback_first"])
@pytest.mark.parametrize("what", PRIMARY)
def test_both_origins_fail_in_every_way_while_an_answer_is_held(rig, what, first):
    framing, rest, then, whole = PRIMARY[what]
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", {"cluster": "static", "timeout": "0s"})], [fallback()])
    for name, (answer, then_f, kind) in FALLBACK.items():
        c = g.client()
        c.get("/x")
        static.rx()
        p = static.last
        p.tx("HTTP/1.1 404 Not Found\nETag: \"e\"\n%s\n\n" % ("Content-Length: %d" % len(PAGE) if framing == "length" else "Transfer-Encoding: chunked"))
        if what != "at once":
            p.tx(PAGE[:4] if framing == "length" else b"4\r\n" + PAGE[:4] + b"\r\n")
        wp.rx()
        f = wp.last
        destroyed = g.stat("cluster.static.upstream_cx_destroy")

        def primary():
            if rest is not None:
                p.try_tx(rest)
            end(static, p, then)
            if whole is False:  # it is seen before the fallback has spoken
                until(lambda: c.closed or g.stat("cluster.static.upstream_cx_destroy") > destroyed, "the break is seen")
        if first == "p":
            primary()
        f.tx(answer)
        end(wp, f, then_f)
        if first == "f":
            if kind == "breaks" or kind == "either":
                c.more()
            primary() if whole is not False else (p.try_tx(rest or b""), end(static, p, then))
        judge(c, name, kind, whole)
        c.abort()
        if f in wp.open:
            end(wp, f, "close")  # a request lost on a connection used before would be sent again
    nothing_left(g)
    c = g.client()
    c.get("/hit")
    static.answer("GET /hit", "200 OK", "hit")
    assert c.rx() == (200, b"hit")


def judge(c, name, kind, whole):
    if kind == "hit":
        assert c.rx() == (200, b"ok"), name
        return
    h = c.rx_head()
    if kind == "breaks" or (kind == "either" and h.status == 200):
        assert h.status == 200
        assert b"0\r\n\r\n" not in c.rest(), name
        return
    assert h.status == 404, name
    if kind == "miss":
        assert h.headers.get("etag") == '"e"'
    elif whole is not False:  # a torn page may be told of before the failure
        assert "etag" not in h.headers and h.headers.get("cache-control") == "no-store", name
    if whole:
        body, _, _ = c.body(h.headers, until_close=False)
        assert body == PAGE, name
    elif whole is None:
        assert c.take(4) == PAGE[:4]
        c.silent(0.05)
    else:
        got = c.rest()
        assert len(got) < len(PAGE) and not got.endswith(b"0\r\n\r\n"), (name, got)


@pytest.mark.parametrize("f", ["refuses", "stalls"])
def test_a_fallback_that_refuses_or_stalls_while_the_page_fails(rig, f):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", {"cluster": "static", "timeout": "0s"})], [fallback({"cluster": "wp", "header_timeout": "0.1s"})],
                    clusters=[cluster("static", static.port), cluster("wp", rig.free_port() if f == "refuses" else wp.port)])
    for what, (framing, rest, then, whole) in PRIMARY.items():
        if rest is None:
            continue
        c = g.client()
        c.get("/x")
        static.rx()
        p = static.last
        p.tx("HTTP/1.1 404 Not Found\nETag: \"e\"\n%s\n\n" % ("Content-Length: %d" % len(PAGE) if framing == "length" else "Transfer-Encoding: chunked"))
        p.tx(PAGE[:4] if framing == "length" else b"4\r\n" + PAGE[:4] + b"\r\n")
        if f == "stalls":
            wp.rx()
        c.more()  # the page goes out as soon as it is known that the fallback has none
        p.try_tx(rest)
        end(static, p, then)
        judge(c, what, "fails", whole)
        c.abort()
    nothing_left(g)


@pytest.mark.parametrize("what", ["refuses", "resets", "garbage", "stalls"])
@pytest.mark.parametrize("f", ["hit", "miss", "fails"])
def test_a_primary_that_fails_while_the_fallback_may_help(rig, what, f):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", {"cluster": "static", "timeout": "0.3s"})], [fallback(on_primary_failure="FALLBACK")],
                    clusters=[cluster("static", rig.free_port() if what == "refuses" else static.port), cluster("wp", wp.port)])
    for _ in range(2):
        c = g.client()
        c.get("/x")
        if what != "refuses":
            static.rx()
        if what == "resets":
            hang_up(static)
        elif what == "garbage":
            static.tx(b"garbage\r\n\r\n")
        wp.rx()
        wp.tx("HTTP/1.1 %s\nContent-Length: 2\n\nok" % ("200 OK" if f == "hit" else "404 No")) if f != "fails" else hang_up(wp)
        a = c.rx()
        assert a.status == {"hit": 200, "miss": 503, "fails": 504 if what == "stalls" else 502 if what == "garbage" else 503}[f]
        assert (a.body == b"ok") == (f == "hit")
    nothing_left(g)


@pytest.mark.parametrize("what", ["reset", "close", "garbage", "early", "early close"])
def test_a_fallback_that_fails_while_it_gets_the_body(rig, what):
    """The primary's answer is held, the client still sends."""
    g, static, wp = two(rig, **POSTED)
    data = body_of(1 << 20)
    c = g.client()
    c.tx(head("POST", "/x", len(data), "length"))
    t = send(c, data[:1000])
    static.rx_head()
    static.tx("HTTP/1.1 405 No\nContent-Length: 9\n\nnot here\n")
    t.join()
    wp.rx_head()
    t = send(c, data[1000:], pieces=20, pause=0.002)
    assert wp.last.take(500) == data[:500]
    if what == "reset" or what == "close":
        hang_up(wp, reset=what == "reset")
    elif what == "garbage":
        wp.tx(b"garbage\r\n\r\n")
    else:
        wp.tx("HTTP/1.1 413 Too Large\n%sContent-Length: 2\n\nno" % ("Connection: close\n" if "close" in what else ""))
        if "close" in what:
            hang_up(wp, reset=False)
    try:
        a = c.rx()
    except PeerError:
        assert what == "early close"  # a reset may overtake an answer, of which then nothing is known
        a = None
    t.join()
    if what.startswith("early") and a and a.status != 404:
        assert a == (413, b"no")
    elif a:
        assert a.body == b"not here\n" and a.headers.get("cache-control") == "no-store"
    c.close()
    nothing_left(g)


# ---- a fallback that does not read the request's body (spec/fallback.md 14)

MUCH = 24 << 20  # more than the kernels on the way take


@pytest.mark.parametrize("more", ["all came", "more would come"])
def test_a_fallback_that_does_not_take_the_kept_body_is_silent(rig, more):
    """header_timeout counts from the request being sent, which may never be."""
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", {"cluster": "static", "timeout": "0s"})],
                    [fallback({"cluster": "wp", "header_timeout": "0.3s"}, **POSTED)])
    c = g.client()
    data = body_of(MUCH)
    c.tx(head("POST", "/x", MUCH + (9 if more == "more would come" else 0), "length"))
    t = send(c, data)
    static.rx_head()
    static.tx("HTTP/1.1 405 No\nContent-Length: 8\n\nnot here")
    wp.rx_head()
    a = c.rx()
    assert a == (405, b"not here") and a.headers.get("cache-control") == "no-store"
    t.join()
    assert len(wp.last.rest()) < MUCH
    wp.open.clear()
    c.close()
    nothing_left(g)


def test_the_next_fallback_gets_what_the_first_does_not_take(rig):
    g, static, a, b = two(rig, origins=("a", "b"), **POSTED)
    g.stop()
    g = rig.gateway([route("/", {"cluster": "static", "timeout": "0s"})],
                    [fallback({"cluster": "a", "header_timeout": "0.3s"}, "b", **POSTED)])
    c = g.client()
    data = body_of(MUCH)
    c.tx(head("POST", "/x", MUCH, "length"))
    t = send(c, data)
    static.rx_head()
    static.tx("HTTP/1.1 405 No\nContent-Length: 8\n\nnot here")
    a.rx_head()
    assert b.rx("POST /x").body == data
    b.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert c.rx() == (200, b"ok")
    t.join()
    assert len(a.last.rest()) < MUCH
    nothing_left(g)


def test_a_fallback_asked_alone_that_does_not_take_the_body_ends_with_the_idle_stream(rig):
    """As at the router: a route's timeout counts from the end of the request, before it there is stream_idle_timeout."""
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", {"cluster": "static", "timeout": "0.2s"})], [fallback()], hcm_over={"stream_idle_timeout": "1s"})
    c = g.client()
    c.tx(head("POST", "/x", MUCH, "length"))
    t = send(c, body_of(MUCH))
    wp.rx_head()
    assert c.rx().status == 408
    c.abort()
    t.join()
    assert len(wp.last.rest()) < MUCH
    static.untouched()
    wp.open.clear()
    nothing_left(g)

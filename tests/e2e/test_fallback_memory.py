"""The fallback policy: what it remembers, hints, shields, numbers (spec/fallback.md 14, 18 - 21)."""
import json
import time

import pytest

from rig import access_log, cluster, route, until
from test_fallback import NOT_FOUND, degraded, fallback, hang_up, two

S = "fallback.postern.fallback."


def memory(mode, **over):
    return dict({"mode": mode, "miss_ttl": "60s", "both_miss_ttl": "60s"}, **over)


def ask(c, target, static=None, wp=None, fields=(), method="GET"):
    """One exchange; static, wp: (origin, status) asked in this order."""
    c.tx("%s %s HTTP/1.1\nHost: example.com\n%s\n" % (method, target, "".join(f + "\n" for f in fields)))
    for pair in (static, wp):
        if pair:
            pair[0].answer("%s %s" % (method, target), pair[1], pair[0].name if method != "HEAD" else "")
    return c.rx()


# 18: TRUST

def test_trust_asks_the_fallback_first_for_a_known_miss(rig):
    g, static, wp = two(rig, memory=memory("TRUST"))
    c = g.client()
    assert ask(c, "/x", (static, "404 No"), (wp, "200 OK")) == (200, b"wp")
    assert ask(c, "/x?q=1", None, (wp, "200 OK")) == (200, b"wp")
    static.untouched()
    # gone from the fallback: the primary's page; published meanwhile: the primary has it, and is asked from then on
    c.get("/x")
    wp.answer("GET /x", "404 No", "wp")
    static.answer("GET /x", "404 No", "p")
    assert c.rx() == (404, b"p")
    c.get("/x?2")
    wp.answer("GET /x", "404 No", "wp")
    static.answer("GET /x", "200 OK", "new")
    assert c.rx() == (200, b"new")
    assert ask(c, "/x?2", (static, "200 OK")) == (200, b"static")
    wp.untouched()


def test_trust_spares_the_fallback_what_neither_has(rig):
    g, static, wp = two(rig, memory=memory("TRUST"))
    c = g.client()
    assert ask(c, "/bot", (static, "404 No"), (wp, "404 No")).status == 404
    for _ in range(3):
        assert ask(c, "/bot", (static, "404 No")) == (404, b"static")
    wp.untouched()
    assert g.stat(S + "responses.both_miss.404") == 4
    # another query is another page of the fallback, of which the primary is known to lack all
    c.get("/bot?page=2")
    wp.answer("GET /bot?page=2", "200 OK", "wp")
    assert c.rx() == (200, b"wp")


@pytest.mark.parametrize("how", ["authorization", "override", "degraded", "410", "login"])
def test_what_is_not_remembered(rig, how):
    g, static, wp = two(rig, memory=memory("TRUST"))
    c = g.client()
    if how == "authorization":
        ask(c, "/x", (static, "404 No"), (wp, "404 No"), ["Authorization: Basic eA=="])
    elif how == "override":
        ask(c, "/x?wp=1", None, (wp, "404 No"))
    elif how == "degraded":
        c.get("/x")
        static.answer("GET /x", "404 No", "p")
        wp.rx()
        hang_up(wp)
        c.rx()
    elif how == "410":
        ask(c, "/x", (static, "410 Gone"))
    elif how == "login":
        ask(c, "/x", (static, "404 No"), (wp, "404 No"), ["Cookie: a=b; wordpress_logged_in_1=x"])
        # the miss is known, that both lack it is not
        c.get("/x")
        wp.answer("GET /x", "200 OK", "wp")
        assert c.rx() == (200, b"wp")
        return
    assert ask(c, "/x", (static, "404 No"), (wp, "200 OK")) == (200, b"wp")


def test_no_cache_asks_anew(rig):
    g, static, wp = two(rig, memory=memory("TRUST"))
    c = g.client()
    ask(c, "/x", (static, "404 No"), (wp, "200 OK"))
    assert ask(c, "/x", (static, "200 OK"), None, ["Cache-Control: no-cache"]) == (200, b"static")
    assert ask(c, "/x", (static, "200 OK")) == (200, b"static")
    wp.untouched()  # a primary that is asked after a fallback that was silent would look the same


def test_a_request_with_credentials_is_not_answered_from_memory(rig):
    g, static, wp = two(rig, memory=memory("TRUST"))
    c = g.client()
    ask(c, "/x", (static, "404 No"), (wp, "200 OK"))
    assert ask(c, "/x", (static, "200 OK"), None, ["Authorization: Basic eA=="]) == (200, b"static")
    wp.untouched()


def test_a_write_through_the_gateway_drops_what_is_known(rig):
    g, static, wp = two(rig, memory=memory("TRUST"))
    c = g.client()
    ask(c, "/x", (static, "404 No"), (wp, "200 OK"))
    c.tx("PUT /x HTTP/1.1\nHost: example.com\nContent-Length: 0\n\n")
    wp.answer("PUT /x", "201 Created")
    assert c.rx().status == 201
    assert ask(c, "/x", (static, "200 OK")) == (200, b"static")
    wp.untouched()


def test_facts_end(rig):
    g, static, wp = two(rig, memory=memory("TRUST", miss_ttl="200ms"))
    c = g.client()
    ask(c, "/x", (static, "404 No"), (wp, "200 OK"))
    time.sleep(0.25)
    assert ask(c, "/x", (static, "404 No"), (wp, "200 OK")) == (200, b"wp")


def test_forget_drops_a_prefix(rig):
    g, static, wp = two(rig, memory=memory("TRUST"))
    c = g.client()
    for path in ("/a/1", "/a/2", "/b"):
        ask(c, path, (static, "404 No"), (wp, "200 OK"))
    assert g.admin("/fallback/forget?prefix=/a/", "POST").status == 200
    assert g.admin("/fallback/forget?prefix=/a/", "GET").status == 405
    for path in ("/a/1", "/a/2"):
        assert ask(c, path, (static, "200 OK")) == (200, b"static")
    c.get("/b")
    wp.answer("GET /b", "200 OK", "wp")
    assert c.rx() == (200, b"wp")
    assert g.admin("/fallback/forget", "POST").status == 200
    assert ask(c, "/b", (static, "200 OK")) == (200, b"static")
    wp.untouched()


# 19: HINT

def test_a_hint_asks_both_at_once_and_never_serves_anything_stale(rig):
    g, static, wp = two(rig, memory=memory("HINT"))
    c = g.client()
    ask(c, "/x", (static, "404 No"), (wp, "200 OK"))
    for first in ("wp", "static"):
        c.get("/x")
        static.rx("GET /x")
        wp.rx("GET /x")
        for name in (first, "static" if first == "wp" else "wp"):
            if name == "wp":
                wp.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nwp")
                if first == "wp":
                    c.silent(0.1)  # never over an undecided primary
            else:
                static.tx(NOT_FOUND)
        assert c.rx() == (200, b"wp")
    assert g.stat(S + "hints.right") == 2
    # a wrong one: the primary has it now
    c.get("/x")
    static.rx("GET /x")
    wp.rx("GET /x")
    f = wp.last
    static.tx("HTTP/1.1 200 OK\nContent-Length: 3\n\nnew")
    assert c.rx() == (200, b"new")
    f.rest()
    wp.open.remove(f)
    assert g.stat(S + "hints.wrong") == 1
    assert ask(c, "/x", (static, "200 OK")) == (200, b"static")
    wp.untouched()


def test_a_hint_both_miss_and_its_failure(rig):
    g, static, wp = two(rig, memory=memory("HINT"))
    c = g.client()
    ask(c, "/x", (static, "404 No"), (wp, "404 No"))
    c.get("/x")
    static.rx("GET /x")
    wp.answer("GET /x", "404 No", "w")
    static.tx(NOT_FOUND)
    a = c.rx()
    assert a == (404, b"not here\n") and a.headers.get("etag") == '"p404"'
    c.get("/x")
    static.rx("GET /x")
    wp.rx("GET /x")
    hang_up(wp)
    static.tx(NOT_FOUND)
    degraded(c.rx())


def test_a_hint_with_two_fallbacks(rig):
    """The first one's answer breaks off while it waits for the primary: the second is asked when the primary lacks it too."""
    g, static, a, b = two(rig, origins=("a", "b"), memory=memory("HINT"))
    c = g.client()
    assert ask(c, "/x", (static, "404 No"), (a, "200 OK")) == (200, b"a")
    for p, f in (("404 No", "200 OK"), ("404 No", "404 No"), ("200 OK", None)):
        destroyed = g.stat("cluster.a.upstream_cx_destroy")
        c.get("/x")
        static.rx("GET /x")
        a.rx("GET /x")
        a.tx("HTTP/1.1 200 OK\nContent-Length: 100\n\nhalf")
        hang_up(a, reset=False)
        g.wait_stat("cluster.a.upstream_cx_destroy", destroyed + 1)
        static.tx("HTTP/1.1 %s\nContent-Length: 1\n\np" % p)
        if f:
            b.answer("GET /x", f, "b")
        assert c.rx() == (200 if "200 OK" in (p, f) else 404, b"b" if f == "200 OK" else b"p")
    b.untouched(0.05)


def test_a_hedge_is_sent_when_the_primary_is_slow(rig):
    g, static, wp = two(rig, memory={"hedge_after": "100ms", "hint_budget": 100})
    c = g.client()
    c.get("/x")
    static.rx("GET /x")
    wp.answer("GET /x", "200 OK", "wp")
    c.silent(0.1)
    static.tx(NOT_FOUND)
    assert c.rx() == (200, b"wp")
    assert ask(c, "/fast", (static, "200 OK")) == (200, b"static")
    wp.untouched()


def test_hints_stop_when_too_many_were_wrong(rig):
    g, static, wp = two(rig, memory={"hedge_after": "20ms", "hint_budget": 10})
    c = g.client()
    asked = 0
    for _ in range(6):
        c.get("/x")
        static.rx("GET /x")
        time.sleep(0.08)
        static.tx("HTTP/1.1 200 OK\nContent-Length: 1\n\np")
        assert c.rx() == (200, b"p")
    assert 1 <= g.stat(S + "hints.wrong") <= 2


# 14: shields

def test_max_inflight_queues_and_then_degrades(rig):
    g, static, wp = two(rig, max_inflight=1)
    a, b, d = g.client(), g.client(), g.client()
    for c, path in ((a, "/a"), (b, "/b"), (d, "/d")):
        c.get(path)
        static.answer("GET " + path, "404 No", "p")
    wp.rx("GET /a")
    one = d.rx()  # the queue is as long as max_inflight
    assert one == (404, b"p") and one.headers.get("cache-control") == "no-store"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 1\n\na")
    assert a.rx() == (200, b"a")
    wp.answer("GET /b", "200 OK", "b")
    assert b.rx() == (200, b"b")
    assert g.stat(S + "inflight") == 0


def test_the_breaker_spares_a_dead_fallback(rig):
    static = rig.origin("static")
    g = rig.gateway([route("/", "static")], [fallback(breaker={"failures": 2, "open": "0.3s"})],
                    clusters=[cluster("static", static.port), cluster("wp", rig.free_port())])
    c = g.client()
    for _ in range(4):
        c.get("/x")
        static.rx()
        static.tx(NOT_FOUND)
        degraded(c.rx())
    assert g.stat("cluster.wp.upstream_cx_connect_fail") == 2
    time.sleep(0.35)
    c.get("/x")
    static.rx()
    static.tx(NOT_FOUND)
    degraded(c.rx())
    assert g.stat("cluster.wp.upstream_cx_connect_fail") == 3


# 21: seeing

def test_top_lists_what_the_fallback_still_serves(rig):
    g, static, wp = two(rig)
    c = g.client()
    for path, n, status in (("/a", 3, "200 OK"), ("/b", 1, "301 Moved"), ("/dead", 2, "404 No")):
        for i in range(n):
            ask(c, "%s?n=%d" % (path, i), (static, "404 No"), (wp, status))
    top = json.loads(g.admin("/fallback/top?n=10").body)
    assert [(p["path"], p["count"], p["over"], p["status"]) for p in top["paths"]] == [("/a", 3, 0, 200), ("/b", 1, 0, 301)]
    assert abs(top["since"] - time.time()) < 60 and abs(top["paths"][0]["last"] - time.time()) < 60
    dead = json.loads(g.admin("/fallback/top?kind=both_miss").body)
    assert [(p["path"], p["count"]) for p in dead["paths"]] == [("/dead", 2)]
    csv = g.admin("/fallback/top?format=csv&n=1")
    assert csv.headers.get("content-type").startswith("text/csv")
    assert csv.body.decode().splitlines()[0] == "path,count,over,status,last"
    assert csv.body.decode().splitlines()[1].startswith('"/a",3,0,200,')


def test_numbers(rig):
    g, static, wp = two(rig)
    c = g.client()
    ask(c, "/1", (static, "200 OK"))
    ask(c, "/2", (static, "404 No"), (wp, "200 OK"))
    ask(c, "/3", (static, "404 No"), (wp, "404 No"))
    ask(c, "/4?wp=1", None, (wp, "200 OK"))
    s = g.stats("^fallback")
    for name, n in (("primary.200", 1), ("fallback.200", 1), ("both_miss.404", 1), ("override.200", 1)):
        assert s[S + "responses." + name] == n
    assert s[S + "held_bytes"] == 0 and s[S + "inflight"] == 0
    text = g.admin("/stats/prometheus").body.decode()
    assert 'postern_fallback_responses_total{policy="postern.fallback",served="both_miss",code="404"} 1' in text
    assert 'postern_fallback_seconds_count{policy="postern.fallback",origin="primary"} 3' in text  # hits too
    assert 'postern_fallback_seconds_count{policy="postern.fallback",origin="fallback"} 3' in text
    assert 'postern_fallback_losers_total{policy="postern.fallback",end="complete"}' in text
    assert 'postern_fallback_held_bytes{policy="postern.fallback"} 0' in text


def test_access_log_operators(rig):
    log = rig.tmp / "access.log"
    text = "%FALLBACK_SERVED% %FALLBACK_PRIMARY_STATUS% %FALLBACK_STATUS% %FALLBACK_HELD_BYTES% %UPSTREAM_REQUEST_ATTEMPT_COUNT%|%FALLBACK_PRIMARY_MS% %FALLBACK_MS%\n"
    g, static, wp = two(rig, hcm_over={"access_log": access_log(log, text)})
    c = g.client()
    ask(c, "/1", (static, "200 OK"))
    ask(c, "/2", (static, "404 No"), (wp, "200 OK"))
    ask(c, "/3", (static, "404 No"), (wp, "404 No"))
    ask(c, "/4?wp=1", None, (wp, "200 OK"))
    until(lambda: log.exists() and log.read_text().count("\n") == 4, "four lines")
    lines = [line.split("|")[0] for line in log.read_text().splitlines()]
    assert lines == ["primary 200 - 0 1", "fallback 404 200 0 2", "both_miss 404 404 6 2", "override - 200 0 1"]


# compare mode

def test_shadow_compares_without_changing_anything(rig):
    g, static, wp = two(rig, shadow={"percent": 100})
    c = g.client()
    for path, body, other, how in (("/same", "a" * 70000, "200 OK", "same"), ("/body", "a", "200 OK", "body"), ("/status", "a", "404 No", "status")):
        c.get(path, 'If-None-Match: "x"')
        static.answer("GET " + path, "200 OK", body)
        assert c.rx() == (200, body.encode())
        assert "if-none-match" not in wp.rx("GET " + path).headers
        wp.tx("HTTP/1.1 %s\nContent-Length: %d\n\n%s" % (other, len(body), body if how == "same" else "b"))
    g.wait_stat(S + "shadow.differs", 2)
    assert g.stat(S + "shadow.same") == 1
    rows = json.loads(g.admin("/fallback/top?kind=differs").body)["paths"]
    assert sorted((r["path"], r["status"]) for r in rows) == [("/body", 200), ("/status", 404)]
    # misses and writes are not compared, nor are answers without a body and those for one visitor; a fallback that does not answer delays nobody
    assert ask(c, "/miss", (static, "404 No"), (wp, "200 OK")) == (200, b"wp")
    assert ask(c, "/head", (static, "200 OK"), method="HEAD").status == 200
    assert ask(c, "/mine", (static, "200 OK"), fields=["Authorization: Basic eA=="]).status == 200
    c.get("/old", 'If-None-Match: "x"')
    static.rx("GET /old")
    static.tx("HTTP/1.1 304 Not Modified\n\n")
    assert c.rx().status == 304
    wp.untouched()
    assert ask(c, "/slow", (static, "200 OK")) == (200, b"static")
    wp.rx("GET /slow")
    assert ask(c, "/next", (static, "200 OK")) == (200, b"static")

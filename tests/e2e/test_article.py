"""The article's Lua script, unmodified, in every situation the article talks about."""
import pytest

from rig import ARTICLE, OLD_SITE, cluster, lua, route

HTML = "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 5\n\n"


def test_a_hit_is_the_static_sites(rig):
    client, static, wp = rig.article()
    client.get("/page")
    static.rx("GET /page")
    static.tx(HTML + "hello")
    assert client.rx() == (200, b"hello")
    wp.untouched()


def test_a_miss_is_answered_by_the_old_site(rig):
    client, static, wp = rig.article()
    client.get("/old", "Accept: text/html", "X-Custom: 1", "Cookie: a=b")
    static.rx("GET /old")
    static.tx("HTTP/1.1 404 Not Found\nX-Amz-Error: NoSuchKey\nContent-Length: 9\n\nnot here\n")
    r = wp.rx("GET /old")
    assert r.headers.get("host") == "example.com"
    assert r.headers.get("accept") == "text/html"
    assert r.headers.get("x-custom") == "1"
    assert r.headers.get("cookie") == "a=b"
    wp.tx("HTTP/1.1 200 OK\nContent-Type: text/html\nX-From: wp\nContent-Length: 8\n\nold page")
    a = client.rx()
    assert a == (200, b"old page")
    assert a.headers.get("x-from") == "wp"
    assert "x-amz-error" not in a.headers
    assert a.headers.get("content-length") == "8"


def test_the_held_404_is_sent_when_the_fallback_misses_too(rig):
    client, static, wp = rig.article()
    client.tx("GET /gone HTTP/1.1\nHost: example.com\n\n")
    static.rx("GET /gone")
    static.tx("HTTP/1.1 404 Not Found\nContent-Length: 9\n\nnot here\n")
    wp.rx("GET /gone")
    wp.tx("HTTP/1.1 404 Not Found\nContent-Length: 2\n\nno")
    assert client.rx() == (404, b"not here\n")


@pytest.mark.parametrize("target,field", [("/p?wp=1", None), ("/p?a=b&wp=1", None), ("/p", "Cookie: wp=1"),
                                          ("/p", "Cookie: a=b; wp=1; c=d")])
def test_the_override_goes_straight_to_the_old_site(rig, target, field):
    client, static, wp = rig.article()
    client.get(target, *([field] if field else []))
    wp.rx("GET " + target)
    wp.tx(HTML + "wpwpw")
    assert client.rx() == (200, b"wpwpw")
    static.untouched()


@pytest.mark.parametrize("target,field", [("/p?wp=10", None), ("/p?xwp=1", None), ("/p", "Cookie: xwp=1")])
def test_what_only_looks_like_the_override_is_not(rig, target, field):
    client, static, wp = rig.article()
    client.get(target, *([field] if field else []))
    static.answer("GET " + target, "200 OK", "static")
    assert client.rx() == (200, b"static")
    wp.untouched()


@pytest.mark.parametrize("status", ["301 Moved Permanently", "403 Forbidden", "410 Gone", "500 Internal Server Error"])
def test_only_a_404_asks_the_old_site(rig, status):
    client, static, wp = rig.article()
    client.get("/x")
    static.answer("GET /x", status, "as is")
    assert client.rx() == (int(status[:3]), b"as is")
    wp.untouched()


@pytest.mark.parametrize("status", ["301 Moved Permanently", "410 Gone", "503 Service Unavailable"])
def test_whatever_else_the_old_site_says_is_delivered(rig, status):
    client, static, wp = rig.article()
    client.get("/x")
    static.answer("GET /x", "404 Not Found", "nope")
    wp.answer("GET /x", status, "old", "Location: /y")
    a = client.rx()
    assert a == (int(status[:3]), b"old")
    assert a.headers.get("location") == "/y"


def test_a_chunked_answer_of_the_old_site_gets_a_length(rig):
    client, static, wp = rig.article()
    client.get("/x")
    static.answer("GET /x", "404 Not Found", "nope")
    wp.rx("GET /x")
    wp.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    a = client.rx()
    assert a == (200, b"hello world")
    assert a.headers.get("content-length") == "11"


def test_a_2_mib_page_of_the_old_site_is_no_error(rig):
    client, static, wp = rig.article()
    client.get("/x")
    static.answer("GET /x", "404 Not Found", "nope")
    wp.answer("GET /x", "200 OK", "x" * (2 << 20))
    a = client.rx()
    assert a.status == 200 and len(a.body) == 2 << 20


def test_an_old_site_that_refuses_is_the_scripts_503(rig):
    static = rig.origin("static")
    dead = rig.free_port()
    g = rig.gateway([route("/", "static")], [lua(file=ARTICLE)],
                    clusters=[cluster("static", static.port), cluster(OLD_SITE, dead)])
    c = g.client()
    c.get("/x")
    static.answer("GET /x", "404 Not Found", "nope")
    a = c.rx()
    assert a.status == 503
    assert a.body.startswith(b"upstream connect error")


def test_a_missing_cluster_is_a_script_error_and_the_404_goes_out(rig):
    static = rig.origin("static")
    g = rig.gateway([route("/", "static")], [lua(file=ARTICLE)])
    c = g.client()
    c.get("/x")
    static.answer("GET /x", "404 Not Found", "nope")
    assert c.rx() == (404, b"nope")
    g.wait_log("http call cluster invalid. Must be configured")


def test_misses_reuse_both_origin_connections(rig):
    client, static, wp = rig.article()
    for i in range(10):
        client.get("/%d" % i)
        static.answer("GET /%d" % i, "404 Not Found", "nope")
        wp.answer("GET /%d" % i, "404 Not Found" if i % 2 else "200 OK", "old %d" % i)
        assert client.rx() == ((404, b"nope") if i % 2 else (200, b"old %d" % i))
    assert static.conns == 1 and wp.conns == 1


def test_a_client_that_leaves_while_the_old_site_is_asked_cancels_the_question(rig):
    client, static, wp = rig.article()
    client.get("/x")
    static.answer("GET /x", "404 Not Found", "nope")
    wp.rx("GET /x")
    client.abort()
    wp.last.eof()


def test_pipelined_misses_stay_in_order(rig):
    client, static, wp = rig.article()
    client.tx(b"".join(b"GET /%d HTTP/1.1\r\nHost: example.com\r\n\r\n" % i for i in range(3)))
    client.methods = ["GET"] * 3
    for i in range(3):
        static.answer("GET /%d" % i, "404 Not Found", "nope")
        wp.answer("GET /%d" % i, "200 OK", "old %d" % i)
    for i in range(3):
        assert client.rx() == (200, b"old %d" % i)


def test_a_script_that_fails_lets_the_request_pass(rig):
    o = rig.origin()
    g = rig.gateway(filters=[lua("function envoy_on_request(h) local x = nil; x.y = 1 end")])
    c = g.client()
    c.get("/")
    o.answer("GET /", "200 OK", "fine")
    assert c.rx() == (200, b"fine")
    g.wait_log(r"\[error\].*attempt to index")


def test_a_script_with_a_syntax_error_is_refused_at_the_start(rig):
    rig.origin()
    code, out = rig.check(rig.bootstrap(filters=[lua("function envoy_on_request(")]))
    assert code != 0
    assert "near" in out

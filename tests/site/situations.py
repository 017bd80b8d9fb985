"""The situations, by the sections of the fallback's rules. w.P and w.F are the taps, w.direct_p and w.direct_f ask the origins."""
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.parse

from run import alike, eq, rss, situation, until

MB = 1 << 20


def make_cert():
    d = tempfile.mkdtemp(prefix="postern-site-cert-")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", "/CN=example.com", "-addext",
                    "subjectAltName=DNS:example.com", "-keyout", d + "/k", "-out", d + "/c"], check=True, capture_output=True)
    return d + "/c", d + "/k"


def asked(tap):
    return [(m, t) for m, t, _ in tap.requests()]


def only_p(w):
    assert w.F.opened == 0 and not w.F.sent, "the fallback was contacted"


def client(w, proto):
    return {"h1": lambda: w.h1(), "tls": lambda: w.h1(True), "h2": lambda: w.h2()}[proto]()


def via(w, proto, *a, **k):
    if proto == "1.0":
        return w.ask(*a, version="1.0", **k)
    c = client(w, proto)
    try:
        return c.ask(*a, **k)
    finally:
        c.close()


HTTPS = [("X-Forwarded-Proto", "https")]
PROTO = ("h1", "1.0", "tls", "h2")
# name, section, method, target, who wins
BASE = [
    ("home page", 2, "GET", "/", "P"), ("page of both", 2, "GET", "/both/", "P"), ("redirect of the bucket", 2, "GET", "/dir", "P"),
    ("3 MB object", 2, "GET", "/big.bin", "P"), ("percent-encoded object", 11, "GET", "/caf%C3%A9.html", "P"),
    ("old post", 3, "GET", "/old-post/", "F"), ("trailing slash of WordPress", 3, "GET", "/old-post", "F"),
    ("upload", 3, "GET", "/wp-content/uploads/photo.bin", "F"), ("feed", 3, "GET", "/feed/", "F"),
    ("2 MB page of WordPress", 3, "GET", "/big/", "F"), ("login page", 3, "GET", "/wp-login.php", "F"),
    ("dashboard redirects to login", 3, "GET", "/wp-admin/", "F"), ("post in another script", 11, "GET", "/%E6%97%A5%E6%9C%AC/", "F"),
    ("search", 11, "GET", "/index.php?s=text&x=1&x=2", "F"), ("both miss", 4, "GET", "/nope", "404"),
    ("both miss, with slash", 4, "GET", "/nope/deeper/", "404"),
    ("HEAD of a hit", 5, "HEAD", "/big.bin", "P"), ("HEAD of an upload", 5, "HEAD", "/wp-content/uploads/photo.bin", "F"),
    ("HEAD of a post", 5, "HEAD", "/old-post/", "F"), ("HEAD of a both-miss", 5, "HEAD", "/nope", "404"),
]


def base(name, section, method, target, who, proto):
    @situation(section, "%s, %s" % (name, proto))
    def _(w):
        a = via(w, proto, method, target)
        if who in ("P", "404"):
            d = w.direct_p(method, target)
        else:
            d = w.direct_f(method, target, HTTPS if proto in ("tls", "h2") else ())
        if name == "dashboard redirects to login" and a.one("location"):
            a.headers = [(n, v) for n, v in a.headers if n.lower() != "location"]  # carries the scheme, judged elsewhere
            d.headers = [(n, v) for n, v in d.headers if n.lower() != "location"]
        alike(a, d, method == "HEAD")
        if method == "HEAD":
            eq(a.body, b"", "body")
        eq(asked(w.P), [(method, target)], "asked of the primary")
        if who == "P":
            only_p(w)
        else:
            eq(asked(w.F), [(method, target)], "asked of the fallback")


for row in BASE:
    for p in PROTO:
        base(*row, p)


@situation(4, "4xx of the fallback other than 404 wins; 500, 410, 403 too")
def _(w):
    for s in (400, 401, 403, 410, 500, 503):
        a = w.ask("GET", "/echo.php?s=%d" % s)
        eq(a.status, s, "status")
        assert json.loads(a.body)["m"] == "GET"


@situation(5, "HEAD leaves the connection usable")
def _(w):
    c = w.h1()
    for t, s in (("/big.bin", 200), ("/nope", 404), ("/old-post/", 200), ("/wp-content/uploads/photo.bin", 200)):
        eq(c.ask("HEAD", t).status, s, t)
        eq(c.ask("GET", "/style.css").body, b"a:b\n", "the next answer")


def conditional(name, target, fields, who):
    for proto in ("h1", "h2"):
        @situation(6, "%s, %s" % (name, proto))
        def _(w):
            o = w.direct_p if who == "P" else w.direct_f
            first = o("GET", target, HTTPS if proto == "h2" and who == "F" else ())
            f = [(n, first.one(v) if v in ("etag", "last-modified") else v) for n, v in fields]
            assert all(v for _, v in f), "the origin has no validator"
            a = via(w, proto, "GET", target, f)
            d = o("GET", target, f + (HTTPS if proto == "h2" and who == "F" else []))
            alike(a, d)
            tap = w.P
            sent = {n.lower(): v for n, v in tap.requests()[0][2]}
            for n, v in f:
                eq(sent.get(n.lower()), v, n)
            if who == "F":
                sent = {n.lower(): v for n, v in w.F.requests()[0][2]}
                for n, v in f:
                    eq(sent.get(n.lower()), v, n)
            else:
                only_p(w)


for n, t, f, who in (
        ("If-None-Match on a hit is 304", "/style.css", [("If-None-Match", "etag")], "P"),
        ("If-Modified-Since on a hit", "/style.css", [("If-Modified-Since", "last-modified")], "P"),
        ("another etag on a hit", "/style.css", [("If-None-Match", '"no"')], "P"),
        ("If-Match that fails on a hit", "/style.css", [("If-Match", '"no"')], "P"),
        ("If-None-Match on an upload is 304", "/wp-content/uploads/photo.bin", [("If-None-Match", "etag")], "F"),
        ("If-Modified-Since on an upload", "/wp-content/uploads/photo.bin", [("If-Modified-Since", "last-modified")], "F"),
        ("feed with both validators is 304", "/feed/", [("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")], "F"),
        ("range on a hit", "/big.bin", [("Range", "bytes=100-299")], "P"),
        ("range at the end of a hit", "/big.bin", [("Range", "bytes=-5")], "P"),
        ("range past the end of a hit is 416", "/big.bin", [("Range", "bytes=99999999-")], "P"),
        ("range on an upload", "/wp-content/uploads/photo.bin", [("Range", "bytes=100-299")], "F"),
        ("range past the end of an upload is 416", "/wp-content/uploads/photo.bin", [("Range", "bytes=99999999-")], "F"),
        ("If-Range that holds", "/wp-content/uploads/photo.bin", [("Range", "bytes=0-9"), ("If-Range", "etag")], "F"),
        ("If-Range that fails", "/wp-content/uploads/photo.bin", [("Range", "bytes=0-9"), ("If-Range", '"no"')], "F"),
        ("two ranges on an upload", "/wp-content/uploads/photo.bin", [("Range", "bytes=0-9,20-29"), ("X-A", "1")], "F")):
    if n.startswith("two ranges"):
        continue  # the boundary differs each time
    conditional(n, t, f, who)


@situation(6, "the 404 page's own etag gives no 304")
def _(w):
    d = w.direct_p("GET", "/nope")
    a = w.ask("GET", "/nope", [("If-None-Match", d.one("etag")), ("If-Modified-Since", d.one("last-modified"))])
    eq(a.status, 404, "status")
    eq(a.body, d.body, "body")


@situation(7, "a range does not cut the 404 page")
def _(w):
    a = w.ask("GET", "/nope", [("Range", "bytes=0-9")])
    eq((a.status, a.body), (404, w.direct_p("GET", "/nope").body), "page")


@situation(7, "multiple ranges of an upload")
def _(w):
    a = w.ask("GET", "/wp-content/uploads/photo.bin", [("Range", "bytes=0-9,20-29")])
    eq(a.status, 206, "status")
    assert a.one("content-type").startswith("multipart/byteranges")


def sizes(n, proto):
    @situation(8, "POST of %d bytes, %s" % (n, proto))
    def _(w):
        body = os.urandom(min(n, 4096)) * (n // 4096) if n > 4096 else os.urandom(n)
        a = via(w, proto, "POST", "/echo.php?q=1", (), body)
        j = json.loads(a.body)
        eq((a.status, j["m"], j["len"], j["sha"], j["uri"]), (200, "POST", len(body), hashlib.sha1(body).hexdigest(), "/echo.php?q=1"), "echo")
        assert not w.P.sent, "the primary was asked"
        if n:
            eq(j["h"].get("Content-Length"), str(len(body)), "length")
        eq(w.F.sent.count(b"POST /echo.php"), 1, "asked")


for n in (0, 1, 5000, 200 << 10, 20 * MB):
    for p in PROTO:
        sizes(n, p)


@situation(8, "a chunked POST stays chunked")
def _(w):
    c = w.h1()
    c.send(b"POST /echo.php HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    time.sleep(0.2)
    assert b"hello" in w.F.sent, "the first bytes wait for the last"
    c.send(b"6\r\n world\r\n0\r\n\r\n")
    j = json.loads(c.answer().body)
    eq((j["len"], j["sha"]), (11, hashlib.sha1(b"hello world").hexdigest()), "body")
    assert b"transfer-encoding: chunked" in w.F.sent.lower() and b"content-length" not in w.F.sent.lower()


@situation(8, "a 20 MB upload grows the gateway by little")
def _(w):
    before = rss(w.proc.pid)
    body = b"u" * (20 * MB)
    peak = [before]
    with concurrent.futures.ThreadPoolExecutor(1) as ex:
        f = ex.submit(w.ask, "POST", "/echo.php", (), body)
        while not f.done():
            peak[0] = max(peak[0], rss(w.proc.pid))
            time.sleep(0.02)
    eq(json.loads(f.result().body)["len"], len(body), "length")
    assert peak[0] - before < 4096, "grew by %d KiB" % (peak[0] - before)


for m in ("PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
    def _(w, m=m):
        a = w.ask(m, "/echo.php", (), b"abc" if m in ("PUT", "PATCH") else None)
        j = json.loads(a.body)
        eq((a.status, j["m"]), (200, m), "echo")
        assert not w.P.sent, "the primary was asked"
    situation(8, m + " goes to the fallback alone")(_)


@situation(8, "OPTIONS preflight, fallback alone")
def _(w):
    a = w.ask("OPTIONS", "/wp-json/", [("Origin", "http://a.example"), ("Access-Control-Request-Method", "GET")])
    alike(a, w.direct_f("OPTIONS", "/wp-json/", [("Origin", "http://a.example"), ("Access-Control-Request-Method", "GET")]))
    assert not w.P.sent


@situation(8, "a POST that the fallback does not know is its own 404, asked once")
def _(w):
    a = w.ask("POST", "/nope", [("Content-Type", "application/x-www-form-urlencoded")], b"a=1")
    eq(a.status, 404, "status")
    assert b"Old site" in a.body, "not WordPress's page"
    eq(asked(w.F), [("POST", "/nope")], "asked")
    assert not w.P.sent


@situation(8, "POST to a path that the bucket has")
def _(w):
    a = w.ask("POST", "/both/", [("Content-Type", "application/x-www-form-urlencoded")], b"a=1")
    eq(a.status, 200, "status")
    assert b"WORDPRESS both" in a.body
    assert not w.P.sent


for m in ("CONNECT", "TRACE"):
    def _(w, m=m):
        c = w.h1()
        c.send(b"%s %s HTTP/1.1\r\nHost: example.com\r\n\r\n" % (m.encode(), b"example.com:80" if m == "CONNECT" else b"/"))
        a = c.answer()
        assert 400 <= a.status < 600, a.status
        assert not w.P.sent and not w.F.sent
    situation(8, m + " is refused")(_)


@situation(8, "Expect: 100-continue of an upload")
def _(w):
    c = w.h1()
    c.send(b"POST /echo.php HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    st, _h, _r = c.head()
    eq(st, 100, "interim")
    c.send(b"hello")
    a = c.answer()
    eq((a.status, json.loads(a.body)["len"]), (200, 5), "answer")
    assert b"expect: 100-continue" in w.F.sent.lower()


@situation(8, "Expect with a GET does not reach the primary")
def _(w):
    c = w.h1()
    c.send(b"GET /style.css HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n")
    eq(c.answer().body, b"a:b\n", "body")
    assert b"expect" not in w.P.sent.lower()


@situation(8, "Expect and a fallback silent for a second")
def _(w):
    w.F.how = "silent"
    c = w.h1()
    t = time.monotonic()
    c.send(b"POST /echo.php HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    eq(c.head()[0], 100, "interim")
    assert time.monotonic() - t < 3
    c.send(b"hello")
    until(lambda: w.F.sent.endswith(b"hello"), "the body at the fallback")
    c.abort()


@situation(8, "a lost POST is 502 and not repeated")
def _(w):
    w.F.how = "reset"
    a = w.ask("POST", "/echo.php", (), b"abc")
    assert a.status in (502, 503), a.status
    eq(w.F.sent.count(b"POST /echo.php"), 1, "asked")
    assert not w.P.sent


@situation(8, "a client that stops in mid-body")
def _(w):
    c = w.h1()
    c.send(b"POST /echo.php HTTP/1.1\r\nHost: example.com\r\nContent-Length: 50\r\n\r\nhello")
    until(lambda: b"hello" in w.F.sent, "the first bytes")
    c.close()
    until(lambda: w.F.ended >= 1, "the end of the fallback's request", 2)


@situation(8, "GET with a body on a miss")
def _(w):
    a = w.ask("GET", "/echo.php", (), b"abcdef")
    eq(a.status, 200, "status")
    eq(json.loads(a.body)["len"], 6, "the body at the fallback")


@situation(9, "login sets its cookies")
def _(w):
    form = urllib.parse.urlencode({"log": "admin", "pwd": w.args.password, "wp-submit": "Log In", "testcookie": "1", "redirect_to": "/wp-admin/"}).encode()
    f = [("Content-Type", "application/x-www-form-urlencoded"), ("Cookie", "wordpress_test_cookie=WP%20Cookie%20check")]
    a, d = w.ask("POST", "/wp-login.php", f, form), w.direct_f("POST", "/wp-login.php", f, form)
    eq(a.status, 302, "status")
    eq([v.split("=")[0] for v in a.all("set-cookie")], [v.split("=")[0] for v in d.all("set-cookie")], "cookies")
    eq(len(a.all("set-cookie")), 4, "number")
    jar = "; ".join(v.split(";")[0] for v in a.all("set-cookie"))
    b = w.ask("GET", "/wp-admin/profile.php", [("Cookie", jar)])
    eq(b.status, 200, "dashboard")
    assert b"admin" in b.body
    dr = w.ask("GET", "/?p=%s&preview=true" % draft_id(w, jar), [("Cookie", jar + "; wp=1")])
    assert b"DRAFT" in dr.body, "the draft"


def draft_id(w, jar):
    b = w.ask("GET", "/wp-admin/edit.php?post_status=draft", [("Cookie", jar)])
    return re.search(rb'id="post-(\d+)"', b.body).group(1).decode()


@situation(9, "login over TLS and HTTP/2 sets secure cookies")
def _(w):
    form = urllib.parse.urlencode({"log": "admin", "pwd": w.args.password, "testcookie": "1"}).encode()
    a = via(w, "h2", "POST", "/wp-login.php", [("Content-Type", "application/x-www-form-urlencoded"), ("Cookie", "a=1"), ("Cookie", "wordpress_test_cookie=WP%20Cookie%20check")], form)
    eq((a.status, len(a.all("set-cookie"))), (302, 4), "cookies")
    assert any("secure" in v.lower() for v in a.all("set-cookie"))


@situation(9, "repeated request fields, both origins, in order")
def _(w):
    f = [("X-A", "1"), ("Accept-Language", "de"), ("X-A", "2"), ("Accept-Language", "en"), ("X-A", "3")]
    w.ask("GET", "/echo.php", f)
    for tap in (w.P, w.F):
        h = tap.requests()[0][2]
        eq([v for n, v in h if n.lower() == "x-a"], ["1", "2", "3"], "X-A")
        eq([v for n, v in h if n.lower() == "accept-language"], ["de", "en"], "Accept-Language")


@situation(9, "repeated response fields")
def _(w):
    a = w.ask("GET", "/echo.php")
    eq(a.all("x-two"), ["a", "b"], "X-Two")
    a = w.ask("GET", "/old-post/")
    eq(a.all("link"), w.direct_f("GET", "/old-post/").all("link"), "Link")
    assert len(a.all("link")) >= 2


@situation(9, "both origins get the same fields and request id")
def _(w):
    w.ask("GET", "/nope", [("User-Agent", "x"), ("Cookie", "a=b"), ("X-Y", "z"), ("Authorization", "Basic YTpi")])
    p, f = w.P.requests()[0][2], w.F.requests()[0][2]
    f.remove(("x-forwarded-host", "example.com"))  # what a site behind a gateway wants to know, a bucket does not
    eq([(n.lower(), v) for n, v in p], [(n.lower(), v) for n, v in f], "fields")
    eq(p.get("x-forwarded-for"), "127.0.0.1", "X-Forwarded-For")
    eq(p.get("x-forwarded-proto"), "http", "X-Forwarded-Proto")
    eq(p.get("host"), "example.com", "Host")
    assert p.get("x-request-id")


for proto in ("tls", "h2"):
    def _(w, proto=proto):
        a = via(w, proto, "GET", "/echo.php", [("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "6.6.6.6")])
        h = {n.lower(): v for n, v in json.loads(a.body)["h"].items()}
        eq(h["x-forwarded-proto"], "https", "X-Forwarded-Proto")
        assert h["x-forwarded-for"].endswith("127.0.0.1"), h["x-forwarded-for"]
        eq(h["host"], "example.com", "Host")
        eq(h.get("x-forwarded-host", "example.com"), "example.com", "X-Forwarded-Host")
    situation(9, "X-Forwarded-* tell the truth, " + proto)(_)


@situation(9, "a client's X-Forwarded-Proto is not believed")
def _(w):
    a = w.ask("GET", "/echo.php", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example")])
    h = {n.lower(): v for n, v in json.loads(a.body)["h"].items()}
    eq(h["x-forwarded-proto"], "http", "X-Forwarded-Proto")
    eq(h.get("x-forwarded-host", "example.com"), "example.com", "X-Forwarded-Host")


@situation(9, "hop-by-hop fields go no further")
def _(w):
    w.ask("GET", "/echo.php", [("Connection", "X-Hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("TE", "gzip, trailers"), ("Proxy-Connection", "keep-alive")])
    for tap in (w.P, w.F):
        h = tap.requests()[0][2]
        for n in ("x-hop", "keep-alive", "proxy-connection", "upgrade"):
            assert n not in h, n
        assert h.get("te", "trailers") == "trailers", h.get("te")


@situation(9, "no via by default")
def _(w):
    a = w.ask("GET", "/echo.php")
    assert not a.all("via") and "via" not in w.F.requests()[0][2] and "via" not in w.P.requests()[0][2]


@situation(9, "Authorization reaches both")
def _(w):
    w.ask("GET", "/nope", [("Authorization", "Basic YTpi")])
    eq(w.P.requests()[0][2].get("authorization"), "Basic YTpi", "P")
    eq(w.F.requests()[0][2].get("authorization"), "Basic YTpi", "F")


@situation(9, "nothing of the bucket's 404 leaks into a page of WordPress")
def _(w):
    a = w.ask("GET", "/old-post/")
    for n in ("x-garage-error", "etag", "last-modified", "accept-ranges"):
        assert not a.all(n), n


@situation(9, "nothing of WordPress's 404 leaks into the bucket's")
def _(w):
    a = w.ask("GET", "/nope")
    for n in ("link", "cache-control", "expires", "set-cookie", "server", "x-powered-by"):
        assert not [v for v in a.all(n) if n != "server" or "nginx" in v], n
    eq(a.one("x-garage-error"), "API error: Key not found", "x-garage-error")


@situation(9, "a cookie override is private")
def _(w):
    a = w.ask("GET", "/both/", [("Cookie", "wp=1")])
    assert "private" in (a.one("cache-control") or ""), a.headers
    b = w.ask("GET", "/both/", [("X-WP", "1")])
    assert "private" in (b.one("cache-control") or ""), b.headers
    c = w.ask("GET", "/both/?wp=1")
    assert "private" not in (c.one("cache-control") or "")


@situation(10, "no Accept-Encoding of the gateway's own")
def _(w):
    w.ask("GET", "/nope")
    assert "accept-encoding" not in w.P.requests()[0][2] and "accept-encoding" not in w.F.requests()[0][2]


@situation(10, "gzip asked for is passed as it is")
def _(w):
    f = [("Accept-Encoding", "gzip, br")]
    alike(w.ask("GET", "/feed/", f), w.direct_f("GET", "/feed/", f))
    eq(w.F.requests()[0][2].get("accept-encoding"), "gzip, br", "Accept-Encoding")


@situation(10, "chunked pages for an HTTP/1.0 client end with the connection")
def _(w):
    c = w.h1()
    a = c.ask("GET", "/old-post/", version="1.0")
    assert not a.all("transfer-encoding"), a.headers
    eq(a.body, w.direct_f("GET", "/old-post/").body, "body")


@situation(10, "304 and HEAD have no body on one connection")
def _(w):
    e = w.direct_p("GET", "/style.css").one("etag")
    c = w.h1()
    for _ in range(3):
        eq(c.ask("GET", "/style.css", [("If-None-Match", e)]).status, 304, "status")
        eq(c.ask("GET", "/old-post/").status, 200, "next")


TARGETS = ["/a%2Fb", "/%c3%a9", "/%C3%A9", "/a+b", "/a;b=1;c", "//double//slash", "/x?a=1&a=2&b=%20+", "/x?" + "q=" + "a" * 7000, "/a%2e%2e/b", "/./a/../b", "/a~%7E",
           "/%E6%97%A5%E6%9C%AC/%20x", "/x?url=http://h/p?y=1%26z", "/a%2Bb.nope", "/?empty=", "/x??y", "/a:b@c!$&'()*,=", "/caf%C3%A9-nope/"]
for t in TARGETS:
    for proto in ("h1", "h2"):
        def _(w, t=t, proto=proto):
            via(w, proto, "GET", t)
            eq([x for _, x in asked(w.P)], [t], "primary")
            if t != "/?empty=":
                eq([x for _, x in asked(w.F)], [t], "fallback")
        situation(11, "target %s, %s" % (t[:30], proto))(_)


@situation(11, "an alias host that the bucket does not know")
def _(w):
    a = w.ask("GET", "/old-post/", host="www.example.com")
    d = w.direct_f("GET", "/old-post/", host="www.example.com")
    alike(a, d)
    eq(a.status, 301, "WordPress's canonical redirect")
    eq(w.P.requests()[0][2].get("host"), "www.example.com", "Host")
    eq(w.F.requests()[0][2].get("host"), "www.example.com", "Host")


@situation(11, "Host with a port, upper case")
def _(w):
    a = w.ask("GET", "/", host="EXAMPLE.com:80")
    assert a.status < 500
    eq(w.P.requests()[0][2].get("host"), "EXAMPLE.com:80", "Host")


OVER = [("/both/?wp=1", [], True), ("/both/?a=1&wp=1", [], True), ("/both/?w%70=%31", [], True), ("/both/?xwp=1", [], False), ("/both/?wp=10", [], False),
        ("/both/?a=wp=1", [], False), ("/both/?wp=0&wp=1", [], True), ("/both/?WP=1", [], False), ("/both/?wp", [], False), ("/both/?wp=1+", [], False),
        ("/both/", [("Cookie", "wp=1")], True), ("/both/", [("Cookie", "a=b; wp=1;c=d")], True), ("/both/", [("Cookie", "a=b"), ("Cookie", "wp=1")], True),
        ("/both/", [("Cookie", "xwp=1")], False), ("/both/", [("Cookie", "wp=10")], False), ("/both/", [("Cookie", "a=wp=1")], False), ("/both/", [("Cookie", "a=1;  wp=1")], True),
        ("/both/", [("X-WP", "1")], True), ("/both/", [("X-WP", "2")], False)]
for t, f, yes in OVER:
    for proto in ("h1", "h2"):
        def _(w, t=t, f=f, yes=yes, proto=proto):
            a = via(w, proto, "GET", t, f)
            eq(a.status, 200, "status")
            eq(b"WORDPRESS both" in a.body, yes, "from WordPress")
            eq((len(asked(w.P)), len(asked(w.F))), (0, 1) if yes else (1, 0), "asked")
        situation(12, "override %s %s, %s" % (t, f, proto))(_)


@situation(12, "an override's 404 is WordPress's, asked once, primary not at all")
def _(w):
    a = w.ask("GET", "/nope?wp=1")
    eq(a.status, 404, "status")
    alike(a, w.direct_f("GET", "/nope?wp=1"))
    eq((len(asked(w.P)), len(asked(w.F))), (0, 1), "asked")


@situation(12, "override for HEAD and POST")
def _(w):
    eq(w.ask("HEAD", "/both/?wp=1").status, 200, "HEAD")
    eq(w.ask("POST", "/both/?wp=1", [("Content-Type", "application/x-www-form-urlencoded")], b"x=1").status, 200, "POST")
    assert not w.P.sent


def flows(proto):
    @situation(13, "a slow page streams, " + proto)
    def _(w):
        t0 = time.monotonic()
        if proto == "h2":
            c = w.h2()
            sid = c.start("GET", "/stream.php")
            c.c.data(sid, 1)
            first = time.monotonic() - t0
            a = c.finish(sid)
        else:
            c = w.h1(proto == "tls")
            c.send(b"GET /stream.php HTTP/1.1\r\nHost: example.com\r\n\r\n")
            c.head()
            while b"tick 0" not in c.buf:
                assert c.more()
            first = time.monotonic() - t0
            while b"tick 4" not in c.buf:
                assert c.more()
        total = time.monotonic() - t0
        assert first < 0.7 < total, "first byte after %.2f of %.2f s" % (first, total)


for p in ("h1", "tls", "h2"):
    flows(p)


@situation(13, "50 MB of the fallback grow the gateway by little")
def _(w):
    before = rss(w.proc.pid)
    peak = before
    with concurrent.futures.ThreadPoolExecutor(1) as ex:
        f = ex.submit(w.ask, "GET", "/big.php")
        while not f.done():
            peak = max(peak, rss(w.proc.pid))
            time.sleep(0.02)
    eq(len(f.result().body), 800 * 65536, "length")
    assert peak - before < 6144, "grew by %d KiB" % (peak - before)


@situation(13, "a client that stops reading stops the fallback")
def _(w):
    before = rss(w.proc.pid)
    c = w.h1()
    c.send(b"GET /big.php HTTP/1.1\r\nHost: example.com\r\n\r\n")
    c.head()
    time.sleep(1.5)
    assert rss(w.proc.pid) - before < 6144, "grew"
    a, ok = c.take(1000)
    assert ok
    c.close()
    until(lambda: w.F.ended >= 1, "the fallback's end", 2)


def leave_while(w, target, origin):
    """A client resets its connection while that origin is asked: the request there ends within a second."""
    c = w.h1()
    c.send(b"GET " + target + b" HTTP/1.1\r\nHost: example.com\r\n\r\n")
    until(lambda: origin.sent, "the request")
    c.abort()
    until(lambda: origin.ended >= 1, "the end of the request", 1)


@situation(13, "a client that goes away closes the fallback's request")
def _(w):
    leave_while(w, b"/slow.php?n=3", w.F)


@situation(13, "an HTTP/2 client that resets closes the fallback's request")
def _(w):
    c = w.h2()
    sid = c.start("GET", "/slow.php?n=3")
    until(lambda: w.F.sent, "the request")
    c.c.reset(sid)
    until(lambda: w.F.ended >= 1, "the fallback's end", 1)
    eq(c.ask("GET", "/style.css").body, b"a:b\n", "the connection lives")


for proto in ("h1", "1.0", "tls", "h2"):
    def _(w, proto=proto):
        w.F.how = "cut:20000"
        a = via(w, proto, "GET", "/old-post/")
        if proto == "1.0":
            assert a.cut or len(a.body) < 60000
        else:
            assert a.cut, "a complete-looking short answer"
        assert len(a.body) > 1000, "nothing of what came was passed"
    situation(13, "a chunked page cut in mid-body is visible, " + proto)(_)
    if proto != "1.0":
        def _(w, proto=proto):
            w.F.how = "cut:500000"
            a = via(w, proto, "GET", "/wp-content/uploads/photo.bin")
            assert a.cut and 0 < len(a.body) < 2 * MB
        situation(13, "an upload cut in mid-body is visible, " + proto)(_)
        def _(w, proto=proto):
            w.P.how = "cut:500000"
            a = via(w, proto, "GET", "/big.bin")
            assert a.cut and 0 < len(a.body) < 3 * MB
            only_p(w)
        situation(13, "an object cut in mid-body is visible, " + proto)(_)

FAULTS = [("refuses", "refuse"), ("resets before the head", "reset"), ("garbage", "garbage"), ("bad framing", "framing")]
for name, how in FAULTS:
    for proto in ("h1", "h2"):
        def _(w, how=how, proto=proto):
            w.F.how = how
            a = via(w, proto, "GET", "/nope")
            d = w.direct_p("GET", "/nope")
            eq((a.status, a.body), (404, d.body), "the bucket's page")
            eq(a.one("cache-control"), "no-store", "cache-control")
            assert not a.all("etag") and not a.all("last-modified")
        situation(14, "fallback %s: the bucket's page, %s" % (name, proto))(_)
        def _(w, how=how, proto=proto):
            w.P.how = how
            a = via(w, proto, "GET", "/old-post/")
            assert a.status in (502, 503), a.status
            only_p(w)
        situation(14, "primary %s: 50x at once, %s" % (name, proto))(_)


@situation(14, "fallback silent: the bucket's page after 5 s")
def _(w):
    w.F.how = "silent"
    t = time.monotonic()
    a = w.ask("GET", "/nope")
    t = time.monotonic() - t
    eq((a.status, a.body, a.one("cache-control")), (404, w.direct_p("GET", "/nope").body, "no-store"), "page")
    assert 4.5 < t < 7, t


@situation(14, "primary slow but answering: its page")
def _(w):
    w.P.how = "delay:5"
    eq(w.ask("GET", "/style.css").body, b"a:b\n", "body")
    only_p(w)


@situation(14, "primary 500 is delivered")
def _(w):
    w.P.how = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"
    a = w.ask("GET", "/old-post/")
    eq((a.status, a.body), (500, b"no"), "answer")
    only_p(w)


for s in (403, 410, 503, 405):
    def _(w, s=s):
        w.P.how = b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % s
        a = w.ask("GET", "/old-post/")
        eq((a.status, a.body), (s, b"no"), "answer")
        only_p(w)
    situation(3, "primary %d is no miss" % s)(_)


@situation(14, "fallback 503 with Retry-After (maintenance)")
def _(w):
    w.F.how = b"HTTP/1.1 503 No\r\nRetry-After: 600\r\nContent-Length: 2\r\n\r\nno"
    a = w.ask("GET", "/nope")
    eq((a.status, a.body, a.one("retry-after")), (503, b"no", "600"), "answer")


@situation(14, "primary's 404 breaks off, fallback has the page")
def _(w):
    w.P.how = "cut:900"
    a = w.ask("GET", "/old-post/")
    eq(a.status, 200, "status")
    assert b"WORDPRESS old-post" in a.body and not a.cut


@situation(14, "primary's 404 breaks off, fallback misses: what was held, cut")
def _(w):
    w.P.how = "cut:900"
    a = w.ask("GET", "/nope")
    eq(a.status, 404, "status")
    assert a.cut and 0 < len(a.body) < 1287


@situation(14, "client gone while the primary is slow")
def _(w):
    w.P.how = "silent"
    leave_while(w, b"/x", w.P)


@situation(15, "a WebSocket handshake goes to the fallback alone")
def _(w):
    w.F.how = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw-back"
    c = w.h1()
    c.send(b"GET /ws HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n")
    eq(c.head()[0], 101, "status")
    data, ok = c.take(8)
    eq(data, b"raw-back", "raw bytes")
    c.send(b"\x81\x05hello")
    until(lambda: w.F.sent.endswith(b"\x81\x05hello"), "raw bytes at the fallback")
    assert not w.P.sent
    c.close()
    until(lambda: w.F.ended >= 1, "the end")


@situation(15, "WordPress refuses a WebSocket: its answer")
def _(w):
    a = w.ask("GET", "/old-post/", [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13")])
    eq(a.status, 200, "status")
    assert b"WORDPRESS old-post" in a.body and not w.P.sent


@situation(15, "an upgrade to something else is an ordinary request")
def _(w):
    a = w.ask("GET", "/style.css", [("Connection", "Upgrade"), ("Upgrade", "h2c")])
    eq((a.status, a.body), (200, b"a:b\n"), "answer")


@situation(15, "103 of the winner is not merged")
def _(w):
    w.F.how = b"HTTP/1.1 103 Early Hints\r\nLink: </early>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    a = w.ask("GET", "/nope")
    eq((a.status, a.body), (200, b"ok"), "answer")
    assert not a.all("link")


@situation(15, "103 of the losing primary is dropped")
def _(w):
    w.P.how = b"HTTP/1.1 103 Early Hints\r\nLink: </early>\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"
    a = w.ask("GET", "/old-post/")
    eq((a.status, a.interim), (200, []), "answer")
    assert "</early>" not in "".join(a.all("link"))


MIX = [("/style.css", b"a:b\n"), ("/old-post/", b"WORDPRESS old-post"), ("/nope", b"STATIC 404"), ("/both/", b"STATIC both"), ("/both/?wp=1", b"WORDPRESS both"), ("/about/", b"WORDPRESS PAGE")]


@situation(16, "pipelined requests are answered in order")
def _(w):
    c = w.h1()
    c.send(b"".join(b"GET %s HTTP/1.1\r\nHost: example.com\r\n\r\n" % t.encode() for t, _ in MIX * 3))
    for t, want in MIX * 3:
        a = c.answer()
        assert want in a.body, t


@situation(16, "many requests on one connection")
def _(w):
    for proto in ("h1", "tls"):
        c = client(w, proto)
        for t, want in MIX * 10:
            assert want in c.ask("GET", t).body, t


@situation(16, "60 streams at once on one connection")
def _(w):
    c = w.h2()
    ids = [(c.start("GET", t), want) for t, want in MIX * 10]
    for sid, want in ids:
        a = c.finish(sid)
        assert want in a.body, (a.status, want)


@situation(16, "40 connections at once")
def _(w):
    def one(i):
        c = client(w, ("h1", "tls", "h2")[i % 3])
        for t, want in MIX[i % 6:] + MIX[:i % 6]:
            a = c.ask("GET", t)
            assert want in a.body, (t, a.status)
        c.close()
    with concurrent.futures.ThreadPoolExecutor(40) as ex:
        list(ex.map(one, range(40)))


@situation(16, "HTTP/1.0 with keep-alive")
def _(w):
    c = w.h1()
    for _ in range(3):
        a = c.ask("GET", "/style.css", [("Connection", "keep-alive")], version="1.0")
        eq(a.body, b"a:b\n", "body")
    a = c.ask("GET", "/old-post/", [("Connection", "keep-alive")], version="1.0")
    assert b"WORDPRESS old-post" in a.body and not a.all("transfer-encoding")


def cost(name, target, n_f, proto):
    @situation(17, "40 %s one after the other, %s" % (name, proto))
    def _(w):
        c = client(w, proto)
        for _ in range(40):
            c.ask("GET", target)
        eq((len(asked(w.P)), len(asked(w.F))), (40, n_f), "asked")
        assert w.P.opened <= 2 and w.F.opened <= 2, "connections: %d, %d" % (w.P.opened, w.F.opened)


for p in ("h1", "tls", "h2"):
    cost("hits", "/style.css", 0, p)
    cost("misses", "/about/", 40, p)
    cost("both-misses", "/nope", 40, p)


@situation(17, "HEAD: 40 both-misses")
def _(w):
    c = w.h1()
    for _ in range(40):
        eq(c.ask("HEAD", "/nope").status, 404, "status")
    assert w.P.opened <= 2 and w.F.opened <= 2, "connections: %d, %d" % (w.P.opened, w.F.opened)


@situation(17, "each answer on a client connection of its own: the origins' connections are reused")
def _(w):
    for _ in range(30):
        eq(w.ask("GET", "/nope").status, 404, "status")
    eq((len(asked(w.P)), len(asked(w.F))), (30, 30), "asked")
    assert w.P.opened <= 3 and w.F.opened <= 3, "connections: %d, %d" % (w.P.opened, w.F.opened)

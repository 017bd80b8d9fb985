"""postern without YAML: --static, --primary, --fallback (spec/fallback.md 23)."""
import json
import subprocess

import pytest
import yaml

from rig import ROOT, until


def run(rig, *args, probe=False, tls=None):
    """postern run with flags, on rig.port; the rig's own file is not used."""
    form = ["run", "--no-supervise", "--admin", "127.0.0.1:%d" % rig.admin_port, "--listen", "127.0.0.1:%d" % rig.port]
    config = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": rig.admin_port}}}}
    return rig.start(config, form=form + list(args) + ([] if probe else ["--no-probe"]))


def url(origin):
    return "http://127.0.0.1:%d" % origin.port


def call(rig, *args):
    p = subprocess.run([rig.binary] + list(args), cwd=ROOT, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    return p.returncode, p.stdout, p.stderr


OVERRIDE = ["--override", "query:wp=1", "--override", "cookie:wp=1"]


def test_a_url_as_primary(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = run(rig, "--static", url(static), "--fallback", url(wp), *OVERRIDE)
    c = g.client()
    c.get("/a//b/../c?x=%2f")
    r = static.answer("GET /a//b/../c?x=%2f", "404 Not Found", "p")
    assert r.headers.get("host") == "example.com" and r.headers.get("x-forwarded-for") == "127.0.0.1"
    assert r.headers.get("x-forwarded-proto") == "http"
    r = wp.answer("GET /a//b/../c?x=%2f", "200 OK", "w")
    assert r.headers.get("host") == "example.com" and r.headers.get("x-forwarded-for") == "127.0.0.1"
    assert c.rx() == (200, b"w")
    c.get("/x", "Cookie: wp=1", "X_Under: 1", "X-Forwarded-Proto: https")
    r = wp.answer("GET /x", "404 Not Found", "w")
    assert "x_under" not in r.headers and r.headers.get("x-forwarded-proto") == "http"
    assert c.rx() == (404, b"w")
    c.get("/hit")
    r = static.answer("GET /hit", "200 OK", "p", "X-Own: 1")
    assert not [n for n in r.headers.names() if n.startswith("x-envoy-")]
    r = c.rx()
    assert r == (200, b"p") and set(r.headers.names()) <= {"x-own", "content-length", "date", "server"}, r.headers.names()
    c.tx("POST /x HTTP/1.1\nHost: a\nContent-Length: 1\n\nb")
    wp.answer("POST /x", "200 OK", "w")
    assert c.rx() == (200, b"w")
    # HTTP/1.0, and a WebSocket
    c = g.client()
    c.tx("GET /y HTTP/1.0\nHost: a\n\n")
    static.answer("GET /y", "200 OK", "p")
    assert c.rx() == (200, b"p")
    c = g.client()
    c.tx("GET /ws HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
    wp.rx_head("GET /ws")
    wp.tx("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\n")
    assert c.rx_head().status == 101


def test_a_folder_as_primary(rig):
    wp = rig.origin("wp")
    site = rig.tmp / "site"
    site.mkdir()
    (site / "index.html").write_text("home")
    (site / "404.html").write_text("nowhere" * 10000)
    g = run(rig, "--static", str(site), "--fallback", url(wp), *OVERRIDE)
    c = g.client()
    c.get("/")
    assert c.rx() == (200, b"home")
    c.get("/old")
    wp.answer("GET /old", "200 OK", "w")
    assert c.rx() == (200, b"w")
    c.get("/gone")
    wp.answer("GET /gone", "404 Not Found", "w")
    assert c.rx() == (404, b"nowhere" * 10000)
    c.get("/?wp=1")
    wp.answer("GET /?wp=1", "200 OK", "w")
    assert c.rx() == (200, b"w")
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nb")
    assert wp.rx("POST /").body == b"b"
    wp.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


def test_a_folder_alone(rig):
    site = rig.tmp / "site"
    site.mkdir()
    (site / "index.html").write_text("home")
    g = run(rig, "--static", str(site))
    assert g.get("/") == (200, b"home")
    assert g.get("/x").status == 404


def test_a_dynamic_primary_is_tried_with_every_method(rig):
    new, old = rig.origin("new"), rig.origin("old")
    g = run(rig, "--primary", url(new), "--fallback", url(old))
    c = g.client()
    c.tx("POST /x HTTP/1.1\nHost: a\nContent-Length: 4\n\nbody")
    assert new.rx("POST /x").body == b"body"
    new.tx("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n")
    assert old.rx("POST /x").body == b"body"
    old.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200


@pytest.mark.parametrize("name,status", [("origin.example", 200), ("other.example", 404)])
def test_tls_on_both_sides_with_verification(rig, name, status):
    certs = rig.certs
    static = rig.origin("static")
    wp = rig.origin("wp", tls=certs.server("origin.example"))
    g = run(rig, "--static", url(static), "--fallback", "https://%s@127.0.0.1:%d" % (name, wp.port), "--fallback-ca", str(certs.pem("ca")),
            "--cert", str(certs.pem("a.example")), "--key", str(certs.key("a.example")), "--listen", "tls:127.0.0.1:%d" % (port := rig.free_port()))
    c = g.client(where=port, tls=certs.client())
    c.get("/x")
    assert static.answer("GET /x", "404 Not Found", "p").headers.get("x-forwarded-proto") == "https"
    if status == 200:
        wp.answer("GET /x", "200 OK", "w")
        assert wp.snis == ["origin.example"]
    else:
        with pytest.raises(Exception):
            wp.accept(2)
    assert c.rx().status == status


def test_several_fallbacks(rig):
    static, a, b = rig.origin("static"), rig.origin("a"), rig.origin("b")
    g = run(rig, "--static", url(static), "--fallback", url(a), "--fallback", url(b))
    c = g.client()
    c.get("/x")
    static.answer("GET /x", "404 Not Found", "p")
    a.answer("GET /x", "404 Not Found", "a")
    b.answer("GET /x", "200 OK", "b")
    assert c.rx() == (200, b"b")


def test_convert_prints_what_run_would_serve(rig):
    flags = ["--static", "http://127.0.0.1:3902", "--fallback", "https://example.com@10.0.0.5:8443", "--host", "example.com", *OVERRIDE,
             "--listen", "127.0.0.1:8080"]
    status, out, err = call(rig, "convert", *flags)
    assert status == 0, err
    tree = yaml.safe_load(out)
    cluster = tree["static_resources"]["clusters"][1]
    assert cluster["transport_socket"]["typed_config"]["sni"] == "example.com"
    fallback = tree["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]
    assert fallback["typed_config"]["other_methods"] == "DIRECT"
    assert fallback["typed_config"]["override"] == [{"query": {"name": "wp", "exact": "1"}}, {"cookie": {"name": "wp", "exact": "1"}}]
    status, checked = rig.check(out)
    assert status == 0, checked
    assert call(rig, "check", *flags)[0] == 0


@pytest.mark.parametrize("args,text", [
    (["--fallback", "http://a"], "--static or --primary is missing"),
    (["--static", "ftp://a", "--fallback", "http://a"], "must begin with http://"),
    (["--static", "http://a", "--fallback", "http://a/blog"], "has a path"),
    (["--static", "http://a", "--fallback", "http://a:99999"], "no valid port"),
    (["--static", "/no/such/folder"], "neither a URL nor a folder"),
    (["--static", "http://a", "--fallback", "http://b", "--override", "wp=1"], "must be query:NAME=VALUE"),
    (["--static", "http://a", "--fallback", "http://b", "--listen", "tls:443"], "needs --cert and --key"),
    (["--static", "http://a", "--fallback", "http://b", "--listen", "here"], "must be [tls:]"),
    (["--static", "http://a", "--primary", "http://b"], "there is a primary already"),
    (["--static", "http://a", "-c", "x.yaml"], "either a configuration file"),
])
def test_mistakes_are_explained(rig, args, text):
    status, out, err = call(rig, "check", *args)
    assert status == 2 and text in err


NOWHERE = "/.well-known/postern-probe"


def test_the_probe_tells_what_follows(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = run(rig, "--static", url(static), "--fallback", url(wp), "--host", "example.com", probe=True)
    r = static.answer("GET " + NOWHERE, "403 Forbidden", "")
    assert r.headers.get("host") == "example.com" and r.headers.get("user-agent") == "postern-probe"
    r = static.answer("POST " + NOWHERE, "400 Bad Request", "")
    assert r.body == b"" and r.headers.get("content-length") == "0"
    assert wp.answer("GET " + NOWHERE, "200 OK", "").headers.get("host") == "example.com"
    g.wait_log(r"primary answers 403 to a path that does not exist: add 403 to trigger \(preset: s3_website\), or its misses stay 403")
    g.wait_log("primary answers 400 to POST: other methods than GET and HEAD go to the fallback")
    g.wait_log("fallback answers 200 to a path that does not exist: the primary's 404 page will not be seen")
    static.untouched()
    wp.untouched()


def test_the_probe_writes_nothing_to_a_dynamic_primary(rig):
    new, old = rig.origin("new"), rig.origin("old")
    g = run(rig, "--primary", url(new), "--fallback", url(old), probe=True)
    new.answer("GET " + NOWHERE, "302 Found", "")
    old.answer("GET " + NOWHERE, "301 Moved", "")
    g.wait_log(r"primary answers 302 to a path that does not exist: it may want another Host \(127.0.0.1:%d was asked for\)" % new.port)
    g.wait_log(r"fallback answers 301 to a path that does not exist: it may want another Host \(127.0.0.1:%d was asked for; see host_rewrite\)" % old.port)
    new.untouched()


@pytest.mark.parametrize("name", ["origin.example", "other.example"])
def test_the_probe_asks_over_tls_and_verifies(rig, name):
    certs = rig.certs
    static, wp = rig.origin("static"), rig.origin("wp", tls=certs.server("origin.example"))
    g = run(rig, "--static", url(static), "--fallback", "https://%s@127.0.0.1:%d/" % (name, wp.port), "--fallback-ca", str(certs.pem("ca")), probe=True)
    static.answer("GET " + NOWHERE, "404 Not Found", "")
    static.answer("POST " + NOWHERE, "405 No", "")
    if name == "origin.example":
        assert wp.answer("GET " + NOWHERE, "200 OK", "").headers.get("host") == name
        g.wait_log("fallback answers 200")
    else:
        with pytest.raises(Exception):
            wp.accept(2)
        g.wait_log(r"fallback https://other.example@\S+ cannot be reached \(.*(certificate|verif|TLS|mismatch).*\): visitors get the primary's 404 page")


def test_the_probe_tells_of_who_is_not_there_and_ends_with_the_program(rig):
    wp = rig.origin("wp")
    g = run(rig, "--static", "http://127.0.0.1:%d" % rig.free_port(), "--fallback", url(wp), probe=True)
    g.wait_log(r"primary \S+ cannot be reached \(.*\): visitors get an error until it does")
    wp.rx("GET " + NOWHERE)  # no answer: stopping does not wait for it
    import time
    began = time.monotonic()
    g.stop()
    assert time.monotonic() - began < 2.5


def test_an_origin_that_does_not_speak_http_is_told_of(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = run(rig, "--static", url(static), "--fallback", url(wp), probe=True)
    static.rx()
    static.tx("SSH-2.0-OpenSSH_9.2\n\n")
    g.wait_log("primary http://.* does not answer as it should")
    wp.answer("GET", "404 Not Found", "")


def test_top_in_a_terminal(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = run(rig, "--static", url(static), "--fallback", url(wp))
    c = g.client()
    for path, status in (("/old", "200 OK"), ("/dead", "404 Not Found")):
        c.get(path)
        static.answer("GET", "404 Not Found", "p")
        wp.answer("GET", status, "w")
        c.rx()
    status, out, err = call(rig, "top", "--admin", "127.0.0.1:%d" % rig.admin_port)
    assert status == 0, err
    served, dead = out.split("on neither site")
    assert "/old" in served and "/dead" in dead and "/dead" not in served
    status, out, err = call(rig, "top", "--admin", "127.0.0.1:%d" % rig.free_port())
    assert status == 1 and "no answer" in err

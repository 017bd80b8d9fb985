"""The static filter: a folder as an origin."""
import email.utils
import os

import pytest

from rig import route, static

HTML = b"<!doctype html><title>home</title>\n"


@pytest.fixture
def site(rig):
    root = rig.tmp / "site"
    (root / "docs").mkdir(parents=True)
    (root / "index.html").write_bytes(HTML)
    (root / "404.html").write_bytes(b"<title>nothing here</title>\n")
    (root / "docs" / "index.html").write_bytes(b"docs\n")
    (root / "a.css").write_bytes(b"body {}\n")
    (root / "data.json").write_bytes(b"{}")
    (root / "noise.bin").write_bytes(bytes(range(256)) * 20000)
    (root / "empty.txt").write_bytes(b"")
    (root / "with space.txt").write_bytes(b"space")
    (root / ".secret").write_bytes(b"hidden")
    (rig.tmp / "outside.txt").write_bytes(b"outside")
    os.symlink(rig.tmp / "outside.txt", root / "link.txt")
    old = email.utils.parsedate_to_datetime("Sat, 01 Jan 2022 00:00:00 GMT").timestamp()
    for f in root.rglob("*"):
        if not f.is_symlink():
            os.utime(f, (old, old))
    rig.root = root
    return rig.gateway([route("/", direct_response={"status": 503})], [
        static(root, index="index.html", not_found="404.html")])


def test_a_file_is_served_with_type_length_etag_and_date(site):
    a = site.get("/index.html")
    assert a == (200, HTML)
    assert a.headers.get("content-type").startswith("text/html")
    assert a.headers.get("content-length") == str(len(HTML))
    assert a.headers.get("last-modified") == "Sat, 01 Jan 2022 00:00:00 GMT"
    assert a.headers.get("etag").startswith('"')
    assert a.headers.get("accept-ranges") == "bytes"


@pytest.mark.parametrize("path,kind", [("/a.css", "text/css"), ("/data.json", "application/json"),
                                       ("/noise.bin", "application/octet-stream"), ("/empty.txt", "text/plain")])
def test_media_types(site, path, kind):
    assert site.get(path).headers.get("content-type").split(";")[0] == kind


def test_a_folder_has_its_index(site):
    assert site.get("/") == (200, HTML)
    assert site.get("/docs/") == (200, b"docs\n")
    a = site.get("/docs?x=1")
    assert a.status in (301, 302)
    assert a.headers.get("location").endswith("/docs/?x=1")


def test_what_is_not_there_is_the_sites_own_404(site):
    for path in ("/nope", "/docs/nope", "/nope/", "/index.html/x"):
        a = site.get(path)
        assert a == (404, b"<title>nothing here</title>\n"), path
        assert a.headers.get("content-type").startswith("text/html")


@pytest.mark.parametrize("path", ["/../outside.txt", "/docs/../../outside.txt", "/%2e%2e/outside.txt",
                                  "/..%2foutside.txt", "/%2e%2e%2foutside.txt", "/docs/..%5c..%5coutside.txt",
                                  "/./../outside.txt", "//../outside.txt", "/a.css%00.html", "/link.txt",
                                  "/docs/%2e%2e/%2e%2e/outside.txt"])
def test_no_path_leads_outside(site, path):
    a = site.get(path)
    assert a.status in (400, 403, 404), a
    assert b"outside" not in a.body


def test_an_escaped_name_is_found(site):
    assert site.get("/with%20space.txt") == (200, b"space")
    assert site.get("/%69ndex.html") == (200, HTML)


def test_head(site):
    a = site.get("/index.html", method="HEAD")
    assert a == (200, b"")
    assert a.headers.get("content-length") == str(len(HTML))
    a = site.get("/nope", method="HEAD")
    assert a == (404, b"")
    assert a.headers.get("content-length") == "28"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(site, method):
    a = site.get("/index.html", method=method, body="x")
    assert a.status == 405
    assert set(a.headers.get("allow").replace(" ", "").split(",")) >= {"GET", "HEAD"}


def test_conditional_requests(site):
    first = site.get("/a.css")
    etag, date = first.headers.get("etag"), first.headers.get("last-modified")
    a = site.get("/a.css", "If-None-Match: " + etag)
    assert a == (304, b"")
    assert a.headers.get("etag") == etag
    assert site.get("/a.css", "If-None-Match: \"x\", W/" + etag).status == 304
    assert site.get("/a.css", "If-None-Match: *").status == 304
    assert site.get("/a.css", 'If-None-Match: "other"').status == 200
    assert site.get("/a.css", "If-Modified-Since: " + date).status == 304
    assert site.get("/a.css", "If-Modified-Since: Fri, 31 Dec 2021 00:00:00 GMT").status == 200
    assert site.get("/a.css", "If-Modified-Since: nonsense").status == 200
    assert site.get("/a.css", 'If-None-Match: "other"', "If-Modified-Since: " + date).status == 200
    assert site.get("/a.css", 'If-Match: "other"').status == 412
    assert site.get("/a.css", "If-Match: " + etag).status == 200
    assert site.get("/a.css", "If-Unmodified-Since: Fri, 31 Dec 2021 00:00:00 GMT").status == 412


def test_a_404_is_never_304(site):
    etag = site.get("/404.html").headers.get("etag")
    assert site.get("/nope", "If-None-Match: " + etag).status == 404
    assert site.get("/nope", "If-None-Match: *").status == 404


@pytest.mark.parametrize("spec,status,first,length", [
    ("bytes=0-9", 206, 0, 10), ("bytes=5000000-", 206, 5000000, 120000), ("bytes=-10", 206, 5119990, 10),
    ("bytes=0-0", 206, 0, 1), ("bytes=5119999-9999999", 206, 5119999, 1), ("bytes=-9999999", 206, 0, 5120000),
    ("bytes=5120000-", 416, None, None), ("bytes=9-5", 200, 0, 5120000), ("lines=1-2", 200, 0, 5120000),
    ("bytes=a-b", 200, 0, 5120000)])
def test_ranges(site, rig, spec, status, first, length):
    data = (rig.root / "noise.bin").read_bytes()
    a = site.get("/noise.bin", "Range: " + spec)
    assert a.status == status
    if status == 416:
        assert a.headers.get("content-range") == "bytes */5120000"
        return
    assert a.body == data[first:first + length]
    if status == 206:
        assert a.headers.get("content-range") == "bytes %d-%d/5120000" % (first, first + length - 1)
        assert a.headers.get("content-length") == str(length)


def test_if_range(site):
    first = site.get("/noise.bin", "Range: bytes=0-0")
    etag = first.headers.get("etag")
    assert site.get("/noise.bin", "Range: bytes=0-3", "If-Range: " + etag).status == 206
    assert site.get("/noise.bin", "Range: bytes=0-3", 'If-Range: "old"').status == 200
    assert site.get("/noise.bin", "Range: bytes=0-3", "If-Range: Sat, 01 Jan 2022 00:00:00 GMT").status == 206


def test_a_missing_file_ignores_range(site):
    assert site.get("/nope", "Range: bytes=0-3") == (404, b"<title>nothing here</title>\n")


def test_large_files_are_whole_for_slow_and_fast_clients(site, rig):
    data = (rig.root / "noise.bin").read_bytes()
    assert site.get("/noise.bin").body == data
    c = site.client()
    c.get("/noise.bin")
    for _ in range(3):
        pass
    head = c.rx_head()
    assert int(head.headers.get("content-length")) == len(data)
    got = c.take(1000)
    got += c.take(len(data) - 1000)
    assert got == data
    assert c.get("/a.css").rx() == (200, b"body {}\n")


def test_pipelined_files(site):
    c = site.client()
    c.tx(b"GET /a.css HTTP/1.1\r\nHost: a\r\n\r\nGET /nope HTTP/1.1\r\nHost: a\r\n\r\nGET /empty.txt HTTP/1.1\r\nHost: a\r\n\r\n")
    c.methods = ["GET"] * 3
    assert c.rx() == (200, b"body {}\n")
    assert c.rx().status == 404
    assert c.rx() == (200, b"")


def test_a_changed_file_has_another_etag(site, rig):
    first = site.get("/a.css").headers.get("etag")
    (rig.root / "a.css").write_bytes(b"body { color: red }\n")
    a = site.get("/a.css")
    assert a == (200, b"body { color: red }\n")
    assert a.headers.get("etag") != first


def test_over_http_2(site, rig):
    data = (rig.root / "noise.bin").read_bytes()
    h = site.h2()
    a, b, c = h.request("GET", "/noise.bin"), h.request("GET", "/"), h.request("GET", "/nope")
    assert h.rx(b) == (200, HTML)
    assert h.rx(c).status == 404
    assert h.rx(a) == (200, data)


def test_over_tls(rig, certs):
    from rig import tls_down
    root = rig.tmp / "s"
    root.mkdir()
    data = os.urandom(3000000)
    (root / "f.bin").write_bytes(data)
    g = rig.gateway([route("/", direct_response={"status": 503})], [static(root)],
                    tls=tls_down(certs.pem("a.example"), certs.key("a.example")))
    c = g.client(tls=certs.client())
    assert c.get("/f.bin").rx() == (200, data)
    a = c.get("/nope").rx()
    assert a.status == 404


def test_the_router_may_stand_behind_it(rig):
    from rig import router
    root = rig.tmp / "s"
    root.mkdir()
    (root / "f.txt").write_bytes(b"file")
    g = rig.gateway([route("/", direct_response={"status": 503})], [static(root), router()])
    assert g.get("/f.txt") == (200, b"file")
    assert g.get("/nope").status == 404


def test_a_root_that_does_not_exist_is_a_configuration_error(rig):
    code, out = rig.check(rig.bootstrap([route("/", direct_response={"status": 503})],
                                        [static(rig.tmp / "missing")]))
    assert code != 0 and "missing" in out

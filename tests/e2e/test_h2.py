"""HTTP/2 towards clients: cleartext with prior knowledge here, over TLS in test_tls.py."""
import socket
import threading

import pytest

import h2.settings
from rig import ARTICLE, OLD_SITE, TRAILERS, cluster, lua, route, until


def test_a_request_becomes_http_1_for_the_origin(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("GET", "/a?b=c", ("x-one", "1"), ("cookie", "a=1"), ("cookie", "b=2"))
    r = o.rx("GET /a?b=c HTTP/1.1")
    assert r.headers.get("host") == "example.com"
    assert r.headers.get("x-one") == "1"
    assert r.headers.get("cookie") == "a=1; b=2"
    o.tx("HTTP/1.1 200 OK\nX-Two: 2\nSet-Cookie: a\nSet-Cookie: b\nConnection: keep-alive\nContent-Length: 5\n\nhello")
    a = h.rx(sid)
    assert a == (200, b"hello")
    assert a.headers.get("x-two") == "2"
    assert a.headers.all("set-cookie") == ["a", "b"]
    assert "connection" not in a.headers


def test_many_streams_run_at_once(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sids = [h.request("GET", "/%d" % i) for i in range(20)]
    waiting = {}
    for _ in sids:
        r = o.rx()
        waiting[r.target] = o.last
    for i in reversed(range(20)):  # answered in another order than asked
        waiting["/%d" % i].tx("HTTP/1.1 200 OK\nContent-Length: %d\n\n%d" % (len(str(i)), i))
    for i, sid in enumerate(sids):
        assert h.rx(sid) == (200, b"%d" % i)
    assert o.conns == 20


def test_a_body_without_length_is_chunked_for_the_origin(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("POST", "/", end=False)
    h.send(sid, b"one")
    conn = o.accept()
    r = conn.rx_head("POST /")
    assert r.headers.get("transfer-encoding") == "chunked"
    assert conn.chunk() == b"one"
    h.send(sid, b"two", end=True)
    assert conn.chunk() == b"two"
    assert conn.chunk() == b""
    conn.trailers()
    conn.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert h.rx(sid) == (200, b"ok")


def test_a_body_with_length_keeps_it(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("POST", "/", ("content-length", "5"), body=b"hello")
    r = o.rx("POST /")
    assert r.framing == "length" and r.body == b"hello"
    o.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert h.rx(sid) == (200, b"ok")


@pytest.mark.parametrize("length,data", [("5", b"hell"), ("3", b"hello")])
def test_a_length_that_lies_is_a_stream_error_and_never_complete(rig, length, data):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("POST", "/", ("content-length", length), body=data)
    assert h.rx_reset(sid) == 1
    try:
        conn = o.accept(0.3)
    except AssertionError:
        return
    try:
        conn.rest(0.5)
    except AssertionError:
        pass  # kept for another request
    assert not conn.buf.endswith(b"hello"[:int(length)]), "the origin saw a complete request"


def test_a_chunked_answer_and_its_trailers_arrive(rig):
    o = rig.origin()
    g = rig.gateway(clusters=[cluster("main", o.port, **TRAILERS)])
    h = g.h2()
    sid = h.request("GET", "/", ("te", "trailers"))
    assert o.rx().headers.get("te", "trailers") == "trailers"
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n")
    a = h.rx(sid)
    assert a == (200, b"hello")
    assert a.trailers == [("x-sum", "42")]


def test_large_bodies_pass_both_ways(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    body = bytes(range(256)) * 8192
    seen = []
    t = threading.Thread(target=lambda: seen.append(o.rx("POST /")))
    t.start()
    sid = h.request("POST", "/", ("content-length", str(len(body))), body=body)
    t.join()
    assert seen[0].body == body
    t = threading.Thread(target=lambda: o.tx(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    t.start()
    assert h.rx(sid) == (200, body)
    t.join()


def test_a_stream_without_window_stops_its_origin_and_no_other(rig):
    o = rig.origin()
    g = rig.gateway()
    h = g.h2(auto_credit=False)
    slow = h.request("GET", "/slow")
    o.rx("GET /slow")
    conn = o.last
    size = 32 << 20
    conn.tx("HTTP/1.1 200 OK\nContent-Length: %d\n\n" % size)
    conn.sock.setblocking(False)
    sent = [0]
    quiet = [0]

    def stuck():
        before = sent[0]
        try:
            while sent[0] < size:
                sent[0] += conn.sock.send(b"x" * min(65536, size - sent[0]))
        except BlockingIOError:
            pass
        quiet[0] = quiet[0] + 1 if sent[0] == before else 0
        return quiet[0] > 40
    until(stuck, "the origin is stopped")
    assert sent[0] < 16 << 20, sent
    h.data(slow, 65535)
    h.credit(1 << 20)  # of the connection only
    fast = h.request("GET", "/fast")
    o.answer("GET /fast", "200 OK", "fast")
    assert h.rx(fast) == (200, b"fast")
    h.reset(slow)
    conn.sock.setblocking(True)
    conn.sock.settimeout(10)
    try:
        while conn.sock.recv(65536):
            pass
    except ConnectionResetError:
        pass


def test_a_reset_stream_cancels_its_origin_request(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("GET", "/")
    o.rx()
    h.reset(sid)
    o.last.eof()
    again = h.request("GET", "/again")
    o.answer("GET /again")
    assert h.rx(again).status == 200


def test_an_answer_that_is_cut_resets_the_stream(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("GET", "/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\nContent-Length: 10\n\n123")
    h.head(sid)
    o.last.close()
    o.open.clear()
    assert h.rx_reset(sid) == 2


def test_an_answer_before_the_request_ends_is_delivered(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("POST", "/", end=False)
    h.send(sid, b"start")
    conn = o.accept()
    conn.rx_head("POST /")
    conn.tx("HTTP/1.1 413 Payload Too Large\nContent-Length: 3\n\nbig")
    a = h.wait(sid, lambda s: s["end"], "end")
    assert a["head"].get(":status") == "413" and a["data"] == b"big"


def test_head_and_bodiless_answers(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("HEAD", "/")
    o.rx("HEAD /")
    o.tx("HTTP/1.1 200 OK\nContent-Length: 100\n\n")
    a = h.rx(sid)
    assert a == (200, b"") and a.headers.get("content-length") == "100"
    sid = h.request("GET", "/")
    o.rx("GET /")
    o.tx("HTTP/1.1 204 No Content\n\n")
    assert h.rx(sid) == (204, b"")


BAD = {
    "no-path": [(":method", "GET"), (":scheme", "http"), (":authority", "a")],
    "empty-path": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")],
    "path-with-blank": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/a b")],
    "no-method": [(":scheme", "http"), (":authority", "a"), (":path", "/")],
    "method-twice": [(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")],
    "unknown-pseudo": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), (":x", "y")],
    "late-pseudo": [(":method", "GET"), (":scheme", "http"), ("x", "y"), (":authority", "a"), (":path", "/")],
    "upper-case": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("X-A", "1")],
    "connection": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("connection", "close")],
    "transfer-encoding": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("transfer-encoding", "chunked")],
    "te": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("te", "gzip")],
    "line-feed": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("x", "a\nb: c")],
    "two-hosts": [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("host", "b")],
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_malformed_request_resets_its_stream_alone(rig, name):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.conn.get_next_available_stream_id()
    h.conn.send_headers(sid, BAD[name], end_stream=True)
    h.stream(sid)
    h.flush()
    s = h.wait(sid, lambda s: s["reset"] is not None or s["end"], "verdict")
    assert s["reset"] == 1 or s["head"].get(":status") == "400"
    fine = h.request("GET", "/fine")
    o.answer("GET /fine")
    assert h.rx(fine).status == 200


def test_a_client_that_owes_reading_thousands_of_resets_is_cut(rig):
    """Each malformed request costs a RST_STREAM; one who never reads them must not fill the memory with them."""
    o = rig.origin()
    g = rig.gateway()
    s = g.connect()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(5)
    s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
    block = b"\x82\x86\x84\x41\x01a" + b"\x00\x01X\x01y"  # a name in upper case
    sent, stopped = 0, False
    while sent < 3000000 and not stopped:
        batch = b"".join(len(block).to_bytes(3, "big") + b"\x01\x05" + (2 * (sent + i) + 1).to_bytes(4, "big") + block
                         for i in range(500))
        try:
            s.sendall(batch)
            sent += 500
        except (TimeoutError, OSError):
            stopped = True  # nothing is read from it any more
    s.close()
    assert stopped
    h = g.h2()  # the others go on
    sid = h.request("GET", "/")
    o.answer()
    assert h.rx(sid).status == 200


def test_frames_without_content_in_a_row_end_the_connection(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("POST", "/", end=False)
    o.accept().rx_head("POST /")
    h.conn.send_data(sid, b"")  # one is allowed
    h.flush()
    h.send(sid, b"more")
    h.conn.send_data(sid, b"")
    h.conn.send_data(sid, b"")
    h.flush()
    assert h.rx_goaway() == 0xb
    h.rx_close()


def frame(kind, flags, sid, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + sid.to_bytes(4, "big") + payload


GET = b"\x82\x86\x84\x41\x01a"  # GET http://a/
POST = b"\x83\x86\x84\x41\x01a"
HEADERS, PRIORITY, RST, SETTINGS, PING, UPDATE, CONT, ODD = 1, 2, 3, 4, 6, 8, 9, 0x55


class Reader:
    """A raw client that reads all it is sent: it is no slow one that the floods below find out."""

    def __init__(self, g):
        self.s = g.connect()
        self.s.settimeout(5)
        self.buf, self.resets = b"", 0
        self.tx(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))

    def tx(self, data):
        self.s.sendall(data)

    def rx(self):
        """The next frame: (kind, flags, stream, payload); None: the connection has ended."""
        while True:
            n = 9 + int.from_bytes(self.buf[:3], "big") if len(self.buf) >= 9 else 9
            if len(self.buf) >= n and len(self.buf) >= 9:
                f, self.buf = self.buf[:n], self.buf[n:]
                return f[3], f[4], int.from_bytes(f[5:9], "big"), f[9:]
            try:
                d = self.s.recv(65536)
            except ConnectionResetError:
                d = b""
            if not d:
                return None
            self.buf += d

    def fate(self, ask=True):
        """Answered or cut: a PING comes back, or GOAWAY's code does."""
        try:
            if ask:
                self.tx(frame(PING, 0, 0, b"are you?"))
        except OSError:
            pass  # what was said before it closed is still there
        while True:
            f = self.rx()
            if f is None:
                return "closed"
            if f[0] == 7:
                return int.from_bytes(f[3][4:8], "big")
            if f[0] == PING and f[3] == b"are you?":
                return "fine"


def many(f, n):
    return lambda: f * n


def resets(n, *frames):
    return lambda: b"".join(b"".join(frame(k, fl, 2 * i + 1, p) for k, fl, p in frames) for i in range(n))


def block(n):
    return lambda: (frame(HEADERS, 1, 1, GET) + frame(CONT, 0, 1, b"\x00\x01x\x01y") * (n - 2) + frame(CONT, 4, 1))


# name: (what is within the limit, what is not); robustness.md 2 and 3.3. SETTINGS and PING share a hundred, of which
# the client's first SETTINGS and the last PING are two.
FLOODS = {
    "ping": (many(frame(PING, 0, 0, b"12345678"), 98), many(frame(PING, 0, 0, b"12345678"), 250)),
    "ping-ack": (many(frame(PING, 1, 0, b"12345678"), 98), many(frame(PING, 1, 0, b"12345678"), 250)),
    "settings": (many(frame(SETTINGS, 0, 0, b"\0\3\0\0\0\x64"), 98), many(frame(SETTINGS, 0, 0), 250)),
    "priority": (many(frame(PRIORITY, 0, 7, b"\0\0\0\0\1"), 100), many(frame(PRIORITY, 0, 7, b"\0\0\0\0\1"), 101)),
    "window-update": (many(frame(UPDATE, 0, 0, b"\0\0\0\1"), 5), many(frame(UPDATE, 0, 0, b"\0\0\0\1"), 6)),
    "unknown": (many(frame(ODD, 0, 0, b"x"), 1000), many(frame(ODD, 0, 0, b"x"), 3000)),
    "field-block": (block(61), block(62)),
    "reset": (resets(60, (HEADERS, 5, GET), (RST, 0, b"\0\0\0\x08")), resets(70, (HEADERS, 5, GET), (RST, 0, b"\0\0\0\x08"))),
    "provoked": (resets(28, (HEADERS, 4, POST), (UPDATE, 0, b"\x7f\xff\xff\xff")), resets(40, (HEADERS, 4, POST), (UPDATE, 0, b"\x7f\xff\xff\xff"))),
    "malformed": (resets(28, (HEADERS, 5, GET + b"\x00\x01X\x01y")), resets(40, (HEADERS, 5, GET + b"\x00\x01X\x01y"))),
}


@pytest.mark.parametrize("name", sorted(FLOODS))
def test_a_client_that_reads_may_not_flood_either(rig, name):
    rig.origin()
    g = rig.gateway()
    for within, flood in enumerate(reversed(FLOODS[name])):
        c = Reader(g)
        try:
            c.tx(flood())
        except OSError:
            assert not within
        assert c.fate(ask=within) == ("fine" if within else 0xb)
        c.s.close()


def test_the_number_of_fields_is_limited_without_the_pseudo_fields(rig):
    o = rig.origin()
    h = rig.gateway().h2()
    full = h.request("GET", "/full", *[("x-%d" % i, "1") for i in range(100)])
    o.answer("GET /full")
    assert h.rx(full).status == 200
    over = h.request("GET", "/over", *[("x-%d" % i, "1") for i in range(101)])
    assert h.rx(over).status == 431


def test_trailers_of_a_request_follow_the_rules_of_http_1(rig):
    """What steers, authenticates or frames does not come late, in either version (RFC 9110 6.5.1)."""
    o = rig.origin()
    g = rig.gateway(clusters=[cluster("main", o.port, **TRAILERS)])
    h = g.h2()
    sid = h.request("POST", "/", end=False)
    h.send(sid, b"body")
    names = ["set-cookie", "proxy-authorization", "x-forwarded-port", "x-forwarded-by", "x-real-ip", "range", "if-match",
             "cache-control", "max-forwards", "via", "x-request-id", "www-authenticate"]
    h.trailers(sid, ("x-sum", "1"), *[(n, "x") for n in names])
    r = o.rx("POST /")
    assert r.trailers == [("x-sum", "1")]
    o.tx("HTTP/1.1 204 No Content\n\n")
    assert h.rx(sid).status == 204


@pytest.mark.parametrize("fields,fine", [([("x", "1")] * 20, True), ([("x", "1")] * 21, False), ([("x", "y" * 9000)], False)])
def test_trailers_of_a_request_are_limited(rig, fields, fine):
    o = rig.origin()
    h = rig.gateway().h2()
    sid = h.request("POST", "/", end=False)
    h.send(sid, b"body")
    h.trailers(sid, *fields)
    if fine:
        o.answer("POST /")
        assert h.rx(sid).status == 200
    else:
        assert h.rx_reset(sid) == 0xb


def test_more_streams_than_allowed_are_refused(rig):
    o = rig.origin()
    h = rig.gateway(hcm_over={"http2_protocol_options": {"max_concurrent_streams": 2}}).h2()
    a = h.request("GET", "/a")
    b = h.request("GET", "/b")
    conns = {}
    for _ in range(2):
        r = o.rx()
        conns[r.target] = o.last
    settings = h.rx_settings()
    assert settings.max_concurrent_streams == 2
    kept = settings._settings[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS]
    kept.clear()  # so that python3-h2 lets us break the limit
    kept.append(100)
    c = h.request("GET", "/c")
    assert h.rx_reset(c) == 7
    for sid, t in ((a, "/a"), (b, "/b")):
        conns[t].tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
        assert h.rx(sid).status == 200


def test_the_articles_script_works_the_same(rig):
    static, wp = rig.origin("static"), rig.origin(OLD_SITE)
    h = rig.gateway([route("/", "static")], [lua(file=ARTICLE)]).h2()
    hit = h.request("GET", "/hit")
    static.answer("GET /hit", "200 OK", "static")
    assert h.rx(hit) == (200, b"static")
    miss = h.request("GET", "/miss", ("cookie", "a=1"), ("cookie", "b=2"))
    static.answer("GET /miss", "404 Not Found", "nope")
    r = wp.answer("GET /miss", "200 OK", "old")
    assert r.headers.get("host") == "example.com"
    assert r.headers.get("cookie") == "a=1; b=2"
    assert h.rx(miss) == (200, b"old")
    both = h.request("GET", "/both")
    static.answer("GET /both", "404 Not Found", "nope")
    wp.answer("GET /both", "404 Not Found", "gone")
    assert h.rx(both) == (404, b"nope")


def test_sigterm_says_goaway_and_lets_streams_finish(rig):
    import signal
    o = rig.origin()
    g = rig.gateway(args=["--drain-time-s", "2"])
    h = g.h2()
    sid = h.request("GET", "/slow")
    o.rx("GET /slow")
    g.signal(signal.SIGTERM)
    assert h.rx_goaway() == 0
    o.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert h.rx(sid) == (200, b"ok")
    h.rx_close(20)
    assert g.wait_exit() == 0


def test_both_protocols_share_a_port(rig):
    o = rig.origin()
    g = rig.gateway()
    c, h = g.client(), g.h2()
    c.get("/1")
    o.answer("GET /1")
    assert c.rx().status == 200
    sid = h.request("GET", "/2")
    o.answer("GET /2")
    assert h.rx(sid).status == 200
    assert g.stat("http.in.downstream_cx_http1_total") == 1
    assert g.stat("http.in.downstream_cx_http2_total") == 1


def test_codec_type_http1_refuses_the_preface(rig):
    rig.origin()
    g = rig.gateway(hcm_over={"codec_type": "HTTP1"})
    c = g.client()
    c.tx(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert c.rx().status in (400, 505)

"""The plain path of a request: what goes to the origin, what comes back, and when connections are kept."""
import socket

import pytest

from rig import cluster, route, until

OK = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"


def test_a_request_is_passed_on_and_its_answer_comes_back(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("GET /a?b=c HTTP/1.1\nHost: example.com\nX-One: 1\nAccept: */*\n\n")
    r = o.rx("GET /a?b=c HTTP/1.1")
    assert r.headers.get("host") == "example.com"
    assert r.headers.get("x-one") == "1"
    o.tx("HTTP/1.1 200 OK\nContent-Length: 5\nX-Two: 2\n\nhello")
    a = c.rx()
    assert a == (200, b"hello")
    assert a.headers.get("x-two") == "2"
    assert a.headers.get("content-length") == "5"


def test_repeated_fields_keep_their_number_and_order(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("GET / HTTP/1.1\nHost: a\nX-A: 1\nX-B: 2\nX-A: 3\nCookie: a=1\nCookie: b=2\n\n")
    r = o.rx()
    assert r.headers.all("x-a") == ["1", "3"]
    assert [n for n in r.headers.names() if n in ("x-a", "x-b")] == ["x-a", "x-b", "x-a"]
    assert r.headers.all("cookie") == ["a=1", "b=2"]
    o.tx("HTTP/1.1 200 OK\nSet-Cookie: a=1; Path=/\nSet-Cookie: b=2\nContent-Length: 0\n\n")
    assert c.rx().headers.all("set-cookie") == ["a=1; Path=/", "b=2"]


def test_the_client_connection_and_the_origin_connection_are_kept(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    for i in range(5):
        c.get("/%d" % i)
        o.answer("GET /%d" % i, "200 OK", "answer %d" % i)
        assert c.rx() == (200, b"answer %d" % i)
    assert o.conns == 1
    assert g.stat("http.in.downstream_cx_total") == 1
    assert g.stat("http.in.downstream_rq_total") == 5
    assert g.stat("cluster.main.upstream_cx_total") == 1
    assert g.stat("cluster.main.upstream_rq_total") == 5


def test_an_origin_connection_serves_several_clients_in_turn(rig):
    o = rig.origin()
    g = rig.gateway()
    for _ in range(3):
        c = g.client()
        c.get("/")
        o.answer()
        assert c.rx().status == 200
        c.close()
    assert o.conns == 1


def test_connection_close_of_the_client_closes_after_the_answer(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/", "Connection: close")
    r = o.rx()
    assert "close" not in r.headers.all("connection")
    o.tx(OK)
    a = c.rx()
    assert a == (200, b"ok")
    assert a.headers.get("connection") == "close"
    c.eof()


def test_connection_close_of_the_origin_is_not_the_clients(rig):
    o = rig.origin()
    c = rig.gateway().client()
    for _ in range(2):
        c.get("/")
        o.rx()
        o.tx("HTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\nok")
        o.last.close()
        o.open.clear()
        a = c.rx()
        assert a == (200, b"ok")
        assert "connection" not in a.headers
    assert o.conns == 2


def test_an_answer_that_ends_with_its_connection_is_chunked_for_the_client(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\n\nuntil the end")
    o.last.close()
    o.open.clear()
    a = c.rx()
    assert a == (200, b"until the end")
    assert a.framing == "chunked"
    c.get("/again")
    o.answer("GET /again")
    assert c.rx().status == 200


def test_hop_by_hop_fields_stay_on_their_hop(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/", "Connection: keep-alive, X-Private", "X-Private: 1", "Keep-Alive: timeout=5",
          "Proxy-Connection: keep-alive", "X-Public: 1", "TE: gzip", "Upgrade: h2c")
    r = o.rx()
    for name in ("x-private", "keep-alive", "proxy-connection", "te", "upgrade", "connection"):
        assert name not in r.headers, name
    assert r.headers.get("x-public") == "1"
    o.tx("HTTP/1.1 200 OK\nConnection: X-Secret\nX-Secret: 1\nKeep-Alive: timeout=9\nContent-Length: 0\n\n")
    a = c.rx()
    assert "x-secret" not in a.headers and "keep-alive" not in a.headers


def test_forwarding_fields_say_where_the_request_came_from(rig):
    o = rig.origin()
    c = rig.gateway(hcm_over={"use_remote_address": True}).client()
    c.get("/", "X-Forwarded-For: 10.9.8.7")
    r = o.rx()
    assert r.headers.get("x-forwarded-for").replace(" ", "") == "10.9.8.7,127.0.0.1"
    assert r.headers.get("x-forwarded-proto") == "http"
    assert len(r.headers.get("x-request-id")) == 36
    o.tx(OK)
    assert c.rx().status == 200


def test_the_answer_names_a_server_and_a_date(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.answer("", "200 OK", "", "Server: origin/1", "Date: Mon, 01 Jan 2024 00:00:00 GMT")
    a = c.rx()
    assert a.headers.get("server") == "envoy"
    assert a.headers.get("date") == "Mon, 01 Jan 2024 00:00:00 GMT"
    c.get("/")
    o.answer()
    assert c.rx().headers.get("date").endswith(" GMT")


def test_an_absolute_target_replaces_the_host(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("GET http://other.example/x HTTP/1.1\nHost: example.com\n\n")
    r = o.rx("GET /x HTTP/1.1")
    assert r.headers.get("host") == "other.example"
    o.tx(OK)
    assert c.rx().status == 200


def test_a_request_without_a_route_is_404(rig):
    rig.origin()
    g = rig.gateway([route("/only", "main")])
    assert g.get("/else").status == 404
    assert g.stat("http.in.no_route") == 1


def test_an_origin_that_refuses_is_503_with_envoys_text(rig):
    port = rig.free_port()
    g = rig.gateway([route("/", "dead")], clusters=[cluster("dead", port)])
    a = g.get("/")
    assert a.status == 503
    assert a.body.startswith(b"upstream connect error or disconnect/reset before headers.")


def test_an_origin_that_closes_before_its_head_is_503(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx")
    o.rx()
    o.last.close()
    o.open.clear()
    a = c.rx()
    assert a == (503, b"upstream connect error or disconnect/reset before headers. "
                      b"reset reason: connection termination")
    assert o.conns == 1


def test_an_origin_that_talks_nonsense_is_502(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert c.rx().status == 502


def test_an_answer_cut_short_is_never_presented_as_complete(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\nContent-Length: 10\n\n12345")
    assert c.rx_head().status == 200
    assert c.take(5) == b"12345"
    o.last.close()
    o.open.clear()
    c.eof()


def test_a_client_that_leaves_cancels_its_origin_request(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    c.abort()
    o.last.eof()


def test_a_client_that_half_closes_still_gets_its_answer(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    c.half_close()
    o.rx()
    o.tx(OK)
    assert c.rx() == (200, b"ok")


def test_bytes_after_an_answer_end_that_origin_connection(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/1")
    o.rx()
    o.tx(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert c.rx() == (200, b"ok")
    c.get("/2")
    o.answer("GET /2", "200 OK", "fine")
    assert c.rx() == (200, b"fine")
    assert o.conns == 2


def test_an_idle_origin_connection_that_was_closed_is_not_used(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.get("/1")
    o.answer("GET /1")
    assert c.rx().status == 200
    o.last.close()
    o.open.clear()
    c.get("/2")
    o.answer("GET /2")
    assert c.rx().status == 200
    assert o.conns == 2


def test_a_get_lost_on_a_reused_connection_is_sent_once_more(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/1")
    o.answer("GET /1")
    assert c.rx().status == 200
    c.get("/2")
    first = o.ready()
    first.rx("GET /2")
    first.close()
    o.open.remove(first)
    o.answer("GET /2", "200 OK", "second try")
    assert c.rx() == (200, b"second try")
    assert o.conns == 2


def test_a_post_lost_on_a_reused_connection_is_not_sent_again(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/1")
    o.answer("GET /1")
    assert c.rx().status == 200
    c.tx("POST /2 HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi")
    conn = o.ready()
    assert conn.rx("POST /2").body == b"hi"
    conn.close()
    o.open.remove(conn)
    assert c.rx().status == 503
    o.untouched()


@pytest.mark.parametrize("size", [0, 1, 4095, 65536, 1048576, 8 * 1048576])
def test_bodies_of_any_size_pass_both_ways(rig, size):
    import threading
    o = rig.origin()
    c = rig.gateway().client()
    body = bytes(i * 7 % 251 for i in range(min(size, 4096))) * (size // 4096 + 1)
    body = body[:size]
    sender = threading.Thread(target=lambda: c.tx(
        b"PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body))
    sender.start()
    r = o.rx("PUT /big")
    sender.join()
    assert r.body == body
    answer = threading.Thread(target=lambda: o.tx(
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + body))
    answer.start()
    a = c.rx()
    answer.join()
    assert a == (200, body)


def test_a_client_that_does_not_read_stops_the_origin(rig):
    """Back-pressure: of a 64 MiB answer only what sockets and two small buffers hold leaves the origin."""
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.get("/")
    o.rx()
    size = 64 << 20
    o.tx("HTTP/1.1 200 OK\nContent-Length: %d\n\n" % size)
    # Little under way at a time: else the kernel's receive buffer grows as far as tcp_rmem lets it, which is another 32 MiB in places.
    o.last.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    o.last.sock.setblocking(False)
    sent = 0
    block = b"x" * 65536

    def stuck():
        nonlocal sent
        before = sent
        try:
            while sent < size:
                sent += o.last.sock.send(block[:size - sent])
        except BlockingIOError:
            pass
        return sent == before
    quiet = [0]

    def stays_stuck():
        quiet[0] = quiet[0] + 1 if stuck() else 0
        return quiet[0] > 40
    until(stays_stuck, "the origin is stopped")
    assert sent < 24 << 20, "%d bytes left the origin" % sent
    c.transcript.add("client", "rx", "starts reading")
    got = 0
    line, headers = c.head()
    got = len(c.buf)
    c.buf = b""
    o.last.sock.setblocking(True)
    import threading
    rest = threading.Thread(target=lambda: o.last.sock.sendall(b"x" * (size - sent)))
    rest.start()
    while got < size:
        data = c.sock.recv(1 << 20)
        assert data
        got += len(data)
    rest.join()
    assert got == size

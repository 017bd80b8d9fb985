"""Message framing on both sides: chunks, trailers, bodiless answers, interim answers, pipelining, upgrades."""
import pytest

from rig import cluster, route

OK = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"


def test_a_chunked_request_arrives_chunked(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n7;ext=\"v\"\r\n, world\r\n0\r\n\r\n")
    r = o.rx("POST /")
    assert r.framing == "chunked" and r.body == b"hello, world"
    o.tx(OK)
    assert c.rx() == (200, b"ok")


def test_a_chunked_answer_arrives_chunked(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n0\r\n\r\n")
    a = c.rx()
    assert a == (200, b"hello") and a.framing == "chunked"
    assert "content-length" not in a.headers


def test_a_chunk_is_passed_on_before_the_next_one_comes(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\r\none\r\n")
    assert c.rx_head().status == 200
    assert c.chunk() == b"one"
    o.tx(b"3\r\ntwo\r\n")
    assert c.chunk() == b"two"
    o.tx(b"0\r\n\r\n")
    assert c.chunk() == b""
    assert c.trailers() == []


def test_a_request_body_is_passed_on_before_it_is_complete(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 6\n\none")
    r = o.rx_head("POST /")
    assert r.headers.get("content-length") == "6"
    assert o.last.take(3) == b"one"
    c.tx(b"two")
    assert o.last.take(3) == b"two"
    o.tx(OK)
    assert c.rx() == (200, b"ok")


def test_trailers_pass_where_both_sides_enable_them(rig):
    o = rig.origin()
    enabled = {"enable_trailers": True}
    g = rig.gateway(
        clusters=[cluster("main", o.port, typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": enabled}}})],
        hcm_over={"http_protocol_options": enabled})
    c = g.client()
    c.tx("POST / HTTP/1.1\nHost: a\nTE: trailers\nTransfer-Encoding: chunked\n\n"
         "2\r\nhi\r\n0\r\nX-Sum: 42\r\nContent-Length: 9\r\n\r\n")
    r = o.rx("POST /")
    assert r.trailers == [("X-Sum", "42")] or r.trailers == [("x-sum", "42")]
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\nX-Took: 1\r\n\r\n")
    a = c.rx()
    assert [(n.lower(), v) for n, v in a.trailers] == [("x-took", "1")]


def test_trailers_are_dropped_by_default(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n")
    r = o.rx("POST /")
    assert r.body == b"hi" and r.trailers == []
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\nX-Took: 1\r\n\r\n")
    a = c.rx()
    assert a == (200, b"ok") and a.trailers == []


def test_pipelined_requests_are_answered_in_order(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(4)))
    c.methods = ["GET"] * 4
    for i in range(4):
        o.answer("GET /%d" % i, "200 OK", "n%d" % i)
    for i in range(4):
        assert c.rx() == (200, b"n%d" % i)


@pytest.mark.parametrize("rest", [b"", b"GET /cut HTTP/1.1\r\nHo", b"POST /cut HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"])
def test_pipelined_requests_before_the_end_of_input_are_answered(rig, rest):
    """A client that half-closes behind complete requests still listens; what is incomplete then is no request."""
    o = rig.origin()
    c = rig.gateway().client()
    c.tx(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n" + rest)
    c.half_close()
    o.answer("GET /1", "200 OK", "one")
    assert c.rx() == (200, b"one")
    o.answer("GET /2", "200 OK", "two")
    assert c.rx() == (200, b"two")
    assert c.rest() == b""


def test_a_pipelined_request_behind_a_body_is_found(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert o.answer("POST /1").body == b"abc"
    o.answer("GET /2")
    assert c.rx().status == 200
    assert c.rx().status == 200


def test_the_answer_to_head_has_the_length_and_no_body(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("HEAD /x HTTP/1.1\nHost: a\n\n")
    o.rx("HEAD /x")
    o.tx("HTTP/1.1 200 OK\nContent-Length: 3145728\nETag: \"1\"\n\n")
    a = c.rx()
    assert a.headers.get("content-length") == "3145728"
    c.get("/next")
    o.answer("GET /next")
    assert c.rx().status == 200
    assert o.conns == 1


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answers_without_a_body_end_at_their_head(rig, status):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 %s\nETag: \"1\"\n\n" % status)
    a = c.rx()
    assert a.status == int(status[:3])
    assert "transfer-encoding" not in a.headers
    c.get("/next")
    o.answer("GET /next")
    assert c.rx().status == 200


def test_expect_100_continue_is_answered_and_the_body_follows(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 4\n\n")
    assert c.rx_head().status == 100
    c.tx(b"data")
    r = o.rx("POST /")
    assert r.body == b"data"
    assert "expect" not in r.headers
    o.tx(OK)
    assert c.rx() == (200, b"ok")


def test_another_expectation_is_417(rig):
    rig.origin()
    c = rig.gateway().client()
    c.tx("POST / HTTP/1.1\nHost: a\nExpect: tea\nContent-Length: 4\n\n")
    assert c.rx().status == 417


def test_proxy_100_continue_leaves_the_decision_to_the_origin(rig):
    o = rig.origin()
    c = rig.gateway(hcm_over={"proxy_100_continue": True}).client()
    c.tx("POST / HTTP/1.1\nHost: a\nExpect: 100-continue\nContent-Length: 4\n\n")
    r = o.rx_head("POST /")
    assert r.headers.get("expect") == "100-continue"
    o.tx(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert c.rx_head().status == 100
    c.tx(b"data")
    assert o.last.take(4) == b"data"
    o.tx(OK)
    assert c.rx() == (200, b"ok")


def test_interim_answers_pass_to_the_client(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    a = c.rx()
    assert a.status == 200
    assert [i.status for i in a.interim] == [103]
    assert a.interim[0].headers.get("link") == "</a.css>; rel=preload"


def test_a_100_of_the_origin_is_consumed(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.rx()
    o.tx(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    a = c.rx()
    assert a.status == 200 and a.interim == []


def test_an_answer_before_the_request_body_is_passed_on_at_once(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 1000000\n\nstart")
    conn = o.accept()
    conn.rx_head("POST /")
    conn.tx("HTTP/1.1 413 Payload Too Large\nContent-Length: 3\n\nbig")
    assert c.rx() == (413, b"big")


WS = ("GET /chat HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n"
      "Sec-WebSocket-Key: x\nSec-WebSocket-Version: 13\n\n")


def test_a_websocket_is_a_tunnel_in_both_directions(rig):
    o = rig.origin()
    g = rig.gateway(hcm_over={"upgrade_configs": [{"upgrade_type": "websocket"}]})
    c = g.client()
    c.tx(WS)
    r = o.rx("GET /chat")
    assert r.headers.get("upgrade").lower() == "websocket"
    assert r.headers.get("connection").lower() == "upgrade"
    o.tx("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\n")
    a = c.rx()
    assert a.status == 101
    assert a.headers.get("upgrade").lower() == "websocket"
    o.tx(b"\x81\x05hello")
    assert c.take(7) == b"\x81\x05hello"
    c.tx(b"\x81\x85GET / HTTP/1.1\r\n\r\n")
    assert o.last.take(20) == b"\x81\x85GET / HTTP/1.1\r\n\r\n"
    big = bytes(range(256)) * 4096
    o.tx(big)
    assert c.take(len(big)) == big
    c.half_close()
    o.last.eof()
    o.tx(b"bye")
    o.last.close()
    o.open.clear()
    assert c.rest() == b"bye"


def test_a_refused_upgrade_is_an_ordinary_answer(rig):
    o = rig.origin()
    c = rig.gateway(hcm_over={"upgrade_configs": [{"upgrade_type": "websocket"}]}).client()
    c.tx(WS)
    o.rx("GET /chat")
    o.tx("HTTP/1.1 403 Forbidden\nContent-Length: 2\n\nno")
    assert c.rx() == (403, b"no")


def test_an_upgrade_that_is_not_configured_never_becomes_a_tunnel(rig):
    """Envoy answers 403 here; forwarding without the Upgrade field would be allowed too. Never a 101."""
    o = rig.origin()
    c = rig.gateway().client()
    c.tx(WS.replace("websocket", "h2c"))
    r = o.rx("GET /chat")
    assert "upgrade" not in r.headers
    o.tx("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: h2c\n\n")
    assert c.rx().status == 502


def test_connect_without_a_route_for_it_is_refused(rig):
    rig.origin()
    c = rig.gateway().client()
    c.tx("CONNECT a.example:443 HTTP/1.1\nHost: a.example:443\n\n")
    assert c.rx().status == 404


def test_a_slow_client_gets_the_end_of_a_last_answer(rig):
    """The rest of it lies in the kernel when the connection has been closed for long."""
    import time
    origin = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.tx("GET / HTTP/1.1\nHost: a\nConnection: close\n\n")
    body = "x" * (1 << 20)
    origin.answer("GET /", "200 OK", body)
    g.wait_stat("http.in.downstream_cx_destroy", 1)  # after delayed_close_timeout
    time.sleep(0.1)
    assert c.rx() == (200, body.encode())

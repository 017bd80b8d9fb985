"""What is done as descriptors or memory run out, step by step (robustness.md 8, docs/overload.md).

Descriptors are the handle: the limit of the running process is lowered, and idle clients fill it to the percent.
"""
import os
import resource
import select
import time

from rig import lua, route, until
from test_fallback import fallback, hang_up

DESCRIPTORS = "overload.postern.descriptors.pressure"
HEAP = "overload.envoy.resource_monitors.fixed_heap.pressure"
REFUSED = "http.in.downstream_rq_overload_close"


class Filler:
    """Connections to the admin listener, which pressure leaves alone, hold descriptors of the gateway."""

    def __init__(self, g, limit=400):
        self.g, self.limit, self.held = g, limit, []
        soft, hard = resource.prlimit(g.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(g.process.pid, resource.RLIMIT_NOFILE, (limit, hard))

    def open(self):
        return len(os.listdir("/proc/%d/fd" % self.g.process.pid))

    def to(self, percent):
        want = self.limit * percent // 100

        def look():
            missing = want - self.open()
            for _ in range(missing):
                self.held.append(self.g.connect(self.g.admin_port))
            for _ in range(-missing):
                self.held.pop().close()
            return abs(self.g.stat(DESCRIPTORS) - percent) <= 1
        until(look, "%d %% are felt" % percent)


def answering(rig, *args, **over):
    return rig.gateway([route("/", direct_response={"status": 200, "body": {"inline_string": "ok"}})], args=args, **over)


def felt(g, status, close, path="/"):
    """Until a new client's request is answered so: a worker looks ten times a second, an idle one each second."""
    def look():
        c = g.client()
        c.get(path)
        r = c.rx()
        c.close()
        return (r.status, r.headers.get("connection") == "close") == (status, close)
    until(look, "%d%s" % (status, ", connection: close" if close else ""))


def unheard(g):
    c = g.client()
    c.tx("GET / HTTP/1.1\nHost: a\n\n")
    heard, _, _ = select.select([c.sock], [], [], 0.3)
    c.close()
    return not heard


def test_connections_end_then_requests_are_refused_then_nobody_is_heard(rig):
    g = answering(rig)
    f = Filler(g)
    f.to(70)
    felt(g, 200, False)
    f.to(87)
    felt(g, 200, True)
    f.to(91)
    felt(g, 503, True)
    assert g.get("/").body == b"overloaded"
    assert g.stat(REFUSED) >= 1
    assert g.admin("/ready").status == 200  # the admin listener is left alone
    g.wait_log(r"\[main\] overload: heap \d+ % of its limit, descriptors \d+ %")
    f.to(96)
    until(lambda: unheard(g), "nobody is accepted")
    deaf = g.client()
    deaf.tx("GET / HTTP/1.1\nHost: a\n\n")
    deaf.silent()
    f.to(70)
    assert deaf.rx().status in (200, 503)  # accepted when there is room
    felt(g, 200, False)
    c = g.client()  # and a connection may stay
    for _ in range(2):
        c.tx("GET / HTTP/1.1\nHost: a\n\n")
        assert c.rx().status == 200


def test_an_http2_client_is_told_to_go(rig):
    g = answering(rig)
    h = g.h2()
    assert h.rx(h.request()).status == 200
    f = Filler(g)
    f.to(87)
    h.rx_goaway()


def test_idle_connections_go_earlier_to_clients_and_origins(rig):
    o = rig.origin()
    g = rig.gateway(hcm_over={"common_http_protocol_options": {"idle_timeout": "20s"}})  # longer than eof() waits
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    assert g.stat("cluster.main.upstream_cx_active") == 1
    f = Filler(g)
    f.to(82)
    until(lambda: g.stat("cluster.main.upstream_cx_active") == 0, "the idle origin connection is closed")
    c.eof()


def test_a_call_and_a_retry_are_not_made(rig):
    o = rig.origin()
    script = """function envoy_on_response(h)
      if not h:headers():get("x-call") then return end
      local headers = h:httpCall("main", {[":method"] = "GET", [":path"] = "/call", [":authority"] = "a"}, "", 1000)
      h:headers():replace("x-call", headers[":status"])
    end"""
    g = rig.gateway([route("/probe", direct_response={"status": 200}),
                     route("/", {"cluster": "main", "retry_policy": {"retry_on": "5xx", "num_retries": 3}})], [lua(script)])
    f = Filler(g)
    c = g.client()
    c.get("/")
    o.rx("GET /")
    f.to(91)
    felt(g, 503, True, "/probe")
    o.tx("HTTP/1.1 500 No\nContent-Length: 0\nX-Call: to be made\n\n")
    r = c.rx()
    assert (r.status, r.headers.get("x-call")) == (500, "503")
    assert g.stat("cluster.main.upstream_rq_retry") == 0
    o.untouched()


def test_a_lost_connection_is_not_tried_again(rig):
    o = rig.origin()
    g = rig.gateway([route("/probe", direct_response={"status": 200}), route("/", "main")])
    f = Filler(g)
    c = g.client()
    c.get("/1")
    o.answer("GET /1")
    assert c.rx().status == 200
    c.get("/2")
    o.rx("GET /2")
    f.to(91)
    felt(g, 503, True, "/probe")
    hang_up(o)
    assert c.rx().status == 503
    o.untouched()


def test_no_connection_to_an_origin_is_made(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback("wp")])
    f = Filler(g)
    c = g.client()
    c.get("/x")
    static.rx("GET /x")
    f.to(96)
    until(lambda: unheard(g), "nobody is accepted")
    static.tx("HTTP/1.1 404 No\nContent-Length: 4\n\npage")
    assert c.rx() == (404, b"page")
    wp.untouched()


def test_the_requests_that_hold_most_are_ended(rig):
    """Bodies gathered for a script fill the heap: the largest goes, the others are answered."""
    script = "function envoy_on_request(h) h:respond({[':status'] = '200'}, tostring(h:body():length())) end"
    g = rig.gateway([route("/", direct_response={"status": 200})], [lua(script)],
                    listener_over={"per_connection_buffer_limit_bytes": 1 << 26},
                    runtime={"postern.heap_limit": 64 << 20})
    sizes = [n << 20 for n in (4, 24, 8, 8, 8, 3, 3, 3)]
    clients = [g.client() for _ in sizes]
    for c, n in zip(clients, sizes):  # all begin before any is refused
        c.tx(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % n)
    until(lambda: g.stat("http.in.downstream_rq_active") == len(sizes), "all have begun")
    sent = 0
    for c, n in zip(clients, sizes):
        try:
            c.sock.sendall(b"x" * (n - 1))
        except OSError:
            break  # this one was ended
        sent += n
        until(lambda: g.stat(REFUSED) or g.stat(HEAP) >= sent * 100 // (64 << 20) - 1, "it was read")
        time.sleep(0.2)  # postern looks: else the last ones could meet the limit itself, and whoever asks for more is ended
        if g.stat(REFUSED):
            break
    until(lambda: g.stat(REFUSED) >= 1, "one is ended")
    assert clients[1].rx().status == 503
    until(lambda: g.stat(HEAP) < 80, "its memory is free")
    clients[0].tx(b"x")
    assert clients[0].rx().body == b"%d" % sizes[0]
    until(lambda: g.get("/", method="POST", body="ab").status == 200, "postern has looked again")
    assert g.get("/", method="POST", body="abc").body == b"3"

"""Mixed load with a reload every second, the script and the fallback policy by turns: no request may fail that an
origin did not cause.

As a test it runs for a few seconds; by hand for as long as one likes:

  POSTERN_BIN=build-asan/postern python3 tests/e2e/soak.py 600
"""
import os
import random
import signal
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import h2client  # noqa: E402
import peers  # noqa: E402
from rig import ARTICLE, OLD_SITE, Rig, cluster, hcm, listener, lua, route, tls_down, until, vhost  # noqa: E402
from test_fallback import fallback  # noqa: E402


POLICY = fallback(OLD_SITE, other_methods="TRY_PRIMARY", shadow={"percent": 5, "compare": ["status", "headers", "body"]})
POLICY_HINTS = fallback(OLD_SITE, other_methods="TRY_PRIMARY", memory={"mode": "HINT", "miss_ttl": "60s"})


class Quiet(peers.Transcript):
    def add(self, who, arrow, data):
        pass


def answer(name, r):
    """What an origin says; the path tells, so that a client can check what it gets."""
    path = r.target.split("?")[0]
    if name == "static" and path.startswith("/old"):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot here\n"
    if path.startswith("/oldgone"):
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n"
    if path.startswith("/big"):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"b" * 300000
    if path.startswith("/chunked"):
        return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
                b"".join(b"3e8\r\n" + b"c" * 1000 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n")
    body = b"%s %s %d" % (name.encode(), path.encode(), len(r.body))
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def wanted(path, sent=0):
    if path.startswith("/oldgone"):
        return (404, b"not here\n")
    if path.startswith("/old"):
        return (200, b"%s %s 0" % (OLD_SITE.encode(), path.encode()))
    if path.startswith("/big"):
        return (200, b"b" * 300000)
    if path.startswith("/chunked"):
        return (200, b"c" * 20000)
    return (200, b"static %s %d" % (path.encode(), sent))


def serve(origin, name):
    def conn(sock):
        c = peers.OriginConn(sock, name, Quiet())
        c.sock.settimeout(120)
        try:
            while True:
                r = c.rx()
                if "upgrade" in r.headers:
                    c.tx(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                    while c.more(120):
                        c.tx(c.buf)
                        c.buf = b""
                    return
                c.tx(answer(name, r))
        except (peers.PeerError, OSError, ValueError, AssertionError):
            pass  # clients leave on purpose
        finally:
            sock.close()

    def loop():
        while True:
            try:
                sock, _ = origin.listener.accept()
            except OSError:
                return
            threading.Thread(target=conn, args=(sock,), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()


class Soak:
    def __init__(self, rig, seconds, workers=2):
        self.rig, self.seconds = rig, seconds
        self.static, self.old = rig.origin("static"), rig.origin(OLD_SITE)
        serve(self.static, "static")
        serve(self.old, OLD_SITE)
        self.tls_port = rig.free_port()
        self.generation = 0
        self.g = rig.start(self.config(), args=["--concurrency", str(workers)])
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.done, self.problems = {}, []

    def config(self):
        rig = self.rig
        up = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
        vhosts = [vhost("all", ["*"], [
            route({"path": "/generation"}, direct_response={
                "status": 200, "body": {"inline_string": str(self.generation)}}),
            route("/", {"cluster": "static", "timeout": "30s", "idle_timeout": "20s"})])]
        # Turn and turn about: they give the same answers.
        filters = [(POLICY, lua(file=ARTICLE), POLICY_HINTS, lua(file=ARTICLE))[self.generation % 4]]
        chain = {"filters": [hcm(vhosts, filters, **up)]}
        tls = {"filters": [hcm(vhosts, filters, stat_prefix="tls", **up)],
               "transport_socket": tls_down(rig.certs.pem("a.example"), rig.certs.key("a.example"))}
        breakers = {"thresholds": [{"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000}]}
        return rig.bootstrap(
            listeners=[listener("plain", rig.port, [chain]), listener("tls", self.tls_port, [tls])],
            clusters=[cluster(o.name, o.port, circuit_breakers=breakers) for o in (self.static, self.old)])

    def count(self, what):
        with self.lock:
            self.done[what] = self.done.get(what, 0) + 1

    def expect(self, a, path, sent=0):
        want = wanted(path, sent)
        assert a == want, "%s: got %d %r" % (path, a.status, a.body[:200])

    def path(self, rnd):
        return "/%s/%d" % (rnd.choice(["page", "page", "old", "old", "oldgone", "big", "chunked"]), rnd.randrange(1000))

    def dial(self, tls=None, alpn=None):
        s = self.g.connect(self.tls_port if tls else None, 60)
        if tls:
            s = self.rig.certs.client(alpn=alpn).wrap_socket(s, server_hostname="a.example")
        return s

    def keep_alive(self, rnd, tls=False):
        c = peers.Client(self.dial(tls), "soak", Quiet())
        for _ in range(rnd.randrange(1, 40)):
            path = self.path(rnd)
            a = c.get(path).rx()
            self.expect(a, path)
            self.count("https" if tls else "http")
            if a.headers.get("connection") == "close" or self.stop.is_set():
                break
        c.close()

    def post(self, rnd, tls=False):
        c = peers.Client(self.dial(), "soak", Quiet())
        n = rnd.choice([0, 1, 1000, 100000])
        path = "/page/post"
        if rnd.random() < 0.5:
            c.tx(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (path.encode(), n) + b"p" * n)
        else:
            c.tx(b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode())
            if n:
                c.tx(b"%x\r\n" % n + b"p" * n + b"\r\n")
            c.tx(b"0\r\n\r\n")
        self.expect(c.rx(), path, n)
        self.count("post")
        c.close()

    def h2(self, rnd, tls=False):
        tls = rnd.random() < 0.5
        h = h2client.H2Client(self.dial(tls, ["h2"]), Quiet())
        h.sock.settimeout(60)
        paths = [self.path(rnd) for _ in range(rnd.randrange(1, 12))]
        sids = [h.request("GET", p) for p in paths]
        for sid, p in zip(sids, paths):
            if rnd.random() < 0.1:
                h.reset(sid)
                self.count("reset")
                continue
            self.expect(h.rx(sid), p)
            self.count("h2")
        h.close()

    def websocket(self, rnd, tls=False):
        c = peers.Client(self.dial(), "soak", Quiet())
        c.tx("GET /page/ws HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
        assert c.rx().status == 101
        for _ in range(rnd.randrange(1, 20)):
            data = os.urandom(rnd.randrange(1, 5000))
            c.tx(data)
            assert c.take(len(data)) == data
            self.count("echo")
        c.close()

    def leave(self, rnd, tls=False):
        """A client that goes away in the middle of something."""
        c = peers.Client(self.dial(), "soak", Quiet())
        c.tx("GET %s HTTP/1.1\nHost: a\n\n" % self.path(rnd))
        step = rnd.randrange(3)
        if step == 1:
            c.more(60)
        if step == 2:
            c.tx(b"GET /nonsense\n")
        c.abort() if rnd.random() < 0.5 else c.close()
        self.count("left")

    def worker(self, seed):
        rnd = random.Random(seed)
        while not self.stop.is_set():
            kind = rnd.choice([self.keep_alive, self.keep_alive, self.post, self.h2, self.websocket, self.leave])
            try:
                kind(rnd, tls=kind == self.keep_alive and rnd.random() < 0.3)
            except Exception as e:
                if self.g.process.poll() is not None:
                    self.problems.append("postern ended")
                    return
                self.problems.append("%s: %s: %s" % (kind.__name__, type(e).__name__, e))
                if len(self.problems) > 20:
                    return

    def run(self, clients=6, every=1.0):
        threads = [threading.Thread(target=self.worker, args=(i,)) for i in range(clients)]
        for t in threads:
            t.start()
        end = time.monotonic() + self.seconds
        try:
            while time.monotonic() < end and not self.problems:
                self.generation += 1
                self.g.write(self.config())
                self.g.signal(signal.SIGHUP)
                until(lambda: self.g.get("/generation").body == str(self.generation).encode(), "the reload", 30)
                self.stop.wait(min(every, max(end - time.monotonic(), 0)))
        finally:
            self.stop.set()
            for t in threads:
                t.join(90)
        assert not self.problems, self.problems[:5]
        until(lambda: self.g.stat("http.in.downstream_rq_active") == 0 and
              self.g.stat("http.tls.downstream_rq_active") == 0, "no request is left")
        return self.done, self.generation


def main():
    import certs
    from pathlib import Path
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    with tempfile.TemporaryDirectory(prefix="postern-soak-") as folder:
        folder = Path(folder)
        (folder / "certs").mkdir()
        rig = Rig(os.path.abspath(os.environ["POSTERN_BIN"]), folder, certs.Certs(folder / "certs"))
        rig.transcript = Quiet()
        try:
            done, reloads = Soak(rig, seconds).run()
            print("%d reloads, %s" % (reloads, ", ".join("%s %d" % i for i in sorted(done.items()))))
        finally:
            try:
                rig.finish()
            except AssertionError:
                print(rig.gateways[0].log()[-8000:])
                raise


if __name__ == "__main__":
    main()

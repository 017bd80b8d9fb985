"""Several workers: they share the listening address, the model and the limits, and nothing else."""
import threading

import pytest

import peers
from rig import ARTICLE, OLD_SITE, cluster, lua, route, until

pytestmark = pytest.mark.tsan


class Answering:
    """An origin that answers by itself, for load."""

    def __init__(self, rig, name, answer):
        self.o = rig.origin(name)
        self.answer = answer
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        quiet = peers.Transcript()
        while True:
            try:
                sock, _ = self.o.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.conn, args=(peers.OriginConn(sock, "o", quiet),), daemon=True).start()

    def conn(self, c):
        try:
            while True:
                r = c.rx()
                c.tx(self.answer(r))
        except (peers.PeerError, OSError, ValueError):
            pass
        finally:
            c.sock.close()


def load(g, clients, requests, check, target="/%d"):
    problems = []

    def one(k):
        quiet = peers.Transcript()
        try:
            c = peers.Client(g.connect(), "load", quiet)
            for i in range(requests):
                check(c.get(target % i).rx(), i)
            c.close()
        except Exception as e:
            problems.append("%s: %s" % (type(e).__name__, e))
    threads = [threading.Thread(target=one, args=(k,)) for k in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems, problems[:5]


def test_four_workers_serve_and_their_counts_add_up(rig):
    a = Answering(rig, "main", lambda r: "HTTP/1.1 200 OK\nContent-Length: %d\n\n%s" % (len(r.target), r.target))
    g = rig.gateway(args=["--concurrency", "4"])

    def check(answer, i):
        assert answer == (200, b"/%d" % i)
    load(g, 16, 50, check)
    assert g.stat("http.in.downstream_rq_total") == 800
    assert g.stat("http.in.downstream_cx_total") == 16
    assert g.stat("cluster.main.upstream_rq_total") == 800
    assert g.stat("server.concurrency") == 4
    assert a


def test_the_articles_script_runs_in_every_worker(rig):
    Answering(rig, "static", lambda r: "HTTP/1.1 404 Not Found\nContent-Length: 4\n\nnope"
              if int(r.target[1:]) % 2 else "HTTP/1.1 200 OK\nContent-Length: 6\n\nstatic")
    Answering(rig, OLD_SITE, lambda r: "HTTP/1.1 200 OK\nContent-Length: 3\n\nold")
    g = rig.gateway([route("/", "static")], [lua(file=ARTICLE)], args=["--concurrency", "3"])

    def check(answer, i):
        assert answer == (200, b"old" if i % 2 else b"static")
    load(g, 12, 40, check)


def test_connection_limits_are_the_process_and_not_the_workers(rig):
    o = rig.origin()
    g = rig.gateway(args=["--concurrency", "4"], clusters=[cluster("main", o.port, circuit_breakers={
        "thresholds": [{"max_connections": 2, "max_pending_requests": 1024}]})])
    clients = [g.client() for _ in range(12)]
    for c in clients:
        c.get("/")
    # A worker without a connection of its own gets one more when all others are taken, as in Envoy.
    o.ready()
    g.wait_stat("cluster.main.upstream_rq_pending_active", 6)
    assert g.stat("cluster.main.upstream_cx_active") <= 2 + 3
    for c in clients:
        c.abort()

"""The fallback policy under load: memory while answers are held, a large page, many requests at once (spec/fallback.md 13, 16, 17)."""
import asyncio
import os
import resource

import pytest

from rig import cluster, route
from test_fallback import fallback

BREAKERS = {"thresholds": [{"max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000}]}
PAGE = 1 << 20


def rss(g):
    with open("/proc/%d/status" % g.process.pid) as f:
        return int([line.split()[1] for line in f if line.startswith("VmRSS")][0]) * 1024


class Origins:
    """asyncio origins: the primary answers 404 with a page of PAGE bytes, the fallback when told."""

    def __init__(self):
        self.waiting = 0
        self.all_wait = asyncio.Event()
        self.go = asyncio.Event()
        self.n = None
        self.asked = [0, 0]

    async def primary(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked[0] += 1
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % PAGE)
                for _ in range(PAGE // 65536):
                    writer.write(b"p" * 65536)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def fallback(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked[1] += 1
                self.waiting += 1
                if self.waiting == self.n:
                    self.all_wait.set()
                await self.go.wait()
                name = head.split()[1]
                if int(name[1:]) % 2:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(name), name))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


async def one(port, i, gate):
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 << 20)
    writer.write(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % i)
    head = await reader.readuntil(b"\r\n\r\n")
    want = int([line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")][0].split()[1])
    body = await reader.readexactly(want)
    writer.close()
    if i % 2:
        return head.startswith(b"HTTP/1.1 404") and body == b"p" * PAGE
    return head.startswith(b"HTTP/1.1 200") and body == b"/%d" % i


@pytest.mark.release
def test_held_answers_cost_little_and_none_is_lost(rig):
    n = int(os.environ.get("POSTERN_HELD", "5000"))
    need = 3 * n + 500  # on either side: a client, a primary, a fallback each
    hard = max(need, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # more than the hard limit: root may

    async def run():
        o = Origins()
        o.n = n
        p = await asyncio.start_server(o.primary, "127.0.0.1", 0, backlog=4096)
        f = await asyncio.start_server(o.fallback, "127.0.0.1", 0, backlog=4096)
        g = rig.gateway([route("/", {"cluster": "static", "timeout": "0s"})], [fallback({"cluster": "wp", "header_timeout": "120s"}, hold_total_bytes=1 << 40)],
                        clusters=[cluster("static", p.sockets[0].getsockname()[1], circuit_breakers=BREAKERS),
                                  cluster("wp", f.sockets[0].getsockname()[1], circuit_breakers=BREAKERS)])
        before = rss(g)
        gate = asyncio.Semaphore(64)
        tasks = [asyncio.create_task(one(rig.port, i, gate)) for i in range(n)]
        await asyncio.wait_for(o.all_wait.wait(), 120)
        await asyncio.sleep(0.5)
        held = (rss(g) - before) / n
        o.go.set()
        results = await asyncio.wait_for(asyncio.gather(*tasks), 120)
        assert all(results), results.count(False)
        assert o.asked == [n, n]
        p.close()
        f.close()
        return held
    held = asyncio.run(run())
    print("%.1f KiB for each of %d held answers" % (held / 1024, n))
    assert held <= 80 * 1024, "%.1f KiB each" % (held / 1024)


@pytest.mark.release
def test_50_mb_through_the_fallback_grow_nothing(rig):
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", "static")], [fallback()])
    c = g.client()
    c.get("/small")
    static.answer("GET", "404 Not Found", "p")
    wp.answer("GET", "200 OK", "w")
    c.rx()
    before, most, got = rss(g), 0, 0
    c.get("/big")
    static.answer("GET", "404 Not Found", "p")
    wp.rx("GET /big")
    total = 50 << 20
    wp.tx(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    import threading
    piece = b"w" * (1 << 18)
    t = threading.Thread(target=lambda: [wp.last.sock.sendall(piece) for _ in range(total // len(piece))])
    t.start()
    c.until(b"\r\n\r\n")
    got, c.buf = len(c.buf), b""
    while got < total:
        got += len(c.sock.recv(1 << 18))
        most = max(most, rss(g)) if got % 7 == 0 else most
    t.join()
    assert got == total and max(most, rss(g)) - before < 4 << 20

"""A thousand calls of scripts at once, with clients that leave and origins that misbehave: every call ends, nothing is lost.

Sanitizers judge the rest when the gateway stops: no leak, nothing used after its end.
"""
import asyncio
import os
import random
import resource
import socket
import struct

import pytest

from rig import cluster, lua, route, until

BREAKERS = {"thresholds": [{"max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000}]}
CALLS = int(os.environ.get("POSTERN_CALLS", "1000"))

SCRIPT = """
local function call(h, cluster, path, asynchronous)
  return h:httpCall(cluster, {[":method"] = "POST", [":path"] = path, [":authority"] = "callee"}, "question",
                    {timeout_ms = path:find("silent") and 300 or 0, asynchronous = asynchronous, return_duplicate_headers = true})
end
function envoy_on_request(h)
  local path = h:headers():get(":path")
  local kind, how = path:match("^/(%a+)/(%a+)")
  if kind == "ask" then
    local b = how == "body" and h:body()
    local hd, body = call(h, how == "refused" and "down" or "callee", path)
    h:headers():add("x-status", hd[":status"])
    if how == "twice" then h:headers():add("x-again", (call(h, "callee", path))[":status"]) end
    if b then b:setBytes(b:getBytes(0, 4)) end
  elseif kind == "tell" then
    for i = 1, 3 do call(h, i == 3 and "down" or "callee", path, true) end
  elseif kind == "respond" then
    h:respond({[":status"] = "200", ["x-status"] = (call(h, "callee", path))[":status"]}, "from the script")
  elseif kind == "co" then
    local f = coroutine.wrap(function() local ok, hd = pcall(call, h, "callee", path) return hd end)
    h:headers():add("x-status", f()[":status"])
  end
end
function envoy_on_response(h)
  local path = h:requestHeaders():get(":path")
  if path:find("^/back/") then
    local b = h:body()
    local hd, body = call(h, "callee", path)
    h:headers():add("x-status", hd[":status"])
    if body then b:setBytes(body) end
  end
end
"""
KINDS = ["ask", "ask", "tell", "respond", "co", "back"]
HOWS = ["good", "chunked", "closed", "reset", "cuthead", "cutbody", "silent", "late", "refused", "twice", "body", "empty"]


class Callee:
    """Holds every request until `go`, then does what its path says; counts those that wait."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.waiting, self.enough, self.go, self.n = 0, asyncio.Event(), asyncio.Event(), None

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(8)
                self.waiting += 1
                if self.waiting == self.n:
                    self.enough.set()
                await self.go.wait()
                if not await self.answer(writer, head.split()[1].decode().split("/")[2]):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def answer(self, w, how):
        if how == "closed":
            return False
        if how == "reset":
            w.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if how == "silent":
            await asyncio.Event().wait()
        if how == "late":
            for _ in range(self.random.randrange(1, 400)):
                await asyncio.sleep(0)
        if how == "cuthead":
            w.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            return False
        if how == "cutbody":
            w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return False
        if how == "chunked":
            w.write(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n")
            await w.drain()
            w.write(b"0\r\n\r\n")
        elif how == "empty":
            w.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            w.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer")
        await w.drain()
        return True


async def primary(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"content-length: 4" in head.lower():
                await reader.readexactly(4)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def client(port, path, leaves, gate, callee):
    """The status; None when it left. leaves: "", "early" (the call is under way), "late" (the answer may be)."""
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" % path.encode())
    if leaves:
        await (callee.enough if leaves == "early" else callee.go).wait()
        if callee.random.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return None
    head = await reader.readuntil(b"\r\n\r\n")
    n = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    await reader.readexactly(int(n[0].split()[1]) if n else 0)
    writer.close()
    return int(head.split()[1])


def plan(seed):
    r = random.Random(seed)
    out = []
    for i in range(CALLS):
        how = r.choice(HOWS)
        kind = "ask" if how in ("refused", "twice", "body") else r.choice(KINDS)
        out.append(("/%s/%s/%d" % (kind, how, i), r.choice(["", "", "early", "late"])))
    return out


def held(path):
    """How many requests the callee gets before it answers any."""
    return 0 if "/refused" in path else 2 if path.startswith("/tell") else 1


@pytest.mark.parametrize("seed", [int(s) for s in os.environ.get("POSTERN_SEEDS", "1 2 3").split()])
def test_a_thousand_calls_at_once_all_end(rig, seed):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run():
        paths = plan(seed)
        callee, gate = Callee(seed), asyncio.Semaphore(64)
        callee.n = sum(held(p) for p, _ in paths if not p.startswith("/back"))  # these first need the page
        callee.n += sum(1 for p, _ in paths if p.startswith("/back"))
        p = await asyncio.start_server(primary, "127.0.0.1", 0, backlog=4096)
        c = await asyncio.start_server(callee.serve, "127.0.0.1", 0, backlog=4096)
        g = rig.gateway([route("/", {"cluster": "primary", "timeout": "0s"})], [lua(SCRIPT)],
                        clusters=[cluster("primary", p.sockets[0].getsockname()[1], circuit_breakers=BREAKERS),
                                  cluster("callee", c.sockets[0].getsockname()[1], circuit_breakers=BREAKERS),
                                  cluster("down", rig.free_port(), circuit_breakers=BREAKERS)])
        tasks = [asyncio.create_task(client(rig.port, path, leaves, gate, callee)) for path, leaves in paths]
        await asyncio.wait_for(callee.enough.wait(), 120)
        callee.go.set()
        statuses = await asyncio.wait_for(asyncio.gather(*tasks), 120)
        for (path, leaves), status in zip(paths, statuses):
            assert leaves or status == 200, (path, status)
        gauges = ["http.in.downstream_rq_active", "cluster.callee.upstream_rq_active", "cluster.callee.upstream_rq_pending_active",
                  "cluster.primary.upstream_rq_active", "cluster.down.upstream_rq_active", "cluster.down.upstream_rq_pending_active"]

        def quiet():
            s = g.stats()
            return all(s[name] == 0 for name in gauges) and s
        stats = await asyncio.get_running_loop().run_in_executor(None, until, quiet, "every gauge is 0", 30)
        assert stats["http.in.lua.errors"] == 0
        assert stats["cluster.callee.upstream_rq_total"] >= callee.n
        r = await asyncio.get_running_loop().run_in_executor(None, g.get, "/plain/good")
        assert r == (200, b"page")
        p.close()
        c.close()
    asyncio.run(run())

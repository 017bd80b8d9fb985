"""Scripts that run away, one by one, against one worker: what each costs before it is stopped, and how long another
client of the same worker waits meanwhile (./dev bench lua-runaway).

The promise: 100 ms of CPU for each run, 150 ms of waiting for anybody else. Every round asks twice: once alone, for the
worker's CPU time, and once with a second client that asks for a small answer again and again, for its longest wait.
"""
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

X = "type.googleapis.com/envoy.extensions."
CPU_MS, WAIT_MS = 100, 150

# name: the body of envoy_on_request(h). `ok`: it need not be stopped (a bound ends it first), yet costs no more.
CASES = {
    # the seven of dependencies.md 6.9
    "loop": "while true do end",
    "pcall loop": "while true do pcall(function() while true do end end) end",
    "pcall of error": "while true do pcall(error, 'x') end",
    "coroutine loop": "while true do coroutine.wrap(function() while true do end end)() end",
    "pattern bomb": "local s = ('a'):rep(200) return s:find(('.-'):rep(12) .. 'b')",
    "plain find bomb": "local s, p = ('a'):rep(2e6), ('a'):rep(1e6) .. 'b' while true do s:find(p, 1, true) end",
    "allocation loop": "local t = {} while true do t[#t + 1] = {#t} end",
    # what they are made of, combined
    "pcall recursion": "local function f() pcall(f) f() end f()",
    "pcall in coroutines": "local function r() pcall(r) end local function f() pcall(r) coroutine.wrap(f)() end f() while true do f() end",
    "xpcall handler": "local function f() while true do end end while true do xpcall(error, f) end",
    "yielding coroutines": "local f = coroutine.wrap(function() while true do coroutine.yield() end end) while true do f() end",
    "nested coroutines": "local function f() while true do pcall(coroutine.wrap(f)) end end f()",
    "deep recursion": "local function f() return 1 + f() end while true do pcall(f) end",
    "tail calls": "local function f() return f() end f()",
    "metamethods": "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) while true do pcall(function() return t[1] end) end",
    "tostring": "local t = setmetatable({}, {__tostring = function() while true do end end}) error(t)",
    "tostring of the error": "local t = setmetatable({}, {__tostring = function() while true do end end}) while true do pcall(tostring, t) end",
    "callbacks in gsub": "while true do pcall(string.gsub, 'x', '.', function() while true do end end) end",
    "nested gsub": "local function f() return (('x'):gsub('.', f)) end while true do pcall(f) end",
    "pcalls below gsub": "local f local function r(n) if n > 0 then pcall(r, n - 1) else pcall(coroutine.wrap(f)) while true do end end end "
                         "f = function() local _ = ('x'):gsub('.', function() r(6000) end) end f()",
    "sort without order": "local t = {} for i = 1, 1e5 do t[i] = i end while true do pcall(table.sort, t, function(a, b) return true end) end",
    "sort": "local t = {} for i = 1, 3e5 do t[i] = (i * 7919) % 300007 end table.sort(t) while true do table.sort(t) end",
    # long stays in C
    "insert far below": "table.insert({}, -2147483647, 1)",
    "insert in front": "local t = {} for i = 1, 4e5 do t[i] = i end while true do table.insert(t, 1, 0) end",
    "long set": "return ('b'):rep(1e6):find('[' .. ('a'):rep(1e6) .. ']')",
    "back reference": "return (('a'):rep(4e5) .. 'b'):find('(a+)%1c')",
    "frontier": "return ('b'):rep(1e6):find('%f[' .. ('a'):rep(1e6) .. ']')",
    "balanced": "return ('('):rep(1e6):find('%b()')",
    "short needle": "local s, p = ('a'):rep(2e6), ('a'):rep(127) .. 'b' .. ('a'):rep(127) while true do s:find(p, 1, true) end",
    "load much": "local s = ('a=1 '):rep(2.6e5) while true do load(s) end",
    "load piecemeal": "load(function() return 'a=1 ' end)",
    "load comments": "local s = '--' .. ('x'):rep(1e6) while true do load(s) end",
    "rep": "while true do local _ = ('x'):rep(2e6) end",
    "concat": "local t = {} for i = 1, 4e5 do t[i] = 'ab' end while true do table.concat(t) end",
    "doubling": "local s = 'x' while true do s = s .. s end",
    "reverse": "local s = ('x'):rep(3e6) while true do s:reverse() end",
    "format": "while true do string.format(('%99.99f'):rep(200), unpack((function() local t = {} for i = 1, 200 do t[i] = 1e300 end return t end)())) end",
    "numbers": "local s = ('1'):rep(3e6) while true do tonumber(s) end",
    "next over holes": "local t = {} for i = 1, 4e5 do t[i] = i end for i = 1, 4e5 do t[i] = nil end while true do next(t) end",
    "json tree": "local json, t = require('json'), {} for i = 1, 60 do t = {t, t} end return json.encode(t)",
    "json text": "local json, s = require('json'), '[' .. ('[],'):rep(1e4) .. '1]' while true do pcall(json.decode, s) end",
    "json string": "local json, s = require('json'), ('\\0'):rep(1e6) while true do pcall(json.encode, s) end",
    "metadata tree": "local t, m = {}, h:streamInfo():dynamicMetadata() for i = 1, 60 do t = {t, t} end while true do pcall(m.set, m, 'a', 'b', t) end",
    "metadata holes": "local m = h:streamInfo():dynamicMetadata() while true do pcall(m.set, m, 'a', 'b', {[65536] = 1}) end",
    "digests": "local s = ('x'):rep(2e6) while true do require('sha256').hex(s) end",
    "base64": "local s = ('x'):rep(5e5) while true do h:base64Decode(h:base64Escape(s)) end",
    # the API in a loop
    "headers": "while true do pcall(function() h:headers():add('x-a', 'b') end) end",
    "headers replaced": "while true do h:headers():replace('x-a', ('b'):rep(1000)) end",
    "log": "local s = ('x'):rep(1e6) while true do h:logErr(s) end",
    "body": "local b = h:body(true) local s = ('x'):rep(1e6) while true do b:setBytes(s) b:getBytes(0, 1e6) end",
    "calls": "while true do pcall(function() h:httpCall('down', {[':method'] = 'GET', [':path'] = '/', [':authority'] = 'a'}, '', 50, true) end) end",
    "call bodies": "local s = ('x'):rep(1e6) while true do pcall(function() h:httpCall('down', {[':method'] = 'POST', [':path'] = '/', [':authority'] = 'a'}, s, 50, true) end) end",
    "statistics": "local i = 0 while true do i = i + 1 pcall(function() h:stats():counter('c' .. i):inc() end) end",
    "shared": "local d, i = require('postern.shared')('x'), 0 while true do i = i + 1 d:set(i, ('v'):rep(1000)) end",
    "kept for ever": "kept = kept or {} for i = 1, 1e9 do kept[#kept + 1] = {i} end",
    "kept strings": "kept = kept or {} for i = 1, 1e9 do kept[#kept + 1] = 'k' .. i end",
    "weak tables": "local t = setmetatable({}, {__mode = 'k'}) while true do t[{}] = {} end",
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def config(port, cases):
    def one(match, name, more):
        return dict({"match": match, "name": name, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}, **more)
    routes = [one({"path": "/%d" % i}, name, {"typed_per_filter_config": {"envoy.filters.http.lua": {
        "@type": X + "filters.http.lua.v3.LuaPerRoute",
        "source_code": {"inline_string": "function envoy_on_request(h) %s end" % body}}}})
        for i, (name, body) in enumerate(cases.items())]
    routes.append(one({"prefix": "/"}, "other", {}))
    hcm = {"@type": X + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
           "http_filters": [
               {"name": "envoy.filters.http.lua", "typed_config": {"@type": X + "filters.http.lua.v3.Lua"}},
               {"name": "envoy.filters.http.router", "typed_config": {"@type": X + "filters.http.router.v3.Router"}}],
           "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}}
    return json.dumps({"static_resources": {
        "listeners": [{"name": "in", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                       "filter_chains": [{"filters": [{
                           "name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}]}],
        "clusters": [{"name": "down", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
            "cluster_name": "down", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": "127.0.0.1", "port_value": free_port()}}}}]}]}}]}})


def ask(s, path):
    """The status; 0: none."""
    data = b""
    try:
        s.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        while b"\r\n\r\n" not in data:
            more = s.recv(65536)
            if not more:
                return 0
            data += more
    except OSError:
        return 0
    head, body = data.split(b"\r\n\r\n", 1)
    left = int(re.search(rb"(?i)content-length: (\d+)", head).group(1)) - len(body)
    while left > 0:
        left -= len(s.recv(left))
    return int(head.split()[1])


def connect(port):
    s = socket.create_connection(("127.0.0.1", port), 60)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Bystander(threading.Thread):
    """Asks for a small answer every millisecond or so; keeps the longest wait."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.socket, self.over, self.longest, self.since = connect(port), threading.Event(), 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            status = ask(self.socket, "/other")
            self.longest = max(self.longest, time.monotonic() - began)
            if status != 200:
                self.longest = float("inf")
                self.over.set()
            self.since.set()
            self.over.wait(0.001)
        self.socket.close()

    def end(self):
        self.over.set()
        self.join()
        return self.longest * 1000


def used(pid):
    """Milliseconds of processor time so far, and of waiting for a processor."""
    total = [0, 0]
    for t in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, t)) as f:
            for i, n in enumerate(f.read().split()[:2]):
                total[i] += int(n)
    return [n / 1e6 for n in total]


def main(binary, rounds, only=None):
    cases = {n: b for n, b in CASES.items() if not only or only in n}
    bad = 0
    print("%-22s %8s %8s %9s %9s %9s   (ms; of %d rounds)" % ("", "CPU", "most", "wait", "longest", "no CPU", rounds))
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        port = free_port()
        path = os.path.join(folder, "config.json")
        with open(path, "w") as f:
            f.write(config(port, cases))
        with open(os.path.join(folder, "log"), "wb") as log:
            p = subprocess.Popen([binary, "-c", path, "--concurrency", "1"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 10
            while True:
                try:
                    connect(port).close()
                    break
                except OSError:
                    if p.poll() is not None or time.monotonic() > end:
                        sys.exit("no start:\n" + open(os.path.join(folder, "log")).read()[-2000:])
                    time.sleep(0.02)
            for i, name in enumerate(cases):
                cpu, wait, kept, statuses = [], [], [], set()
                for _ in range(rounds):
                    with connect(port) as other, connect(port) as one, connect(port) as two:
                        ask(other, "/other")
                        before = used(p.pid)[0]
                        statuses.add(ask(one, "/%d" % i))
                        ask(other, "/other")  # what the run left to do in its turn of the loop
                        cpu.append(used(p.pid)[0] - before)
                        b = Bystander(port)
                        b.since.wait()
                        before = used(p.pid)[1]
                        statuses.add(ask(two, "/%d" % i))
                        ask(other, "/other")
                        kept.append(used(p.pid)[1] - before)
                        wait.append(b.end())
                # The machine's other work is not the script's doing.
                wrong = 0 in statuses or max(cpu) > CPU_MS or max(w - k for w, k in zip(wait, kept)) > WAIT_MS
                bad += wrong
                print("%-22s %8.1f %8.1f %9.1f %9.1f %9.1f   %s%s" % (
                    name, statistics.median(cpu), max(cpu), statistics.median(wait), max(wait), kept[wait.index(max(wait))],
                    " ".join(map(str, sorted(statuses))), "   TOO LONG" if wrong else ""), flush=True)
                if p.poll() is not None:
                    sys.exit("it ended with %d:\n%s" % (p.returncode, open(os.path.join(folder, "log"), errors="replace").read()[-3000:]))
        finally:
            if p.poll() is None:
                p.send_signal(signal.SIGKILL)
            p.wait()
    print("%d of %d over the limit (%d ms of CPU, %d ms of waiting)" % (bad, len(cases), CPU_MS, WAIT_MS))
    return 1 if bad else 0


#!/usr/bin/python3
"""The fallback policy on a real bucket's website and a real WordPress: README.md says what they must hold.

Between postern and each origin stands a tap: it counts connections, keeps what was asked, and plays the faults.
Every situation is compared with what the spec says and, where that makes sense, with the origin asked directly.
"""
import argparse
import os
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import h2client  # noqa: E402
import peers  # noqa: E402

WAIT = 20.0
REQUEST = re.compile(rb"(?:^|(?<=\n)|(?<=\}))([A-Z]+) (\S+) HTTP/1\.1\r\n((?:[^\r\n]+\r\n)*)\r\n")


class Tap:
    """A TCP proxy that can misbehave. how: pass, refuse, reset, garbage, silent, framing, delay:S, cut:N, say:BYTES."""

    def __init__(self, to):
        self.to, self.how, self.opened, self.sent, self.ended = to, "pass", 0, b"", 0
        self.lock = threading.Lock()
        self.open = set()
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            c, _ = self.sock.accept()
            with self.lock:
                self.opened += 1
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    @staticmethod
    def kill(c):
        try:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
        except OSError:
            pass

    def serve(self, c):
        try:
            self.carry(c)
        except OSError:
            pass
        finally:
            with self.lock:
                self.ended += 1
            try:
                c.close()
            except OSError:
                pass

    def carry(self, c):
        if self.how == "refuse":
            return self.kill(c)
        o = socket.create_connection(self.to)
        back, how = 0, "pass"
        try:
            while True:
                for s in select.select([c, o], [], [])[0]:
                    data = s.recv(65536)
                    if s is c:
                        how, back = self.how, 0
                        if data:
                            with self.lock:
                                self.sent += data
                        if not data:
                            return
                        if how in ("refuse", "reset"):
                            return self.kill(c)
                        if how == "garbage":
                            c.sendall(b"not http at all\r\n\r\n")
                            return
                        if how == "framing":
                            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello")
                            return
                        if isinstance(how, bytes):
                            c.sendall(how)
                            continue
                        if how == "silent":
                            continue
                        if how.startswith("delay:"):
                            time.sleep(float(how[6:]))
                        o.sendall(data)
                    else:
                        if not data:
                            return
                        if how.startswith("cut:"):
                            room = int(how[4:]) - back
                            c.sendall(data[:max(room, 0)])
                            back += len(data)
                            if len(data) >= room:
                                return self.kill(c)
                            continue
                        c.sendall(data)
        finally:
            o.close()

    def requests(self):
        with self.lock:
            return [(m.group(1).decode(), m.group(2).decode("latin-1"),
                     peers.parse_fields(m.group(3).split(b"\r\n")[:-1])) for m in REQUEST.finditer(self.sent)]

    def clear(self):
        with self.lock:
            self.sent, self.opened, self.ended = b"", 0, 0


class Answer:
    def __init__(self, status, headers, body, raw=b"", interim=(), cut=False):
        self.status, self.headers, self.body, self.raw, self.interim, self.cut = status, headers, body, raw, list(interim), cut

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name]

    def one(self, name):
        return (self.all(name) or [None])[0]


class Conn:
    """A client of HTTP/1 on a raw socket."""

    def __init__(self, port, tls=False, host="127.0.0.1"):
        self.s = socket.create_connection((host, port), timeout=WAIT)
        if tls:
            ctx = ssl._create_unverified_context()
            ctx.set_alpn_protocols(["http/1.1"])
            self.s = ctx.wrap_socket(self.s, server_hostname="example.com")
        self.buf, self.eof = b"", False

    def send(self, data):
        self.s.sendall(data)

    def more(self):
        try:
            d = self.s.recv(262144)
        except (ConnectionResetError, ssl.SSLError):
            d = b""
        self.eof = not d
        self.buf += d
        return bool(d)

    def head(self):
        while b"\r\n\r\n" not in self.buf:
            assert self.more(), "the connection ended in a head: %r" % self.buf[:200]
        h, self.buf = self.buf.split(b"\r\n\r\n", 1)
        lines = h.split(b"\r\n")
        return int(lines[0].split()[1]), peers.parse_fields(lines[1:]), h

    def take(self, n):
        parts, have = [self.buf], len(self.buf)
        while have < n:
            self.buf = b""
            if not self.more():
                return b"".join(parts), False
            parts.append(self.buf)
            have += len(self.buf)
        all_ = b"".join(parts)
        self.buf = all_[n:]
        return all_[:n], True

    def line(self):
        while b"\r\n" not in self.buf:
            if not self.more():
                return None
        line, self.buf = self.buf.split(b"\r\n", 1)
        return line

    def answer(self, method="GET"):
        interim = []
        while True:
            status, h, raw = self.head()
            if status >= 200 or status == 101:
                break
            interim.append(status)
        low = {n.lower(): v for n, v in h}
        body, ok = b"", True
        if method == "HEAD" or status in (204, 304, 101):
            pass
        elif "chunked" in low.get("transfer-encoding", ""):
            parts = []
            while ok:
                line = self.line()
                if line is None:
                    ok = False
                    break
                n = int(line.split(b";")[0], 16)
                if not n:
                    while self.line():
                        pass
                    break
                part, ok = self.take(n + 2)
                parts.append(part[:n])
            body = b"".join(parts)
        elif "content-length" in low:
            body, ok = self.take(int(low["content-length"]))
        else:
            parts = [self.buf]
            self.buf = b""
            while self.more():
                parts.append(self.buf)
                self.buf = b""
            body = b"".join(parts)
        return Answer(status, h, body, raw, interim, not ok)

    def ask(self, method, target, fields=(), body=None, host="example.com", version="1.1"):
        lines = ["%s %s HTTP/%s" % (method, target, version), "Host: " + host]
        lines += ["%s: %s" % f for f in fields]
        if body is not None:
            lines.append("Content-Length: %d" % len(body))
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))
        return self.answer(method)

    def close(self):
        self.s.close()

    def abort(self):
        """Gone: RST. A FIN alone may be a client that still reads."""
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.s.close()


class H2:
    def __init__(self, port):
        ctx = ssl._create_unverified_context()
        ctx.set_alpn_protocols(["h2"])
        s = ctx.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=WAIT), server_hostname="example.com")
        assert s.selected_alpn_protocol() == "h2"
        self.c = h2client.H2Client(s, peers.Transcript())

    def start(self, method, target, fields=(), body=None, host="example.com"):
        c = self.c
        sid = c.conn.get_next_available_stream_id()
        c.conn.send_headers(sid, [(":method", method), (":scheme", "https"), (":authority", host), (":path", target)] +
                            [(n.lower(), v) for n, v in fields], end_stream=body is None)
        c.flush()
        if body is not None:
            self.upload(sid, body)
        return sid

    def upload(self, sid, body):
        stop = time.monotonic() + WAIT
        conn = self.c.conn
        while True:
            room = min(conn.local_flow_control_window(sid), conn.max_outbound_frame_size)
            part, body = body[:room], body[room:]
            conn.send_data(sid, part, end_stream=not body)
            self.c.flush()
            if not body:
                return
            while conn.local_flow_control_window(sid) <= 0:
                self.c.step(stop, "window")

    def finish(self, sid):
        s = self.c.wait(sid, lambda s: s["end"] or s["reset"] is not None, "end", WAIT)
        h = peers.Fields((n, v) for n, v in (s["head"] or []) if not n.startswith(":"))
        status = int(dict(s["head"])[":status"]) if s["head"] else 0
        return Answer(status, h, s["data"], cut=s["reset"] is not None,
                      interim=[int(dict(i)[":status"]) for i in s["interim"]])

    def ask(self, method, target, fields=(), body=None, host="example.com"):
        return self.finish(self.start(method, target, fields, body, host))

    def close(self):
        self.c.close()


VOLATILE = {"date", "connection", "keep-alive", "transfer-encoding", "content-length", "set-cookie", "server", "x-powered-by", "expires",
            "x-envoy-upstream-service-time"}


def alike(a, b, head=False):
    """a: through postern, b: direct."""
    assert not a.cut, "cut"
    assert a.status == b.status, "status %d, direct %d" % (a.status, b.status)
    assert head or a.body == b.body, "body %d bytes, direct %d" % (len(a.body), len(b.body))
    pa = [(n.lower(), v) for n, v in a.headers if n.lower() not in VOLATILE]
    pb = [(n.lower(), v) for n, v in b.headers if n.lower() not in VOLATILE]
    assert pa == pb, "headers %r, direct %r" % (pa, pb)
    assert len(a.all("set-cookie")) == len(b.all("set-cookie")), "cookies"
    if b.all("content-length"):
        assert a.all("content-length") == b.all("content-length"), "content-length"
    assert a.one("date") is not None


def eq(got, want, what=""):
    assert got == want, "%s: got %r, want %r" % (what, got, want)


def until(done, what, timeout=5):
    end = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < end, "not in time: " + what
        time.sleep(0.01)


SITUATIONS = []


def situation(section, name, **mark):
    def deco(fn):
        SITUATIONS.append((section, name, fn, mark))
        return fn
    return deco


class World:
    pass


def rss(pid):
    kids = subprocess.run(["ps", "-o", "rss=", "-p", str(pid), "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return sum(map(int, kids))


def start(args):
    w = World()
    w.P, w.F = Tap(args.p), Tap(args.f)
    def free():
        with socket.create_server(("127.0.0.1", 0)) as s:
            return s.getsockname()[1]
    w.port, w.tls = free(), free()
    d = tempfile.mkdtemp(prefix="postern-site-")
    w.log = os.path.join(d, "log")
    cmd = [args.postern, "run", "--no-supervise", "--no-probe", "--concurrency", "1", "--admin", "unix:" + d + "/a"]
    if args.config:
        text = open(args.config).read()
        for name, value in (("@LISTEN@", w.port), ("@TLS@", w.tls), ("@PRIMARY@", w.P.port), ("@FALLBACK@", w.F.port), ("@CERT@", args.cert), ("@KEY@", args.key)):
            text = text.replace(name, str(value))
        path = os.path.join(d, "postern.yaml")
        with open(path, "w") as f:
            f.write(text)
        cmd = [args.postern, "run", "--no-supervise", "--concurrency", "1", "-c", path]
    else:
        cmd += ["--static", "http://127.0.0.1:%d" % w.P.port, "--fallback", "http://127.0.0.1:%d" % w.F.port, "--host", "example.com",
                "--override", "query:wp=1", "--override", "cookie:wp=1", "--override", "header:x-wp=1",
                "--listen", "127.0.0.1:%d" % w.port, "--listen", "tls:127.0.0.1:%d" % w.tls, "--cert", args.cert, "--key", args.key]
    w.cmd = cmd
    w.proc = subprocess.Popen(cmd, stderr=open(w.log, "w"), stdout=subprocess.DEVNULL)
    def ready():
        assert w.proc.poll() is None, "postern ended: " + open(w.log).read()[-3000:]
        try:
            socket.create_connection(("127.0.0.1", w.port), timeout=1).close()
            return True
        except OSError:
            return False
    until(ready, "start of postern", 10)
    w.direct_p = lambda *a, **k: direct(args.p, *a, **k)
    w.direct_f = lambda *a, **k: direct(args.f, *a, **k)
    w.h1 = lambda tls=False: Conn(w.tls if tls else w.port, tls)
    w.h2 = lambda: H2(w.tls)
    def ask(*a, **k):
        c = w.h1(k.pop("tls", False))
        try:
            return c.ask(*a, **k)
        finally:
            c.close()
    w.ask = ask
    return w


def direct(to, method, target, fields=(), body=None, host="example.com", version="1.1"):
    c = Conn(to[1], host=to[0])
    try:
        return c.ask(method, target, list(fields), body, host, version)
    finally:
        c.close()


def main():
    import situations  # noqa: F401  (registers itself)
    a = argparse.ArgumentParser()
    a.add_argument("--static", required=True, help="the bucket's website, http://ADDRESS:PORT")
    a.add_argument("--fallback", required=True, help="WordPress, http://ADDRESS:PORT")
    a.add_argument("--postern", default=os.environ.get("POSTERN_BIN", "postern"))
    a.add_argument("--password", default="pw-Test-1", help="of WordPress's user admin")
    a.add_argument("--config", help="a bootstrap with @LISTEN@, @TLS@, @PRIMARY@, @FALLBACK@, @CERT@, @KEY@, instead of options")
    a.add_argument("--only", default="")
    args = a.parse_args()
    where = lambda u: (lambda p: (p.hostname, p.port or 80))(urllib.parse.urlsplit(u))
    args.p, args.f = where(args.static), where(args.fallback)
    args.cert, args.key = situations.make_cert()
    bad = total = 0
    w = start(args)
    w.args = args
    try:
        for section, name, fn, mark in SITUATIONS:
            label = "%2d %s" % (section, name)
            if args.only not in label:
                continue
            w.P.how = w.F.how = "pass"
            w.P.clear()
            w.F.clear()
            total += 1
            t = time.monotonic()
            try:
                fn(w)
                ok = ""
            except Exception as e:  # noqa: BLE001
                ok = "%s: %s" % (type(e).__name__, e)
                bad += 1
            t = time.monotonic() - t
            print("%s %s%s%s" % ("FAIL" if ok else "ok  ", label, "  (%.1f s)" % t if t > 2 else "", "\n       " + ok[:1500] if ok else ""), flush=True)
            if w.proc.poll() is not None:
                print("postern ended:", open(w.log).read()[-3000:])
                return 1
    finally:
        w.proc.send_signal(signal.SIGQUIT)
        rc = w.proc.wait(40)
    print("%d situations, %d wrong; postern ended with %d" % (total, bad, rc))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.modules["run"] = sys.modules["__main__"]
    sys.exit(main())

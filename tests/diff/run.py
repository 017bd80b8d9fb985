#!/usr/bin/python3
"""Runs Lua scripts on Envoy and on postern and compares what the client got, what origins saw and what the scripts logged.

usage: tests/diff/run.py [--postern BINARY] [--show] [TEXT...]     only cases whose name contains one of the texts

ENVOY names Envoy's binary (1.40); without it nothing is compared, which is said, and the exit status is 0. A case with `differs: why`
is one of the places where postern is better on purpose: there both must answer, and not the same. See README.md.
"""
import argparse
import glob
import hashlib
import os
import re
import select
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import certs  # noqa: E402
import h2client  # noqa: E402
import peers  # noqa: E402

T = "type.googleapis.com/envoy.extensions."
HIDDEN = {"date", "server", "connection", "keep-alive", "x-request-id"}
TIMEOUT = 10


def loopback_ports(n):
    """Free ones, all different: each is held until all are found."""
    held = [socket.socket() for _ in range(n)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


# --- the wire, both sides ---

class Closed(Exception):
    pass


class Wire:
    def __init__(self, sock):
        self.sock, self.data = sock, b""
        sock.settimeout(TIMEOUT)

    def fill(self):
        try:
            more = self.sock.recv(65536)
        except (ConnectionError, socket.timeout) as e:
            raise Closed(type(e).__name__)
        if not more:
            raise Closed("closed")
        self.data += more

    def line(self):
        while b"\r\n" not in self.data:
            self.fill()
        line, self.data = self.data.split(b"\r\n", 1)
        return line.decode("latin-1")

    def take(self, n):
        while len(self.data) < n:
            self.fill()
        out, self.data = self.data[:n], self.data[n:]
        return out

    def fields(self):
        out = []
        while True:
            line = self.line()
            if not line:
                return out
            name, value = line.split(":", 1)
            out.append((name.strip().lower(), value.strip()))

    def message(self, answer, bodiless=False):
        """First line, fields, body, trailers; interim answers are passed over."""
        while True:
            first, fields = self.line(), self.fields()
            status = int(first.split(" ", 2)[1]) if answer else 0
            if not answer or status >= 200 or status == 101:
                break
        get = dict(fields)
        body, trailers = b"", []
        if bodiless or status in (101, 204, 304):
            pass
        elif "chunked" in get.get("transfer-encoding", ""):
            while True:
                n = int(self.line().split(";")[0], 16)
                if not n:
                    break
                body += self.take(n)
                self.take(2)
            trailers = self.fields()
        elif "content-length" in get:
            body = self.take(int(get["content-length"]))
        elif answer:
            try:
                while True:
                    self.fill()
            except Closed:
                body, self.data = self.data, b""
        return first, fields, body, trailers


def pairs_of(headers):
    items = headers.items() if isinstance(headers, dict) else [tuple(x) for x in headers or []]
    return [(k, str(x)) for k, v in items for x in (v if isinstance(v, list) else [v])]


def body_of(d):
    return str(d.get("body", "")).encode() * d.get("times", 1)


def encode(first, d, host=None, body_due=False):
    fields = pairs_of(d.get("headers"))
    body, chunks = body_of(d), d.get("chunks")
    if host and not any(k.lower() == "host" for k, _ in fields):
        fields.insert(0, ("Host", host))
    if chunks is not None or d.get("trailers"):
        fields.append(("Transfer-Encoding", "chunked"))
        pieces = [c.encode() for c in (chunks if chunks is not None else [body.decode()]) if c]
        rest = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in pieces) + b"0\r\n"
        rest += "".join("%s: %s\r\n" % f for f in pairs_of(d.get("trailers"))).encode() + b"\r\n"
    else:
        if body or body_due:
            fields.append(("Content-Length", str(d.get("length", len(body)))))
        rest = body
    return (first + "\r\n" + "".join("%s: %s\r\n" % f for f in fields) + "\r\n").encode("latin-1") + rest


class Origin:
    """Answers with its replies in turn, the last again and again; keeps what it was asked."""

    def __init__(self):
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.lock, self.replies, self.seen = threading.Lock(), [{}], []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def begin(self, replies):
        with self.lock:
            self.replies, self.seen = list(replies), []

    def serve(self, conn):
        wire = Wire(conn)
        wire.sock.settimeout(None)
        try:
            while True:
                first, fields, body, trailers = wire.message(False)
                method, target, _ = first.split(" ")
                with self.lock:
                    self.seen.append({"method": method, "target": target, "headers": fields, "body": body.decode("latin-1"),
                                      "trailers": trailers})
                    reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                time.sleep(reply.get("delay_ms", 0) / 1000)
                if reply.get("fail") == "close":
                    break
                status = reply.get("status", 200)
                data = encode("HTTP/1.1 %d %s" % (status, "OK"), reply, body_due=status not in (204, 304))
                if method == "HEAD":
                    data = data.split(b"\r\n\r\n", 1)[0] + b"\r\n\r\n"
                if reply.get("body_delay_ms"):
                    head, data = data.split(b"\r\n\r\n", 1)
                    conn.sendall(head + b"\r\n\r\n")
                    time.sleep(reply["body_delay_ms"] / 1000)
                send_paced(conn, data, reply)
                if reply.get("close"):
                    break
        except (Closed, OSError, ValueError):
            pass
        conn.close()


def send_paced(sock, data, d):
    """With pause_ms: the head, then the body in pieces of piece bytes (1 unless told) with that pause in between."""
    if not d.get("pause_ms"):
        sock.sendall(data)
        return
    head, rest = data.split(b"\r\n\r\n", 1)
    sock.sendall(head + b"\r\n\r\n")
    n = d.get("piece", 1)
    for at in range(0, len(rest), n):
        time.sleep(d["pause_ms"] / 1000)
        sock.sendall(rest[at:at + n])


class Nothing:
    def add(self, *words):
        pass


class Client:
    """One client; a request with keep leaves its connection to the next one."""

    def __init__(self, port, tls):
        self.port, self.tls, self.wire, self.h2 = port, tls, None, None

    def connect(self, alpn):
        sock = socket.create_connection(("127.0.0.1", self.port))
        if self.tls:
            context = self.tls["certs"].client(alpn=[alpn], cert="client.example" if self.tls.get("client_cert") else None,
                                               version=ssl.TLSVersion.TLSv1_2 if self.tls.get("version") == 1.2 else None)
            sock = context.wrap_socket(sock, server_hostname="a.example")
        return sock

    def ask(self, request):
        r = {"request": request} if isinstance(request, str) else dict(request)
        words = r.get("request", "GET /").split(" ")
        return (self.ask_h2 if r.get("h2") else self.ask_h1)(r, words[0], words[1] if len(words) > 1 else "/")

    def ask_h1(self, r, method, target):
        r.setdefault("chunks", None)
        try:
            if not self.wire:
                self.wire = Wire(self.connect("http/1.1"))
            data = encode("%s %s HTTP/1.%d" % (method, target, r.get("minor", 1)), r, host=r.get("host", "example.test"))
            send_paced(self.wire.sock, data, r)
            if r.get("leave_ms"):
                time.sleep(r["leave_ms"] / 1000)
                self.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raise Closed("left")
            first, fields, body, trailers = self.wire.message(True, method == "HEAD")
            out = {"status": int(first.split(" ")[1]), "headers": fields, "body": body.decode("latin-1"), "trailers": trailers}
            if r.get("reason"):
                out["body"] += " (%s)" % first
            if r.get("connection"):
                out["headers"] += [("x-connection", v) for k, v in fields if k == "connection"]
        except (Closed, OSError, ValueError):
            out = {"no_answer": "cut"}
        if "no_answer" in out or not r.get("keep"):
            self.close()
        return out

    def ask_h2(self, r, method, path):
        try:
            if not self.h2:
                self.h2 = h2client.H2Client(self.connect("h2"), Nothing())
            chunks = [c.encode() for c in r["chunks"]] if "chunks" in r else [body_of(r)] if "body" in r else []
            trailers = pairs_of(r.get("trailers"))
            sid = self.h2.request(method, path, *pairs_of(r.get("headers")), end=not chunks and not trailers and "chunks" not in r,
                                  scheme=r.get("scheme", "https" if self.tls else "http"), authority=r.get("host", "example.test"))
            for i, c in enumerate(chunks):
                self.h2.send(sid, c, end=i == len(chunks) - 1 and not trailers)
                time.sleep(r.get("pause_ms", 0) / 1000)
            if trailers:
                self.h2.trailers(sid, *trailers)
            elif not chunks and "chunks" in r:
                self.h2.send(sid, b"", end=True)
            a = self.h2.rx(sid)
            out = {"status": a.status, "headers": [(k, v) for k, v in a.headers if k != ":status"],
                   "body": a.body.decode("latin-1"), "trailers": list(a.trailers)}
        except (peers.PeerError, AssertionError, OSError) as e:
            out = {"no_answer": "cut"}
        if "no_answer" in out or not r.get("keep"):
            self.close()
        return out

    def close(self):
        if self.wire:
            self.wire.sock.close()
        if self.h2:
            self.h2.close()
        self.wire = self.h2 = None


# --- the gateways ---

def transport(tls):
    made, name = tls["certs"], "a.example"
    common = {"tls_certificates": [{"certificate_chain": {"filename": str(made.pem(name))}, "private_key": {"filename": str(made.key(name))}}],
              "alpn_protocols": ["h2", "http/1.1"]}
    if tls.get("client_cert") or tls.get("ask"):
        common["validation_context"] = {"trusted_ca": {"filename": str(made.ca)}}
    return {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": T + "transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": common, **tls.get("context", {})}}


def bootstrap(cases, origins, ports, admin, down):
    clusters = []
    for name, port in list(origins.items()) + [("down", down)]:
        clusters.append({"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": {
            "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                "socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]}})
    clusters.append({"name": "empty", "type": "STATIC", "connect_timeout": "2s"})
    listeners = []
    for case, port in zip(cases, ports):
        filters = list(case.get("filters_before", []))
        for i, code in enumerate(case.get("luas", [case["lua"]] if "lua" in case else [])):
            name = "envoy.filters.http.lua" + (str(i) if i else "")
            filters.append({"name": name, "typed_config": dict(
                {"@type": T + "filters.http.lua.v3.Lua", "default_source_code": {"inline_string": code}}, **case.get("filter", {}))})
        filters.append({"name": "envoy.filters.http.router", "typed_config": {"@type": T + "filters.http.router.v3.Router"}})
        vhost = dict({"name": "vh", "domains": ["*"],
                      "routes": case.get("routes", [{"match": {"prefix": "/"}, "route": {"cluster": "primary"}}])},
                     **case.get("virtual_host", {}))
        hcm = dict({"@type": T + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
                    "route_config": {"name": "r", "virtual_hosts": [vhost]}, "http_filters": filters}, **case.get("hcm", {}))
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}
        if case.get("tls"):
            chain["transport_socket"] = transport(case["tls"])
        listeners.append({"name": "l%d" % port, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                          "filter_chains": [chain], **case.get("listener", {})})
    return {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
            "static_resources": {"listeners": listeners, "clusters": clusters}}


class Gateway:
    def __init__(self, binary, cases, origins, folder):
        *self.ports, admin, down = loopback_ports(len(cases) + 2)
        self.escapes = binary != os.environ.get("ENVOY")  # postern writes control bytes as \xNN
        self.name, self.admin = os.path.basename(binary), admin
        path = os.path.join(folder, self.name + ".yaml")
        with open(path, "w") as f:
            yaml.safe_dump(bootstrap(cases, {n: o.port for n, o in origins.items()}, self.ports, admin, down), f)
        self.log_path = os.path.join(folder, self.name + ".log")
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen(
            [binary, "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "--component-log-level", "lua:trace",
             "--drain-time-s", "1"], stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while True:
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise SystemExit("%s does not start:\n%s" % (binary, "\n".join(
                    line[:400] for line in open(self.log_path, errors="replace").read().splitlines()[-8:])))
            try:
                socket.create_connection(("127.0.0.1", self.ports[-1])).close()
                break
            except OSError:
                select.select([], [], [], 0.02)
        self.read_log()

    def read_log(self):
        """What scripts have logged since the last time. A script's line may be followed by a traceback: that is postern's own."""
        with open(self.log_path, errors="replace") as f:
            f.seek(getattr(self, "at", 0))
            text = f.read()
            self.at = f.tell()
        lines = re.findall(r"^\[[^]]*\]\[\d+\]\[(\w+)\]\[lua\] (?:\[[^]]*\] )?script log: (.*)$", text, re.M)
        if self.escapes:
            lines = [(level, re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m.group(1), 16)), text)) for level, text in lines]
        return [{"warn": "warning", "err": "error"}.get(level, level) + ": " + text for level, text in lines]

    def play(self, i, case, origins):
        for name, origin in origins.items():
            replies = case.get("replies", {}).get(name, {"headers": {"content-type": "text/plain"}, "body": name})
            origin.begin(replies if isinstance(replies, list) else [replies])
        self.read_log()
        before = self.stats(case.get("stats", []))
        client = Client(self.ports[i], case.get("tls"))
        answers = [client.ask(r) for r in case.get("requests", ["GET /"])]
        client.close()
        time.sleep(case.get("settle_ms", 20) / 1000)
        after = self.stats(case.get("stats", []))
        return {"answers": answers, "origins": {n: o.seen for n, o in origins.items()}, "log": self.read_log(),
                "stats": ["%s %+d" % (n, after[n] - before[n]) for n in after]}

    def stats(self, names):
        """Those of the admin port that are asked for; what is not there is 0."""
        if not names:
            return {}
        with urllib.request.urlopen("http://127.0.0.1:%d/stats" % self.admin, timeout=TIMEOUT) as f:
            found = dict(re.findall(r"^(\S+): (\d+)$", f.read().decode(), re.M))
        return {n: int(found.get(n, 0)) for n in names}

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


# --- comparing ---

def fields_of(fields, ports):
    out = []
    for name, value in sorted(fields, key=lambda f: f[0]):
        if name in HIDDEN or name.startswith("x-envoy-"):
            continue
        if name == "x-forwarded-for":
            value = "(present)"
        for port in ports:
            value = value.replace(":%d" % port, ":PORT")
        out.append("%s: %s" % (name, value))
    return out


def short(body):
    """A body's text; of a long one its length and a digest."""
    return repr(body) if len(body) <= 2000 else "of %d bytes, %s" % (len(body), hashlib.sha256(body.encode("latin-1")).hexdigest()[:16])


def plain(result, ports, mask=None, by_target=False):
    """As lines of text that two gateways should have in common."""
    out = []
    for i, a in enumerate(result["answers"]):
        if "no_answer" in a:
            out.append("answer %d: none" % i)
            continue
        out.append("answer %d: %d" % (i, a["status"]))
        out += ["  " + f for f in fields_of(a["headers"], ports)] + ["  body " + short(a["body"])]
        out += ["  trailer %s" % f for f in fields_of(a["trailers"], ports)]
    for name, seen in result["origins"].items():
        for m in sorted(seen, key=lambda m: m["target"]) if by_target else seen:
            out.append("%s: %s %s" % (name, m["method"], m["target"]))
            out += ["  " + f for f in fields_of(m["headers"], ports)] + ["  body " + short(m["body"])]
            out += ["  trailer %s" % f for f in fields_of(m["trailers"], ports)]
    for line in result["log"]:
        for port in ports:
            line = line.replace(":%d" % port, ":PORT")
        out.append("log " + (re.sub(mask, "(masked)", line) if mask else line))
    return out + ["stat " + line for line in result["stats"]]


def difference(a, b):
    import difflib
    return [line for line in difflib.unified_diff(a, b, "envoy", "postern", lineterm="", n=2)]


def load(only):
    cases = []
    for path in sorted(glob.glob(os.path.join(HERE, "cases", "*.yaml"))):
        with open(path) as f:
            doc = yaml.safe_load(f)
        for c in doc["cases"]:
            c = dict(doc.get("defaults", {}), **c)
            c["id"] = os.path.basename(path)[:-5] + "/" + c["name"]
            if not only or any(t in c["id"] for t in only):
                cases.append(c)
    return cases


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--postern", default=os.environ.get("POSTERN_BIN", os.path.join(ROOT, "build", "postern")))
    p.add_argument("--show", action="store_true", help="what was observed on both")
    p.add_argument("only", nargs="*")
    args = p.parse_args()
    envoy = os.environ.get("ENVOY")
    if not envoy or not os.access(envoy, os.X_OK):
        print("skipped: ENVOY names no binary, so there is nothing to compare with")
        print("0 passed, 0 failed")
        return 0
    cases = load(args.only)
    origins = {"primary": Origin(), "aux": Origin()}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        gateways = []
        if any(c.get("tls") for c in cases):
            made = certs.Certs(pathlib.Path(folder))
            for c in cases:
                if c.get("tls"):
                    c["tls"] = dict(c["tls"], certs=made)
        try:
            for binary in (envoy, args.postern):
                gateways.append(Gateway(binary, cases, origins, folder))
            for i, case in enumerate(cases):
                ports = [g.ports[i] for g in gateways] + [o.port for o in origins.values()]
                a, b = [plain(g.play(i, case, origins), ports, case.get("mask"), case.get("by_target")) for g in gateways]
                diff, known = difference(a, b), case.get("differs")
                if args.show:
                    print("=== %s\n%s" % (case["id"], "\n".join(a)))
                if bool(diff) == bool(known):
                    continue
                failed += 1
                print("FAIL %s%s" % (case["id"], ": should differ: " + known if known else ""))
                print("\n".join("  " + line for line in diff))
                for g in gateways:
                    if g.process.poll() is not None:
                        print("  %s has ended" % g.name)
        finally:
            for g in gateways:
                g.stop()
    print("%d passed, %d failed" % (len(cases) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

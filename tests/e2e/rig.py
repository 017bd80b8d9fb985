"""Starts postern on bootstraps written by the test, with scripted peers on both sides (peers.py).

A gateway is ended by its pid when the test is over; what it printed and every byte exchanged is shown
when the test fails. A sanitizer report, a broken must() or an exit status other than 0 fails the test.
"""
import copy
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import time

import yaml

import dnsserver
import h2client
import peers
from peers import TIMEOUT, PeerError

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
T = "type.googleapis.com/"
X = T + "envoy.extensions."
HCM = X + "filters.network.http_connection_manager.v3.HttpConnectionManager"

TROUBLE = re.compile(
    r"ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:|AddressSanitizer:DEADLYSIGNAL"
    r"|must failed|^must\b|PANIC: unprotected", re.M)

ARTICLE = os.path.join(ROOT, "examples", "article", "article.lua")
OLD_SITE = "outbound|443||example.com"
# Of a cluster: trailers pass to its origins and back.
TRAILERS = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": X + "upstreams.http.v3.HttpProtocolOptions",
    "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}}}


def until(done, what, timeout=TIMEOUT):
    """Polls for something that announces itself nowhere else; returns the first true value."""
    end = time.monotonic() + timeout
    while True:
        value = done()
        if value:
            return value
        if time.monotonic() > end:
            raise PeerError("not within %.1f s: %s" % (timeout, what))
        select.select([], [], [], 0.005)


def address(where):
    """A port, (host, port) or the path of a unix socket as Envoy's address."""
    if isinstance(where, str):
        return {"pipe": {"path": where}}
    host, port = where if isinstance(where, tuple) else ("127.0.0.1", where)
    return {"socket_address": {"address": host, "port_value": port}}


def endpoint(where, **more):
    return dict({"endpoint": {"address": address(where)}}, **more)


def cluster(name, *where, **over):
    c = {"name": name, "type": "STATIC", "connect_timeout": "2s",
         "load_assignment": {"cluster_name": name,
                             "endpoints": [{"lb_endpoints": [endpoint(w) for w in where]}]}}
    c.update(over)
    return c


def route(match, to=None, **over):
    """match: a path prefix or Envoy's match; to: a cluster's name or an action's field."""
    r = {"match": {"prefix": match} if isinstance(match, str) else match}
    if to is not None:
        r["route"] = {"cluster": to} if isinstance(to, str) else to
    r.update(over)
    return r


def vhost(name, domains, routes, **over):
    return dict({"name": name, "domains": domains, "routes": routes}, **over)


def lua(code=None, file=None, name="envoy.filters.http.lua", **over):
    source = {"filename": file} if file else {"inline_string": code}
    return {"name": name, "typed_config": dict(
        {"@type": X + "filters.http.lua.v3.Lua", "default_source_code": source}, **over)}


def static(root, **over):
    return {"name": "postern.filters.http.static", "typed_config": dict(
        {"@type": T + "postern.filters.http.static.v1.Static", "root": str(root)}, **over)}


def router(**over):
    return {"name": "envoy.filters.http.router",
            "typed_config": dict({"@type": X + "filters.http.router.v3.Router"}, **over)}


def hcm(vhosts, filters=(), **over):
    filters = list(filters)
    if not filters or not filters[-1]["name"].endswith((".static", ".router")):  # those answer all
        filters.append(router())
    c = {"@type": HCM, "stat_prefix": "in", "codec_type": "AUTO", "http_filters": filters,
         "route_config": {"name": "r", "virtual_hosts": vhosts}}
    c.update(over)
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": c}


def listener(name, where, chains, **over):
    return dict({"name": name, "address": address(where), "filter_chains": chains}, **over)


def tls_down(cert, key, alpn=("h2", "http/1.1"), common=None, **over):
    c = {"tls_certificates": [{"certificate_chain": {"filename": str(cert)},
                               "private_key": {"filename": str(key)}}],
         "alpn_protocols": list(alpn)}
    c.update(common or {})
    return {"name": "envoy.transport_sockets.tls", "typed_config": dict(
        {"@type": X + "transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": c}, **over)}


def tls_up(common=None, **over):
    return {"name": "envoy.transport_sockets.tls", "typed_config": dict(
        {"@type": X + "transport_sockets.tls.v3.UpstreamTlsContext",
         "common_tls_context": common or {}}, **over)}


def access_log(path, text=None, json_format=None):
    f = {}
    if text is not None:
        f = {"log_format": {"text_format_source": {"inline_string": text}}}
    if json_format is not None:
        f = {"log_format": {"json_format": json_format}}
    return [{"name": "envoy.access_loggers.file", "typed_config": dict(
        {"@type": X + "access_loggers.file.v3.FileAccessLog", "path": str(path)}, **f)}]


class Gateway:
    """A running postern."""

    def __init__(self, rig, config, args=(), env=None, name="postern", form=None):
        self.rig, self.config, self.name = rig, config, name
        self.path = rig.tmp / (name + ".yaml")
        self.log_path = rig.tmp / (name + ".log")
        self.write(config)
        admin = config.get("admin", {}).get("address", {})
        self.admin_port = admin.get("socket_address", {}).get("port_value")
        self.admin_pipe = admin.get("pipe", {}).get("path")
        command = [rig.binary] + list(form if form is not None else ["-c", str(self.path)])
        for flag, value in (("--concurrency", "1"), ("--drain-time-s", "1")):
            if flag not in args:
                command += [flag, value]
        command += list(args)
        environ = dict(os.environ, LC_ALL="C.UTF-8",
                       ASAN_OPTIONS="abort_on_error=0:detect_leaks=1:exitcode=99:handle_abort=1",
                       UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:exitcode=99",
                       TSAN_OPTIONS="halt_on_error=0:exitcode=99:second_deadlock_stack=1")
        environ.update(env or {})
        self.log_file = open(self.log_path, "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log_file,
                                        stderr=subprocess.STDOUT, cwd=ROOT, env=environ)
        self.expected_exit = 0
        self.stopped = False

    def write(self, config):
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        new = self.path.with_suffix(".new")
        new.write_text(text)
        os.rename(new, self.path)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def wait_log(self, pattern, count=1, timeout=TIMEOUT):
        return until(lambda: len(re.findall(pattern, self.log(), re.M)) >= count,
                     "%d x %r in the log" % (count, pattern), timeout)

    def ready(self):
        """Until the admin listener says LIVE."""
        def look():
            if self.process.poll() is not None:
                raise PeerError("postern ended with status %d:\n%s" % (
                    self.process.returncode, self.log()[-4000:]))
            try:
                return self.admin("/ready").status == 200
            except (OSError, PeerError):
                return False
        until(look, "admin /ready answers 200", 20)
        return self

    # ---- clients

    def connect(self, where=None, timeout=TIMEOUT):
        where = self.rig.port if where is None else where
        if isinstance(where, str):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(timeout)
            s.connect(where)
            return s
        host, port = where if isinstance(where, tuple) else ("127.0.0.1", where)
        s = socket.create_connection((host, port), timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def client(self, where=None, tls=None, sni="a.example", name=None):
        self.rig.clients += 1
        s = self.connect(where)
        if tls:
            s = tls.wrap_socket(s, server_hostname=sni)
        c = peers.Client(s, name or "client%d" % self.rig.clients, self.rig.transcript)
        self.rig.wires.append(c)
        return c

    def h2(self, where=None, tls=None, sni="a.example", **more):
        s = self.connect(where)
        if tls:
            s = tls.wrap_socket(s, server_hostname=sni)
            assert s.selected_alpn_protocol() == "h2", s.selected_alpn_protocol()
        c = h2client.H2Client(s, self.rig.transcript, **more)
        self.rig.wires.append(c)
        return c

    def get(self, target="/", *fields, host="example.com", where=None, method="GET", body=None):
        """One request on a connection of its own, already answered (no scripted origin needed)."""
        c = self.client(where)
        extra = "".join(f + "\n" for f in fields)
        if body is not None:
            extra += "Content-Length: %d\n" % len(body)
        c.tx("%s %s HTTP/1.1\nHost: %s\nConnection: close\n%s\n%s" % (
            method, target, host, extra, body or ""))
        return c.rx()

    def admin(self, target, method="GET"):
        s = self.connect(self.admin_pipe or self.admin_port, 5)
        quiet = peers.Transcript()  # of no interest in a failure
        c = peers.Client(s, "admin", quiet)
        try:
            c.tx("%s %s HTTP/1.1\nHost: admin\nConnection: close\n%s\n" % (
                method, target, "Content-Length: 0\n" if method == "POST" else ""))
            return c.rx()
        finally:
            s.close()

    def stats(self, filter=None):
        """{name: value} of counters and gauges."""
        r = self.admin("/stats" + ("?filter=" + filter if filter else ""))
        assert r.status == 200, r
        out = {}
        for line in r.body.decode().splitlines():
            name, _, value = line.rpartition(": ")
            if value.isdigit():
                out[name] = int(value)
        return out

    def stat(self, name):
        return self.stats().get(name, 0)

    def wait_stat(self, name, value):
        until(lambda: self.stat(name) >= value, "stat %s >= %d" % (name, value))

    # ---- life

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self, config=None):
        """Writes a configuration, sends SIGHUP, waits until it is in force (or refused)."""
        if config is not None:
            self.write(config)
        before = self.stats("postern.reload")
        self.signal(signal.SIGHUP)
        until(lambda: self.stats("postern.reload") != before, "the reload is counted")
        after = self.stats("postern.reload")
        return {k: after[k] - before.get(k, 0) for k in after}

    def wait_exit(self, timeout=20):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise PeerError("postern has not ended within %d s" % timeout)

    def stop(self):
        """Ends it (SIGTERM, and once more: at once) and judges how it ended."""
        if self.stopped:
            return
        self.stopped = True
        try:
            for number in (signal.SIGTERM, signal.SIGTERM):
                if self.process.poll() is None:
                    self.process.send_signal(number)
                    try:
                        self.process.wait(0.3)
                    except subprocess.TimeoutExpired:
                        pass
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise PeerError("postern did not end after two SIGTERM; killed")
        finally:
            self.log_file.close()
        bad = TROUBLE.search(self.log())
        assert not bad, "%s: %s" % (self.name, self.log()[max(0, bad.start() - 200):bad.start() + 6000])
        assert self.process.returncode == self.expected_exit, "%s ended with status %s" % (
            self.name, self.process.returncode)


class Rig:
    def __init__(self, binary, tmp, certs):
        self.binary, self.tmp, self.certs = str(binary), tmp, certs
        self.transcript = peers.Transcript()
        self.origins, self.gateways, self.wires, self.servers = [], [], [], []
        self.clients = 0
        self.held = []
        self.port = self.free_port()
        self.admin_port = self.free_port()

    # ---- peers

    def origin(self, name="main", tls=None, path=None, host="127.0.0.1"):
        o = peers.Origin(name, self.transcript, tls=tls, path=path, host=host)
        self.origins.append(o)
        return o

    def dns(self, names):
        d = dnsserver.DnsServer(names, self.transcript)
        self.servers.append(d)
        return d

    def free_port(self, host="127.0.0.1"):
        """A port of the kernel's choice, where nothing listens until somebody does. A bound socket keeps it from
        being chosen again, by anyone, as long as the test runs; it does not keep a listener away."""
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.held.append(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, 0))
        return s.getsockname()[1]

    # ---- configuration

    def bootstrap(self, routes=None, filters=(), vhosts=None, clusters=None, hcm_over=None, tls=None,
                  listener_over=None, listeners=None, where=None, runtime=None, **over):
        """One listener on self.port; a cluster per origin; every path goes to the first origin."""
        if clusters is None:
            clusters = []
        have = {c["name"] for c in clusters}
        clusters = [cluster(o.name, o.path or (o.host, o.port))
                    for o in self.origins if o.name not in have] + list(clusters)
        if routes is None and clusters:
            routes = [route("/", clusters[0]["name"])]
        if vhosts is None:
            vhosts = [vhost("all", ["*"], routes or [])]
        if listeners is None:
            chain = {"filters": [hcm(vhosts, filters, **(hcm_over or {}))]}
            if tls:
                chain["transport_socket"] = tls
            listeners = [listener("main", self.port if where is None else where, [chain],
                                  **(listener_over or {}))]
        c = {"admin": {"address": address(self.admin_port)},
             "static_resources": {"listeners": listeners, "clusters": clusters}}
        if runtime:
            c["layered_runtime"] = {"layers": [{"name": "static", "static_layer": runtime}]}
        c.update(over)
        return copy.deepcopy(c)

    def start(self, config, args=(), env=None, form=None, wait=True):
        name = "postern%s" % (len(self.gateways) or "")
        g = Gateway(self, config, args, env, name, form)
        self.gateways.append(g)
        return g.ready() if wait else g

    def gateway(self, routes=None, filters=(), args=(), env=None, **over):
        return self.start(self.bootstrap(routes, filters, **over), args, env)

    def article(self, **over):
        """(client, static, wordpress): the article's script between two scripted origins. `?wp=1` and the
        cookie `wp=1` go straight to the second."""
        primary = self.origin("static")
        old = self.origin(OLD_SITE)
        routes = [
            route({"prefix": "/", "query_parameters": [
                {"name": "wp", "string_match": {"exact": "1"}}]}, OLD_SITE),
            route({"prefix": "/", "headers": [{"name": "cookie", "string_match": {
                "safe_regex": {"regex": "(^|.*;\\s*)wp=1(;.*|$)"}}}]}, OLD_SITE),
            route("/", "static"),
        ]
        g = self.gateway(routes, [lua(file=ARTICLE)], **over)
        return g.client(), primary, old

    def check(self, config, args=()):
        """postern check: (status, output)."""
        path = self.tmp / "check.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False))
        p = subprocess.run([self.binary, "check", "-c", str(path)] + list(args), cwd=ROOT,
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        out = p.stdout + p.stderr
        assert not TROUBLE.search(out), out
        self.transcript.add("postern check", "status %d" % p.returncode, out.encode())
        return p.returncode, out

    # ---- end

    def finish(self):
        errors = []
        for w in self.wires:
            try:
                (w.sock if hasattr(w, "sock") else w).close()
            except OSError:
                pass
        for o in self.origins:
            o.stop()
        for g in self.gateways:
            try:
                g.stop()
            except (AssertionError, PeerError) as e:
                errors.append(str(e))
        for s in self.servers:
            s.stop()
        for s in self.held:
            s.close()
        assert not errors, "\n".join(errors)

    def report(self):
        out = [("exchanged", self.transcript.text())]
        for g in self.gateways:
            out.append((g.name + " printed", g.log()[-6000:]))
            out.append((g.name + " configuration", g.path.read_text()[:8000]))
        return out

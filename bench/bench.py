#!/usr/bin/env python3
"""Races postern against the peers that are installed: CPU time of the gateway per request first.

All gateways run at once, each with one worker; every round gives each of them the same load in turn, so that
what else the machine does hits all alike. The figure is the median over the rounds. Every answer is checked.

usage: bench.py [--postern PATH] [--rounds N] [--seconds S] [--only WORD] [--json FILE] [lua-runaway|first-byte]

lua-runaway: no race; what scripts that run away cost before they are stopped (runaway.py).
first-byte: no race; how much later a client has the first byte of a slow fallback page (firstbyte.py).
"""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import firstbyte
import runaway

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
X = "type.googleapis.com/envoy.extensions."

# name: (path, status, length, connections, keep, what it shows)
LOADS = {
    "hit": ("/hit", 200, 1024, 64, "keep", "1 KiB from the primary, 64 keep-alive connections"),
    "hit-1": ("/hit", 200, 1024, 1, "keep", "the same on one connection"),
    "hit-512": ("/hit", 200, 1024, 512, "keep", "the same on 512 connections"),
    "miss": ("/miss", 200, 2048, 64, "keep", "404 of the primary, then 2 KiB from the fallback"),
    "big": ("/big", 200, 1 << 20, 16, "keep", "1 MiB from the primary"),
    "connect": ("/hit", 200, 1024, 64, "close", "a new connection for each request"),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def envoy_config(port, primary, fallback, script):
    def cluster(name, to):
        return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
            "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {
                "address": "127.0.0.1", "port_value": to}}}}]}]},
            "circuit_breakers": {"thresholds": [{"max_connections": 10000, "max_pending_requests": 10000,
                                                 "max_requests": 10000}]}}
    filters = [{"name": "envoy.filters.http.router", "typed_config": {
        "@type": X + "filters.http.router.v3.Router", "suppress_envoy_headers": True}}]
    if script:
        filters.insert(0, {"name": "envoy.filters.http.lua", "typed_config": {
            "@type": X + "filters.http.lua.v3.Lua", "default_source_code": {
                "filename": os.path.join(ROOT, "examples", "article", "article.lua")}}})
    hcm = {"@type": X + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
           "generate_request_id": False, "http_filters": filters, "route_config": {"virtual_hosts": [{
               "name": "all", "domains": ["*"],
               "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "primary"}}]}]}}
    return json.dumps({"static_resources": {
        "listeners": [{"name": "in", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                       "filter_chains": [{"filters": [{
                           "name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}]}],
        "clusters": [cluster("primary", primary), cluster("outbound|443||example.com", fallback)]}})


def haproxy_config(port, primary, fallback):
    return """global
    nbthread 1
    maxconn 8000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend in
    bind 127.0.0.1:%d
    default_backend primary
backend primary
    server one 127.0.0.1:%d
""" % (port, primary)


def nginx_config(port, primary, fallback, folder):
    return """daemon off;
master_process off;
worker_processes 1;
pid %(folder)s/nginx.pid;
error_log stderr crit;
events { worker_connections 8192; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path %(folder)s/a; proxy_temp_path %(folder)s/b; fastcgi_temp_path %(folder)s/c;
    uwsgi_temp_path %(folder)s/d; scgi_temp_path %(folder)s/e;
    upstream primary { server 127.0.0.1:%(primary)d; keepalive 1024; keepalive_requests 1000000000; }
    upstream fallback { server 127.0.0.1:%(fallback)d; keepalive 1024; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:%(port)d backlog=1024;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        location / {
            proxy_pass http://primary;
            proxy_intercept_errors on;
            error_page 404 = @fallback;
        }
        location @fallback { proxy_pass http://fallback; }
    }
}
""" % locals()


class Gateway:
    def __init__(self, name, folder, command, port, loads):
        self.name, self.port, self.loads = name, port, loads
        self.log = open(os.path.join(folder, name + ".log"), "wb")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=ROOT)

    def wait(self):
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    sys.exit("%s does not start:\n%s" % (self.name, open(self.log.name).read()[-2000:]))
                time.sleep(0.02)

    def cpu(self):
        """Seconds of CPU so far, of all threads."""
        pid = self.process.pid
        total = 0
        try:
            for t in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/schedstat" % (pid, t)) as f:
                    total += int(f.read().split()[0])
        except (OSError, ValueError, IndexError):
            total = 0
        if total:
            return total / 1e9
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return [int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS")][0]

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGTERM):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(1)
                except subprocess.TimeoutExpired:
                    pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


def build(folder, name):
    out = os.path.join(folder, name)
    subprocess.run([os.environ.get("CC", "gcc"), "-O2", "-D_GNU_SOURCE", "-o", out,
                    os.path.join(HERE, name + ".c")], check=True)
    return out


def field(folder, binary, primary, fallback):
    """The gateways of the race."""
    out, missing = [], []
    everything = set(LOADS)

    def write(name, text):
        path = os.path.join(folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path
    for name, script in (("postern", False), ("postern-lua", True)):
        port = free_port()
        path = write(name + ".json", envoy_config(port, primary, fallback, script))
        out.append(Gateway(name, folder, [binary, "-c", path, "--concurrency", "1", "-l", "error"], port,
                           everything if script else everything - {"miss"}))
    haproxy, nginx = (shutil.which(n, path=os.environ.get("PATH", "") + ":/usr/sbin") for n in ("haproxy", "nginx"))
    if haproxy:
        port = free_port()
        out.append(Gateway("haproxy", folder, [haproxy, "-db", "-f", write(
            "haproxy.cfg", haproxy_config(port, primary, fallback))], port, everything - {"miss"}))
    else:
        missing.append("haproxy")
    if nginx:
        port = free_port()
        out.append(Gateway("nginx", folder, [nginx, "-p", folder, "-c", write(
            "nginx.conf", nginx_config(port, primary, fallback, folder))], port, everything))
    else:
        missing.append("nginx")
    for m in missing:
        print("not installed, not in the race: %s" % m)
    return out


def race(gateways, options, rows):
    binary = os.path.join(options.folder, "load")
    for name, (path, status, length, conns, keep, what) in LOADS.items():
        if options.only and options.only not in name:
            continue
        for r in range(options.rounds + 1):  # round 0 warms up
            for g in gateways:
                if name not in g.loads:
                    continue
                before = g.cpu()
                p = subprocess.run([binary, str(g.port), str(conns), str(options.seconds if r else 0.3), path,
                                    str(status), str(length), keep], capture_output=True, text=True, timeout=120)
                if p.returncode:
                    sys.exit("load on %s: %s" % (g.name, p.stderr))
                seen = json.loads(p.stdout)
                used = g.cpu() - before
                if seen["wrong"] or seen["broken"] or not seen["requests"]:
                    sys.exit("%s on %s: wrong answers: %s" % (name, g.name, p.stdout))
                if r:
                    rows.setdefault(name, {}).setdefault(g.name, []).append({
                        "cpu_us": used * 1e6 / seen["requests"], "rps": seen["requests"] / seen["seconds"],
                        "p50": seen["p50"], "p99": seen["p99"]})
        show(name, what, rows.get(name, {}))


def show(name, what, by_gateway):
    def median(g, key):
        return statistics.median(row[key] for row in by_gateway[g])
    peers = [g for g in by_gateway if not g.startswith("postern")]
    best = min((median(g, "cpu_us") for g in peers), default=None)
    print("\n%s: %s\n  %-12s %10s %8s %10s %8s %8s" % (
        name, what, "", "CPU us/req", "ratio", "req/s", "p50 us", "p99 us"))
    for g in by_gateway:
        cpu = median(g, "cpu_us")
        print("  %-12s %10.2f %8s %10.0f %8.0f %8.0f" % (
            g, cpu, "%.2f" % (cpu / best) if best else "-", median(g, "rps"), median(g, "p50"), median(g, "p99")),
            flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--postern", default=os.path.join(ROOT, "build", "postern"))
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=1.0)
    ap.add_argument("--only", help="only loads whose name contains this: " + ", ".join(LOADS))
    ap.add_argument("--json", help="write all rounds there")
    ap.add_argument("what", nargs="?", choices=["race", "lua-runaway", "first-byte"], default="race")
    options = ap.parse_args()
    if options.what == "lua-runaway":
        return runaway.main(os.path.abspath(options.postern), options.rounds, options.only)
    if options.what == "first-byte":
        return firstbyte.main(os.path.abspath(options.postern), options.rounds)
    rows, gateways, origins = {}, [], []
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        options.folder = folder
        build(folder, "load")
        origin = build(folder, "origin")
        try:
            ports = []
            for name in ("primary", "fallback"):
                p = subprocess.Popen([origin, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
                origins.append(p)
                ports.append(int(p.stdout.readline()))
            gateways = field(folder, os.path.abspath(options.postern), *ports)
            for g in gateways:
                g.wait()
            race(gateways, options, rows)
            print("\nresident memory after the race, MiB: " + ", ".join("%s %.1f" % (g.name, g.rss()) for g in gateways))
        finally:
            for g in gateways:
                g.stop()
            for p in origins:
                p.terminate()
                p.wait()
    print("ratio: CPU against the best peer of the same run (haproxy and nginx; nothing of postern's counts as a peer)")
    if options.json:
        with open(options.json, "w") as f:
            json.dump(rows, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

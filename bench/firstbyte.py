"""How much later a client has the first byte of a slow fallback page than without a gateway (./dev bench first-byte).

The primary says 404, the fallback sends its head, waits, and sends one byte: the time from that send to the client's
receive, against the same two sockets connected to each other. No promise hangs on it: that the byte goes on in the same
turn of the loop is shown by a test with a virtual clock (src/filters/fallback/turn_test.c).
"""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

T = "type.googleapis.com/"
X = T + "envoy.extensions."


def listen():
    s = socket.create_server(("127.0.0.1", 0))
    s.settimeout(10)
    return s


def quick(s):
    s.settimeout(10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def until(s, mark):
    got = b""
    while mark not in got:
        more = s.recv(65536)
        if not more:
            sys.exit("the connection ended: %r" % got)
        got += more
    return got


def config(port, primary, fallback):
    def cluster(name, to):
        return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": to}}}}]}]}}
    filters = [{"name": "postern.fallback", "typed_config": {
        "@type": T + "postern.filters.http.fallback.v1.Fallback", "fallbacks": [{"cluster": "fallback"}]}},
               {"name": "envoy.filters.http.router", "typed_config": {"@type": X + "filters.http.router.v3.Router"}}]
    hcm = {"@type": X + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in", "http_filters": filters,
           "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "primary"}}]}]}}
    return json.dumps({"static_resources": {
        "listeners": [{"name": "in", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                       "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}]}],
        "clusters": [cluster("primary", primary), cluster("fallback", fallback)]}})


def one(sender, receiver):
    """Microseconds of one byte's way."""
    time.sleep(0.001)  # the page is slow: everybody sleeps
    began = time.perf_counter()
    sender.sendall(b"x")
    if receiver.recv(1) != b"x":
        sys.exit("another byte came")
    return (time.perf_counter() - began) * 1e6


def through(client, primary, fallback, rounds):
    p = f = None
    out = []
    for i in range(rounds + 20):
        client.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i)
        p = p or quick(primary.accept()[0])
        until(p, b"\r\n\r\n")
        p.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\npage")
        f = f or quick(fallback.accept()[0])
        until(f, b"\r\n\r\n")
        f.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
        until(client, b"\r\n\r\n")
        out.append(one(f, client))
    return out[20:]


def direct(listener, rounds):
    a = quick(socket.create_connection(listener.getsockname()))
    b = quick(listener.accept()[0])
    return [one(a, b) for _ in range(rounds + 20)][20:]


def show(name, times):
    times = sorted(times)
    print("  %-10s %8.0f %8.0f" % (name, statistics.median(times), times[len(times) * 99 // 100]))
    return statistics.median(times)


def main(binary, rounds):
    rounds *= 200
    primary, fallback = listen(), listen()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as folder:
        path = os.path.join(folder, "postern.json")
        with open(path, "w") as f:
            f.write(config(port, primary.getsockname()[1], fallback.getsockname()[1]))
        gateway = subprocess.Popen([binary, "-c", path, "--concurrency", "1", "-l", "error"], stdin=subprocess.DEVNULL)
        try:
            for _ in range(500):
                try:
                    client = quick(socket.create_connection(("127.0.0.1", port)))
                    break
                except OSError:
                    time.sleep(0.02)
            else:
                sys.exit("postern does not start")
            print("first byte of a slow fallback page, us from the fallback's send to the client's receive, %d times\n  %-10s %8s %8s" % (
                rounds, "", "p50", "p99"))
            alone = show("direct", direct(primary, rounds))
            print("added: %.0f us" % (show("postern", through(client, primary, fallback, rounds)) - alone))
        finally:
            gateway.terminate()
            try:
                gateway.wait(3)
            except subprocess.TimeoutExpired:
                gateway.kill()
                gateway.wait()
    return 0

#!/usr/bin/env python3
"""Serves examples/article until Ctrl-C: demo.py PATH-OF-POSTERN (./dev run calls it)."""
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TEMPLATE = os.path.join("examples", "article", "envoy.yaml")
PORTS = {"public": 8080, "new site": 8081, "old site": 8082, "admin": 9901}

stop = None


def on_signal(number, frame):
    global stop
    stop = number


def choose_ports():
    """The ports of the template where they are free, others where they are not."""
    chosen, held = {}, []
    for name, port in PORTS.items():
        for wanted in (port, 0):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", wanted))
                s.listen()  # bind alone succeeds beside a listener that only reuses the address
            except OSError:
                s.close()
                continue
            held.append(s)
            chosen[name] = s.getsockname()[1]
            break
        else:
            sys.exit("demo: no free port on 127.0.0.1")
    for s in held:
        s.close()
    return chosen


def write_config(ports):
    with open(TEMPLATE, encoding="utf-8") as f:
        text = f.read()
    new = {str(PORTS[name]): str(port) for name, port in ports.items()}
    text = re.sub(r"(port_value: )(\d+)", lambda m: m.group(1) + new[m.group(2)], text)
    os.makedirs(".dev", exist_ok=True)
    path = os.path.join(".dev", "article-%d.yaml" % ports["public"])
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def die_with_parent():
    """So that nothing is left even when this script is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def get(port, target):
    """Status of one GET, or None."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as s:
            s.settimeout(2)
            s.sendall(("GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % (
                target, port)).encode())
            head = b""
            while b"\r\n" not in head:
                data = s.recv(4096)
                if not data:
                    return None
                head += data
            return int(head.split()[1])
    except (OSError, ValueError, IndexError):
        return None


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    binary = os.path.abspath(sys.argv[1])
    os.chdir(ROOT)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    ports = choose_ports()
    config = write_config(ports)
    # A session of its own: Ctrl-C of the terminal comes here only, and from here to postern.
    child = subprocess.Popen([binary, "run", "-c", config, "-l", "warning", "--drain-time-s", "1"],
                             stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)
    port = ports["public"]
    base = "http://127.0.0.1:%d" % port
    tries = [
        ("/", "hit", 200, "the new site has this page and answers alone"),
        ("/2014/hello-world.html", "fallback", 200, "the new site has no such page: the old site's comes"),
        ("/no/such/page", "both-miss", 404, "neither has it: the new site's own 404 page"),
        ("/?wp=1", "override", 200, "the old site's front page, asked for directly (so does the cookie wp=1)"),
    ]
    try:
        end = time.monotonic() + 20
        left = list(tries)
        while left and stop is None:
            if child.poll() is not None:
                sys.exit("demo: postern ended with status %d" % child.returncode)
            if get(port, left[0][0]) == left[0][2]:
                left.pop(0)
            elif time.monotonic() > end:
                sys.exit("demo: %s%s does not answer with %d" % (base, left[0][0], left[0][2]))
            else:
                time.sleep(0.05)
        if stop is None:
            width = max(len(base + t[0]) for t in tries)
            print()
            for target, word, status, text in tries:
                print("%-*s  %-9s  %d, %s" % (width, base + target, word, status, text))
            print("\nadmin: http://127.0.0.1:%d/stats   configuration: %s   Ctrl-C ends it" % (
                ports["admin"], config), flush=True)
        while stop is None:
            try:
                child.wait(0.2)
                sys.exit("demo: postern ended with status %d" % child.returncode)
            except subprocess.TimeoutExpired:
                pass
    finally:
        for _ in range(2):  # the first lets exchanges finish, the second ends it at once
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(1.5)
                except subprocess.TimeoutExpired:
                    pass
        if child.poll() is None:
            try:
                child.wait(4)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        try:
            os.unlink(config)
        except OSError:
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Reload and drain: the configuration is swapped in whole, connections and exchanges survive it."""
import os
import signal
import threading
import time

import pytest

import peers
from rig import cluster, listener, lua, hcm, route, until, vhost

pytestmark = pytest.mark.tsan


def marker(text):
    return route({"path": "/marker"}, direct_response={"status": 200, "body": {"inline_string": text}})


def config(rig, text, *more, **over):
    return rig.bootstrap([marker(text)] + list(more) + [route("/", "main")], **over)


def loaded(g, text):
    until(lambda: g.get("/marker").body == text.encode(), "configuration %r serves" % text)


def test_sighup_loads_the_new_configuration(rig):
    rig.origin()
    g = rig.start(config(rig, "1"))
    assert g.get("/marker") == (200, b"1")
    g.write(config(rig, "2"))
    g.signal(signal.SIGHUP)
    loaded(g, "2")


def test_a_changed_file_is_noticed_without_a_signal(rig):
    rig.origin()
    g = rig.start(config(rig, "1"))
    g.write(config(rig, "2"))  # by rename, as editors and ConfigMaps do
    loaded(g, "2")
    g.path.write_text(g.path.read_text().replace("'2'", "'3'"))  # in place
    loaded(g, "3")


def test_a_keep_alive_connection_survives_and_uses_the_new_configuration(rig):
    rig.origin()
    g = rig.start(config(rig, "1"))
    c = g.client()
    assert c.get("/marker").rx() == (200, b"1")
    g.write(config(rig, "2"))
    g.signal(signal.SIGHUP)
    loaded(g, "2")
    assert c.get("/marker").rx() == (200, b"2")


def test_an_exchange_finishes_on_the_configuration_it_began_with(rig):
    o = rig.origin()
    script = "function envoy_on_response(h) h:headers():add('x-version', '%s') end"
    g = rig.start(config(rig, "1", filters=[lua(script % "one")]))
    c = g.client()
    c.get("/slow")
    o.rx("GET /slow")
    first = o.last
    g.write(config(rig, "2", filters=[lua(script % "two")]))
    g.signal(signal.SIGHUP)
    loaded(g, "2")
    first.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    a = c.rx()
    assert a == (200, b"ok")
    assert a.headers.get("x-version") == "one"
    c.get("/fast")
    o.answer("GET /fast")
    assert c.rx().headers.get("x-version") == "two"


def test_the_idle_time_of_what_is_over_passes_after_its_configuration_has_gone(rig):
    """The timer of an exchange stays behind when it ends, and its route has been freed when it fires."""
    o = rig.origin()
    idle = route("/idle", {"cluster": "main", "idle_timeout": "3s"})
    g = rig.start(config(rig, "1", idle))
    clients, asked = [g.client() for _ in range(3)], []
    for c in clients:  # at once: places of exchanges are taken again last in, first out
        c.get("/idle")
        o.rx("GET /idle")
        asked.append(o.last)
    for c, a in reversed(list(zip(clients, asked))):
        a.tx("HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\nok")
        assert c.rx() == (200, b"ok")
        c.close()
    for n in ("2", "3"):
        g.write(config(rig, n, idle))
        g.signal(signal.SIGHUP)
        loaded(g, n)
    time.sleep(4)  # the model goes within two seconds; a sanitizer sees whether it is read after that
    assert g.get("/marker") == (200, b"3")


def test_a_websocket_and_a_download_survive(rig):
    o = rig.origin()
    up = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
    g = rig.start(config(rig, "1", hcm_over=up))
    ws = g.client()
    ws.tx("GET /ws HTTP/1.1\nHost: a\nConnection: Upgrade\nUpgrade: websocket\n\n")
    o.rx("GET /ws")
    ws_origin = o.last
    o.tx("HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\n")
    assert ws.rx().status == 101
    down = g.client()
    down.get("/file")
    o.rx("GET /file")
    down_origin = o.last
    o.tx("HTTP/1.1 200 OK\nContent-Length: 6\n\nabc")
    down.rx_head()
    assert down.take(3) == b"abc"
    g.write(config(rig, "2", hcm_over=up))
    g.signal(signal.SIGHUP)
    loaded(g, "2")
    ws_origin.tx(b"ping")
    assert ws.take(4) == b"ping"
    down_origin.tx(b"def")
    assert down.take(3) == b"def"


def test_a_faulty_configuration_is_refused_and_the_old_one_stays(rig):
    o = rig.origin()
    g = rig.start(config(rig, "1"))
    bad = config(rig, "2")
    bad["static_resources"]["clusters"][0]["lb_polizy"] = "RANDOM"
    g.write(bad)
    g.signal(signal.SIGHUP)
    g.wait_log(r"lb_polizy.*lb_policy")
    assert g.get("/marker") == (200, b"1")
    g.write("{ this is no configuration")
    g.signal(signal.SIGHUP)
    g.wait_log(r"postern\.yaml:2:1")
    assert g.get("/marker") == (200, b"1")
    g.write(config(rig, "3"))
    g.signal(signal.SIGHUP)
    loaded(g, "3")
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200


def test_a_script_with_an_error_keeps_the_old_one(rig):
    rig.origin()
    g = rig.start(config(rig, "1"))
    g.write(config(rig, "2", filters=[lua("function (")]))
    g.signal(signal.SIGHUP)
    g.wait_log(r"\[(error|critical|warning)\]")
    assert g.get("/marker") == (200, b"1")


def test_listeners_come_and_go(rig):
    rig.origin()
    g = rig.start(config(rig, "1"))
    second = rig.free_port()
    both = config(rig, "2")
    both["static_resources"]["listeners"].append(listener("second", second, [
        {"filters": [hcm([vhost("all", ["*"], [marker("second")])])]}]))
    g.write(both)
    g.signal(signal.SIGHUP)
    loaded(g, "2")
    assert g.get("/marker", where=second) == (200, b"second")
    g.write(config(rig, "3"))
    g.signal(signal.SIGHUP)
    loaded(g, "3")

    def gone():
        try:
            g.connect(second, 1).close()
            return False
        except OSError:
            return True
    until(gone, "the second listener is closed")


def test_a_listener_that_cannot_be_opened_keeps_the_old_configuration(rig):
    import socket
    rig.origin()
    g = rig.start(config(rig, "1"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bad = config(rig, "2")
        bad["static_resources"]["listeners"].append(listener("second", taken.getsockname()[1], [
            {"filters": [hcm([vhost("all", ["*"], [marker("second")])])]}]))
        g.write(bad)
        g.signal(signal.SIGHUP)
        g.wait_log("(?i)address already in use")
        assert g.get("/marker") == (200, b"1")


def test_certificates_are_reloaded(rig, certs):
    import shutil
    import ssl
    from rig import tls_down
    rig.origin()
    pem, key = rig.tmp / "live.pem", rig.tmp / "live.key"
    shutil.copy(certs.pem("a.example"), pem)
    shutil.copy(certs.key("a.example"), key)
    g = rig.start(config(rig, "1", tls=tls_down(pem, key)))

    def names():
        context = certs.client()
        context.check_hostname = False
        s = context.wrap_socket(g.connect())
        try:
            return [v for k, v in s.getpeercert()["subjectAltName"]]
        finally:
            s.close()
    assert names() == ["a.example"]
    for source, target in ((certs.key("b.example"), key), (certs.pem("b.example"), pem)):
        new = str(target) + ".new"
        shutil.copy(source, new)
        os.rename(new, target)
    until(lambda: names() == ["b.example"], "the new certificate is served")


def test_no_request_fails_while_configurations_change(rig):
    """Load from four clients with a reload every few milliseconds."""
    rig.origin()
    g = rig.start(config(rig, "0"), args=["--concurrency", "2"])
    stop = threading.Event()
    problems, done = [], [0]

    def load():
        quiet = peers.Transcript()
        try:
            c = peers.Client(g.connect(), "load", quiet)
            while not stop.is_set():
                a = c.get("/marker").rx()
                assert a.status == 200, a
                done[0] += 1
                if a.headers.get("connection") == "close":
                    c.close()
                    c = peers.Client(g.connect(), "load", quiet)
        except Exception as e:
            problems.append("%s: %s" % (type(e).__name__, e))
    threads = [threading.Thread(target=load) for _ in range(4)]
    for t in threads:
        t.start()
    for i in range(1, 16):
        g.write(config(rig, str(i)))
        g.signal(signal.SIGHUP)
        loaded(g, str(i))
    stop.set()
    for t in threads:
        t.join()
    assert not problems, problems
    assert done[0] > 100


def test_sigterm_lets_running_exchanges_finish(rig):
    o = rig.origin()
    g = rig.start(config(rig, "1"), args=["--drain-time-s", "2"])
    c = g.client()
    c.get("/slow")
    o.rx("GET /slow")
    g.signal(signal.SIGTERM)
    until(lambda: b"LIVE" not in g.admin("/ready").body, "the health answer changes")
    o.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    a = c.rx()
    assert a == (200, b"ok")
    assert a.headers.get("connection") == "close"
    c.eof()
    assert g.wait_exit() == 0


def test_listeners_stay_open_in_the_first_half_of_a_drain(rig):
    rig.origin()
    g = rig.start(config(rig, "1"), args=["--drain-time-s", "4"])
    g.signal(signal.SIGTERM)
    until(lambda: b"LIVE" not in g.admin("/ready").body, "the health answer changes")
    c = g.client()
    a = c.get("/marker").rx()
    assert a == (200, b"1")
    assert a.headers.get("connection") == "close"


def test_a_second_sigterm_ends_at_once(rig):
    o = rig.origin()
    g = rig.start(config(rig, "1"), args=["--drain-time-s", "60"])
    c = g.client()
    c.get("/slow")
    o.rx("GET /slow")
    g.signal(signal.SIGTERM)
    until(lambda: b"LIVE" not in g.admin("/ready").body, "the drain has begun")
    g.signal(signal.SIGTERM)
    assert g.wait_exit(5) == 0


def test_sigint_ends_it_too(rig):
    rig.origin()
    g = rig.start(config(rig, "1"))
    g.signal(signal.SIGINT)
    assert g.wait_exit() == 0


def test_the_supervisor_replaces_a_process_that_died(rig):
    rig.origin()
    g = rig.start(config(rig, "1"), form=["run", "-c", str(rig.tmp / "postern.yaml")])
    children = open("/proc/%d/task/%d/children" % (g.process.pid, g.process.pid)).read().split()
    assert len(children) == 1, "one worker process below the supervisor: %r" % children
    os.kill(int(children[0]), signal.SIGKILL)

    def answers():
        try:
            return g.get("/marker").body == b"1"
        except (OSError, peers.PeerError):
            return False
    until(answers, "a new process serves")
    again = open("/proc/%d/task/%d/children" % (g.process.pid, g.process.pid)).read().split()
    assert len(again) == 1 and again != children


def test_the_supervised_process_dies_with_its_supervisor(rig):
    rig.origin()
    g = rig.start(config(rig, "1"), form=["run", "-c", str(rig.tmp / "postern.yaml")])
    child = int(open("/proc/%d/task/%d/children" % (g.process.pid, g.process.pid)).read().split()[0])
    g.process.kill()
    g.expected_exit = -signal.SIGKILL
    g.process.wait()
    until(lambda: not os.path.exists("/proc/%d" % child) or
          open("/proc/%d/stat" % child).read().rpartition(")")[2].split()[0] == "Z", "the child has ended")

"""The admin listener: Envoy's paths with Envoy's shapes."""
import json
import re
import signal
import subprocess
from datetime import datetime, timezone

from rig import address, cluster, route, tls_down, tls_up, until


def test_ready_says_live(rig):
    rig.origin()
    a = rig.gateway().admin("/ready")
    assert a.status == 200 and a.body.strip() == b"LIVE"


def test_server_info(rig):
    rig.origin()
    info = json.loads(rig.gateway().admin("/server_info").body)
    assert info["state"] == "LIVE"
    assert "postern" in info["version"]
    assert "uptime_current_epoch" in info


def test_stats_as_text_json_and_prometheus(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    text = g.admin("/stats?filter=downstream_rq_total").body.decode()
    assert "http.in.downstream_rq_total: 1" in text
    assert "cluster." not in text
    stats = json.loads(g.admin("/stats?format=json&filter=^cluster.main.upstream_rq_total$").body)["stats"]
    assert stats == [{"name": "cluster.main.upstream_rq_total", "value": 1}]
    prom = g.admin("/stats/prometheus").body.decode()
    assert "# TYPE envoy_cluster_upstream_rq_total counter" in prom
    assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="main"} 1' in prom
    assert g.admin("/stats?format=prometheus").body.decode().count("# TYPE") > 10


def test_answers_are_counted_by_class(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    for status in ("200 OK", "404 Not Found", "503 Service Unavailable", "200 OK"):
        c.get("/")
        o.answer("", status)
        c.rx()
    assert g.stat("http.in.downstream_rq_2xx") == 2
    assert g.stat("http.in.downstream_rq_4xx") == 1
    assert g.stat("http.in.downstream_rq_5xx") == 1
    assert g.stat("cluster.main.upstream_rq_2xx") == 2


def test_config_dump_shows_what_was_loaded(rig):
    rig.origin()
    dump = json.loads(rig.gateway().admin("/config_dump").body)
    boot = [c for c in dump["configs"] if c["@type"].endswith("BootstrapConfigDump")][0]["bootstrap"]
    assert boot["static_resources"]["clusters"][0]["name"] == "main"


def test_config_dump_masks_private_keys(rig, certs):
    from rig import tls_down
    rig.origin()
    key = certs.key("a.example").read_text()
    g = rig.gateway(tls={"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [{
            "certificate_chain": {"inline_string": certs.pem("a.example").read_text()},
            "private_key": {"inline_string": key}}]}}})
    body = g.admin("/config_dump").body.decode()
    assert "PRIVATE KEY" not in body and key.split("\n")[1] not in body


def test_clusters_and_listeners(rig):
    o = rig.origin()
    g = rig.gateway()
    text = g.admin("/clusters").body.decode()
    assert "main::127.0.0.1:%d::" % o.port in text
    assert "main::default_priority::max_connections::1024" in text
    names = [c["name"] for c in json.loads(g.admin("/clusters?format=json").body)["cluster_statuses"]]
    assert names == ["main"]
    assert "main::127.0.0.1:%d" % rig.port in g.admin("/listeners").body.decode()


def test_log_levels_change_while_running(rig):
    rig.origin()
    g = rig.gateway()
    assert g.admin("/logging?level=debug", "POST").status == 200
    assert "debug" in g.admin("/logging", "POST").body.decode()
    assert g.admin("/logging?level=nonsense", "POST").status == 400


def test_get_never_changes_state(rig):
    rig.origin()
    g = rig.gateway()
    for path in ("/quitquitquit", "/drain_listeners", "/logging?level=debug", "/reset_counters"):
        assert g.admin(path).status == 405, path
    assert g.admin("/ready").status == 200


def test_an_unknown_admin_path_is_404(rig):
    rig.origin()
    assert rig.gateway().admin("/nonsense").status == 404


def test_quitquitquit_ends_the_process(rig):
    rig.origin()
    g = rig.gateway()
    assert g.admin("/quitquitquit", "POST").status == 200
    assert g.wait_exit() == 0


def test_drain_listeners_stops_accepting(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    assert g.admin("/drain_listeners", "POST").status == 200

    def refused():
        try:
            g.connect(timeout=1).close()
            return False
        except OSError:
            return True
    until(refused, "connections are refused")
    assert g.admin("/ready").status in (200, 503)


def test_admin_on_a_unix_socket(rig):
    rig.origin()
    path = str(rig.tmp / "admin.sock")
    g = rig.gateway(admin={"address": address(path)})
    assert g.admin("/ready").status == 200


def test_a_configuration_without_admin_serves(rig):
    o = rig.origin()
    config = rig.bootstrap()
    del config["admin"]
    g = rig.start(config, wait=False)

    def connected():
        try:
            return g.client()
        except OSError:
            assert g.process.poll() is None, g.log()
    c = until(connected, "the listener is open")
    c.get("/")
    o.answer()
    assert c.rx().status == 200


def facts(path):
    """What openssl says of a certificate, in the words of /certs."""
    out = subprocess.run(["openssl", "x509", "-in", str(path), "-noout", "-serial", "-startdate", "-enddate", "-ext",
                          "subjectAltName"], capture_output=True, text=True).stdout
    day = lambda s: datetime.strptime(re.search(s + "=(.*) GMT", out).group(1), "%b %d %H:%M:%S %Y").replace(tzinfo=timezone.utc)
    return {"path": str(path), "serial_number": re.search("serial=(.*)", out).group(1).lower(),
            "subject_alt_names": [{"dns": n} for n in re.findall(r"DNS:([^,\s]+)", out)],
            "days_until_expiration": str((day("notAfter") - datetime.now(timezone.utc)).days),
            "valid_from": day("notBefore").strftime("%Y-%m-%dT%H:%M:%SZ"),
            "expiration_time": day("notAfter").strftime("%Y-%m-%dT%H:%M:%SZ")}


def test_certs_tells_how_long_they_are_good(rig, certs):
    chain, both = rig.tmp / "chain.pem", rig.tmp / "cas.pem"
    chain.write_text(certs.pem("a.example").read_text() + certs.ca.read_text())
    both.write_text(certs.ca.read_text() + certs.pem("other-ca").read_text())
    down = tls_down(chain, certs.key("a.example"))
    common = down["typed_config"]["common_tls_context"]
    common["tls_certificates"].append({
        "certificate_chain": {"inline_string": certs.pem("b.example").read_text()},
        "private_key": {"filename": str(certs.key("b.example"))}})
    common["validation_context"] = {"trusted_ca": {"filename": str(both)}}
    o = rig.origin(tls=certs.server())
    up = tls_up({"validation_context": {"trusted_ca": {"filename": str(certs.ca)}}})
    g = rig.gateway([route("/", "main")], tls=down,
                    clusters=[cluster("main", ("127.0.0.1", o.port), transport_socket=up)])
    page = json.loads(g.admin("/certs").body)
    assert page == {"certificates": [
        {"ca_cert": [dict(facts(certs.ca), path=str(both)), dict(facts(certs.pem("other-ca")), path=str(both))],
         "cert_chain": [dict(facts(certs.pem("a.example")), path=str(chain)),
                        dict(facts(certs.pem("b.example")), path="<inline>")]},
        {"ca_cert": [facts(certs.ca)], "cert_chain": []}]}


def test_the_status_is_whole_while_reloads_change_it(rig):
    """A worker reads what the main thread writes: for ThreadSanitizer above all."""
    rig.origin()
    g = rig.gateway()
    good = g.config

    def status():
        return json.loads(g.admin("/server_info").body)["configuration"]

    for n in range(1, 11):
        g.write(good if n % 2 == 0 else "static_resources: [%d]" % n)
        g.process.send_signal(signal.SIGHUP)
        s = until(lambda: [x for x in [status()] if x["reloads"] + x["rejected"] >= n], "reload %d" % n)[0]
        assert (s["error"] == "") == (n % 2 == 0), s
    assert s["rejected"] >= 5 and s["reloads"] >= 5 and s["generation"] == 1 + s["reloads"]

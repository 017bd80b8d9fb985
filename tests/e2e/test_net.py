"""Addresses: unix sockets, IPv6, names and their resolution."""
import socket

import pytest

from rig import X, cluster, hcm, listener, route, until, vhost


def test_a_unix_socket_towards_the_origin(rig):
    o = rig.origin(path=str(rig.tmp / "origin.sock"))
    c = rig.gateway().client()
    for i in range(2):
        c.get("/%d" % i)
        o.answer("GET /%d" % i, "200 OK", "unix")
        assert c.rx() == (200, b"unix")
    assert o.conns == 1


def test_a_unix_socket_towards_clients(rig):
    o = rig.origin()
    path = str(rig.tmp / "front.sock")
    g = rig.gateway(where=path)
    c = g.client(path)
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    g.stop()
    # a left-over file must not stop the next start
    rig.admin_port = rig.free_port()
    d = rig.gateway(where=path).client(path)
    d.get("/")
    o.answer()
    assert d.rx().status == 200


def says(name, where, text, **over):
    direct = route("/", direct_response={"status": 200, "body": {"inline_string": text}})
    return listener(name, where, [{"filters": [hcm([vhost("v", ["*"], [direct])])]}], **over)


def test_a_listener_that_is_not_to_be_bound_is_not(rig):
    elsewhere = rig.free_port()
    g = rig.gateway(listeners=[says("bound", rig.port, "bound"), says("same", rig.port, "not bound", bind_to_port=False),
                               says("else", elsewhere, "not bound", bind_to_port=False)])
    c = g.client()
    c.get("/")
    assert c.rx() == (200, b"bound")
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", elsewhere)) != 0


def test_ipv6_on_both_sides(rig):
    o = rig.origin(host="::1")
    g = rig.gateway(where=("::1", rig.port))
    c = g.client(("::1", rig.port))
    c.get("/")
    o.answer()
    assert c.rx().status == 200


def resolver(dns):
    return {"name": "envoy.network.dns_resolver.cares", "typed_config": {
        "@type": X + "network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": dns.port}}]}}


def named(kind, dns, port, name="origin.test", **over):
    return cluster("main", (name, port), type=kind, dns_lookup_family="V4_ONLY",
                   typed_dns_resolver_config=resolver(dns), **over)


@pytest.mark.parametrize("kind", ["STRICT_DNS", "LOGICAL_DNS"])
def test_a_name_is_resolved(rig, kind):
    dns = rig.dns({"origin.test": {"A": ["127.0.0.1"], "ttl": 60}})
    o = rig.origin("o")
    c = rig.gateway([route("/", "main")], clusters=[named(kind, dns, o.port)]).client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    assert ("origin.test", 1) in dns.questions


def test_strict_dns_uses_every_address(rig):
    dns = rig.dns({"origin.test": {"A": ["127.0.0.1", "127.0.0.2"], "ttl": 60}})
    a = rig.origin("a", host="127.0.0.1")
    g = rig.gateway([route("/", "main")], clusters=[named("STRICT_DNS", dns, a.port)])
    until(lambda: g.stat("cluster.main.membership_total") == 2, "two endpoints")


def test_a_changed_address_is_followed_when_its_ttl_is_over(rig):
    """The second address appears after the first answer's second of life."""
    dns = rig.dns({"origin.test": {"A": ["127.0.0.1"], "ttl": 1}})
    first = rig.origin("first", host="127.0.0.1")
    g = rig.gateway([route("/", "main")], clusters=[
        named("STRICT_DNS", dns, first.port, respect_dns_ttl=True, dns_refresh_rate="1s")])
    c = g.client()
    c.get("/")
    first.answer()
    assert c.rx().status == 200
    second = rig.origin("second", host="127.0.0.2")
    del second
    dns.names["origin.test"] = {"A": ["127.0.0.1", "127.0.0.3"], "ttl": 1}
    until(lambda: g.stat("cluster.main.membership_total") == 2, "the new address is known")
    dns.names["origin.test"] = "nx"
    asked = len(dns.questions)
    dns.wait_for(asked + 2)
    assert g.stat("cluster.main.membership_total") in (0, 2)


def test_a_name_that_does_not_exist_is_503(rig):
    dns = rig.dns({})
    g = rig.gateway([route("/", "main")], clusters=[named("STRICT_DNS", dns, 80)])
    assert g.get("/").status == 503


def test_a_resolver_that_is_silent_does_not_stop_the_start(rig):
    dns = rig.dns({"origin.test": None})
    o = rig.origin("other")
    g = rig.gateway([route("/dns", "main"), route("/", "other")],
                    clusters=[named("STRICT_DNS", dns, 80), cluster("other", o.port)])
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200


def test_connections_beyond_the_backlog_wait(rig):
    o = rig.origin()
    g = rig.gateway()
    clients = [g.client() for _ in range(200)]
    for c in clients:
        c.get("/")
    for _ in clients:
        o.answer()
    for c in clients:
        assert c.rx().status == 200

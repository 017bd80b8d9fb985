"""TLS towards clients and towards origins."""
import ssl

import pytest

from peers import PeerError
from rig import HCM, cluster, hcm, listener, route, tls_down, tls_up, until, vhost

CRYPTO = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


def names(sock):
    return [v for _, v in sock.getpeercert()["subjectAltName"]]


def test_https_with_a_configured_certificate(rig, certs):
    o = rig.origin()
    g = rig.gateway(tls=tls_down(certs.pem("a.example"), certs.key("a.example")))
    c = g.client(tls=certs.client())
    assert names(c.sock) == ["a.example"]
    c.get("/", host="a.example")
    r = o.answer("GET /", "200 OK", "secret")
    assert r.headers.get("x-forwarded-proto") == "https"
    assert c.rx() == (200, b"secret")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls(rig, certs, version):
    o = rig.origin()
    g = rig.gateway(tls=tls_down(certs.pem("a.example"), certs.key("a.example")))
    c = g.client(tls=certs.client(version=version))
    for i in range(3):
        c.get("/%d" % i)
        o.answer("GET /%d" % i, "200 OK", "x" * 40000)
        assert len(c.rx().body) == 40000


def test_a_minimum_version_is_enforced(rig, certs):
    rig.origin()
    g = rig.gateway(tls=tls_down(certs.pem("a.example"), certs.key("a.example"),
                                 common={"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}))
    with pytest.raises((ssl.SSLError, OSError)):
        g.client(tls=certs.client(version=ssl.TLSVersion.TLSv1_2))
    assert g.client(tls=certs.client()).sock.version() == "TLSv1.3"


def test_sni_chooses_the_filter_chain(rig, certs):
    rig.origin()

    def chain(name, match):
        c = {"filters": [hcm([vhost("all", ["*"], [route("/", direct_response={
            "status": 200, "body": {"inline_string": name}})])])],
            "transport_socket": tls_down(certs.pem(name), certs.key(name))}
        if match:
            c["filter_chain_match"] = {"server_names": match}
        return c
    inspector = [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]
    g = rig.gateway(listeners=[listener("main", rig.port, [
        chain("a.example", ["a.example"]), chain("wild", ["*.wild.example"]), chain("b.example", None)],
        listener_filters=inspector)])
    for sni, who, san in (("a.example", b"a.example", "a.example"), ("x.wild.example", b"wild", "*.wild.example"),
                          ("b.example", b"b.example", "b.example")):
        c = g.client(tls=certs.client(), sni=sni)
        assert names(c.sock) == [san]
        assert c.get("/").rx() == (200, who)


def test_a_name_no_chain_serves_is_closed(rig, certs):
    rig.origin()
    inspector = [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}]
    g = rig.gateway(listeners=[listener("main", rig.port, [{
        "filter_chain_match": {"server_names": ["a.example"]},
        "filters": [hcm([vhost("all", ["*"], [route("/", direct_response={"status": 200})])])],
        "transport_socket": tls_down(certs.pem("a.example"), certs.key("a.example"))}],
        listener_filters=inspector)])
    with pytest.raises((ssl.SSLError, OSError)):
        g.client(tls=certs.client(), sni="else.example")


def test_several_certificates_of_one_chain_are_chosen_by_name(rig, certs):
    rig.origin()
    both = {"tls_certificates": [{"certificate_chain": {"filename": str(certs.pem(n))},
                                  "private_key": {"filename": str(certs.key(n))}}
                                 for n in ("a.example", "b.example")]}
    g = rig.gateway(tls=tls_down("", "", common=both))
    for sni in ("a.example", "b.example"):
        assert names(g.client(tls=certs.client(), sni=sni).sock) == [sni]


def test_alpn_decides_the_protocol(rig, certs):
    o = rig.origin()
    g = rig.gateway(tls=tls_down(certs.pem("a.example"), certs.key("a.example")))
    c = g.client(tls=certs.client(alpn=["http/1.1"]))
    assert c.sock.selected_alpn_protocol() == "http/1.1"
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    h = g.h2(tls=certs.client(alpn=["h2", "http/1.1"]))
    sid = h.request("GET", "/two", scheme="https")
    o.answer("GET /two", "200 OK", "two")
    assert h.rx(sid) == (200, b"two")


def test_a_client_certificate_can_be_required(rig, certs):
    o = rig.origin()
    g = rig.gateway(tls=tls_down(
        certs.pem("a.example"), certs.key("a.example"), require_client_certificate=True,
        common={"validation_context": {"trusted_ca": {"filename": str(certs.ca)}}}))
    c = g.client(tls=certs.client(cert="client.example"))
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    with pytest.raises((ssl.SSLError, OSError, PeerError)):
        d = g.client(tls=certs.client())
        d.get("/")
        d.rx()
    with pytest.raises((ssl.SSLError, OSError, PeerError)):
        d = g.client(tls=certs.client(cert="stranger"))
        d.get("/")
        d.rx()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_with_a_ticket(rig, certs, version):
    o = rig.origin()
    g = rig.gateway(tls=tls_down(certs.pem("a.example"), certs.key("a.example")))
    context = certs.client(version=version)
    first = context.wrap_socket(g.connect(), server_hostname="a.example")
    import peers
    c = peers.Client(first, "first", rig.transcript)
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    session = first.session
    assert session is not None and session.has_ticket
    second = context.wrap_socket(g.connect(), server_hostname="a.example", session=session)
    assert second.session_reused
    first.close()
    second.close()


def test_plain_text_on_a_tls_port_is_closed(rig, certs):
    rig.origin()
    c = rig.gateway(tls=tls_down(certs.pem("a.example"), certs.key("a.example"))).client()
    c.tx("GET / HTTP/1.1\nHost: a\n\n")
    c.rest()


def up(rig, o, **more):
    return rig.gateway(clusters=[cluster("main", o.port, transport_socket=tls_up(**more))])


def test_an_origin_over_tls_with_sni(rig, certs):
    o = rig.origin(tls=certs.server("origin.example"))
    c = up(rig, o, sni="origin.example",
           common={"validation_context": {"trusted_ca": {"filename": str(certs.ca)}}}).client()
    for i in range(3):
        c.get("/%d" % i)
        o.answer("GET /%d" % i, "200 OK", "x" * 50000)
        assert len(c.rx().body) == 50000
    assert o.snis == ["origin.example"]
    assert o.conns == 1


def refused_by_postern(rig, o, **more):
    """The handshake fails on postern's side: 503, and the origin never sees a request."""
    import threading
    g = up(rig, o, **more)
    c = g.client()
    seen = []

    def serve():
        try:
            while True:
                seen.append(o.accept(3).rest())
        except (PeerError, OSError):
            pass
    t = threading.Thread(target=serve)
    t.start()
    c.get("/")
    a = c.rx()
    t.join()
    assert a.status == 503
    assert not any(seen), seen
    return g


def test_an_origins_certificate_of_a_stranger_is_refused(rig, certs):
    o = rig.origin(tls=certs.server("stranger"))
    refused_by_postern(rig, o, sni="origin.example",
                       common={"validation_context": {"trusted_ca": {"filename": str(certs.ca)}}})


def test_an_origins_certificate_for_another_name_is_refused(rig, certs):
    o = rig.origin(tls=certs.server("b.example"))
    refused_by_postern(rig, o, sni="origin.example", common={"validation_context": {
        "trusted_ca": {"filename": str(certs.ca)},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "origin.example"}}]}})


def test_an_origin_asks_for_our_certificate(rig, certs):
    o = rig.origin(tls=certs.server("origin.example", client_ca="ca"))
    c = up(rig, o, sni="origin.example", common={
        "tls_certificates": [{"certificate_chain": {"filename": str(certs.pem("client.example"))},
                              "private_key": {"filename": str(certs.key("client.example"))}}],
        "validation_context": {"trusted_ca": {"filename": str(certs.ca)}}}).client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200


def test_auto_sni_sends_the_requests_host(rig, certs):
    o = rig.origin(tls=certs.server("origin.example"))
    g = rig.gateway(clusters=[cluster("main", o.port, transport_socket=tls_up(
        common={"validation_context": {"trusted_ca": {"filename": str(certs.ca)}}}),
        typed_extension_protocol_options={"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "upstream_http_protocol_options": {"auto_sni": True, "auto_san_validation": True},
            "explicit_http_config": {"http_protocol_options": {}}}})])
    c = g.client()
    c.get("/", host="origin.example")
    o.answer()
    assert c.rx().status == 200
    assert o.snis == ["origin.example"]


def test_a_tls_answer_that_is_cut_is_not_complete(rig, certs):
    o = rig.origin(tls=certs.server("origin.example"))
    c = up(rig, o, sni="origin.example").client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n")
    assert c.rx_head().status == 200
    assert c.chunk() == b"abc"
    o.last.sock.close()  # FIN without close_notify
    o.open.clear()
    assert c.rest() == b""


def test_a_large_body_passes_tls_on_both_sides(rig, certs):
    import threading
    o = rig.origin(tls=certs.server("origin.example"))
    g = rig.gateway(clusters=[cluster("main", o.port, transport_socket=tls_up(sni="origin.example"))],
                    tls=tls_down(certs.pem("a.example"), certs.key("a.example")))
    c = g.client(tls=certs.client())
    body = bytes(range(256)) * 16384
    t = threading.Thread(target=lambda: c.tx(
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    t.start()
    assert o.rx("PUT /").body == body
    t.join()
    t = threading.Thread(target=lambda: o.tx(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    t.start()
    assert c.rx() == (200, body)
    t.join()

"""x-forwarded-client-cert: nobody but the gateway says who the client of mutual TLS is (forward_client_cert_details)."""
import pytest

from rig import tls_down

FIELD = "x-forwarded-client-cert"
ALL = {"subject": True, "cert": True, "chain": True, "uri": True, "dns": True}


def gateway(rig, certs, mode, tls=True, **details):
    over = {"set_current_client_cert_details": details} if details else {}
    if mode:
        over["forward_client_cert_details"] = mode
    return rig.gateway(hcm_over=over, tls=tls_down(
        certs.pem("a.example"), certs.key("a.example"),
        common={"validation_context": {"trusted_ca": {"filename": str(certs.ca)}}}) if tls else None)


def forwarded(g, o, context=None, *fields):
    c = g.client(tls=context)
    c.get("/", *fields)
    values = o.rx("GET /").headers.all(FIELD)
    o.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert c.rx().status == 200
    return values


OLD = "X-Forwarded-Client-Cert: Hash=forged"


@pytest.mark.parametrize("mode", [None, "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET"])
def test_a_client_without_a_certificate_cannot_say_that_it_has_one(rig, certs, mode):
    o = rig.origin()
    assert forwarded(gateway(rig, certs, mode, tls=False), o, None, OLD, OLD) == []


@pytest.mark.parametrize("mode", [None, "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET"])
def test_nor_can_one_over_tls(rig, certs, mode):
    o = rig.origin()
    assert forwarded(gateway(rig, certs, mode), o, certs.client(), OLD) == []


def test_what_a_trusted_client_sends_is_kept_dropped_extended_or_replaced(rig, certs):
    o = rig.origin()
    mutual = certs.client(cert="b.example")
    seen = {m: forwarded(gateway_again(rig, certs, m), o, mutual, OLD)
            for m in ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY")}
    own = seen["SANITIZE_SET"][0]
    assert own.startswith("Hash=") and len(own) == 5 + 64
    assert seen == {"SANITIZE": [], "FORWARD_ONLY": ["Hash=forged"], "APPEND_FORWARD": ["Hash=forged," + own],
                    "SANITIZE_SET": [own], "ALWAYS_FORWARD_ONLY": ["Hash=forged"]}


def gateway_again(rig, certs, mode):
    rig.port, rig.admin_port = rig.free_port(), rig.free_port()
    return gateway(rig, certs, mode)


def test_the_details_come_in_envoys_order(rig, certs):
    o = rig.origin()
    value = forwarded(gateway(rig, certs, "SANITIZE_SET", **ALL), o, certs.client(cert="b.example"))[0]
    keys = [part.partition("=")[0] for part in value.split(";")]
    assert keys == ["Hash", "Cert", "Chain", "Subject", "URI", "DNS"]
    assert 'Cert="-----BEGIN%20CERTIFICATE-----%0A' in value and "DNS=b.example" in value

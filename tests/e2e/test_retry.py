"""Retries, timeouts and circuit breakers."""
import pytest

from rig import cluster, route


def test_retry_on_5xx_asks_again(rig):
    o = rig.origin()
    g = rig.gateway([route("/", {"cluster": "main", "retry_policy": {
        "retry_on": "5xx", "num_retries": 2,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}})])
    c = g.client()
    c.get("/")
    o.answer("GET /", "503 Service Unavailable", "first")
    o.answer("GET /", "500 Internal Server Error", "second")
    o.answer("GET /", "200 OK", "third")
    assert c.rx() == (200, b"third")
    assert g.stat("cluster.main.upstream_rq_retry") == 2
    assert g.stat("cluster.main.upstream_rq_retry_success") == 1


def test_the_last_answer_is_delivered_when_retries_are_used_up(rig):
    o = rig.origin()
    g = rig.gateway([route("/", {"cluster": "main", "retry_policy": {
        "retry_on": "5xx", "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}})])
    c = g.client()
    c.get("/")
    o.answer("GET /", "503 Service Unavailable", "first")
    o.answer("GET /", "503 Service Unavailable", "second")
    assert c.rx() == (503, b"second")


def test_a_retry_repeats_the_body(rig):
    o = rig.origin()
    c = rig.gateway([route("/", {"cluster": "main", "retry_policy": {
        "retry_on": "5xx", "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}})]).client()
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello")
    assert o.answer("POST /", "503 Service Unavailable").body == b"hello"
    assert o.answer("POST /", "200 OK", "ok").body == b"hello"
    assert c.rx() == (200, b"ok")


def test_without_a_policy_an_error_is_delivered_at_once(rig):
    o = rig.origin()
    c = rig.gateway().client()
    c.get("/")
    o.answer("GET /", "503 Service Unavailable", "down")
    assert c.rx() == (503, b"down")
    o.untouched()


def two_priorities(rig, first, second):
    c = cluster("both", first.port)
    c["load_assignment"]["endpoints"] = [
        {"priority": 0, "lb_endpoints": [{"endpoint": {"address": {"socket_address": {
            "address": "127.0.0.1", "port_value": first.port}}}}]},
        {"priority": 1, "lb_endpoints": [{"endpoint": {"address": {"socket_address": {
            "address": "127.0.0.1", "port_value": second.port}}}}]}]
    return c


def test_a_404_moves_to_the_next_priority(rig):
    """The article's job without a script, as Envoy users do it today."""
    static, wp = rig.origin("static"), rig.origin("wp")
    g = rig.gateway([route("/", {"cluster": "both", "retry_policy": {
        "retry_on": "retriable-status-codes", "retriable_status_codes": [404], "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
        "retry_priority": {"name": "envoy.retry_priorities.previous_priorities", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            "update_frequency": 1}}}})], clusters=[two_priorities(rig, static, wp)])
    c = g.client()
    c.get("/hit")
    static.answer("GET /hit", "200 OK", "static")
    assert c.rx() == (200, b"static")
    c.get("/miss")
    static.answer("GET /miss", "404 Not Found", "nope")
    wp.answer("GET /miss", "200 OK", "old")
    assert c.rx() == (200, b"old")


def test_previous_hosts_are_avoided(rig):
    import select
    origins = [rig.origin("o%d" % i) for i in range(2)]
    g = rig.gateway([route("/", {"cluster": "all", "retry_policy": {
        "retry_on": "5xx", "num_retries": 1, "host_selection_retry_max_attempts": 5,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}]}})],
        clusters=[cluster("all", *[o.port for o in origins])])
    c = g.client()
    for i in range(6):
        c.get("/%d" % i)
        order = []
        for status in ("503 Service Unavailable", "200 OK"):
            fds = {o.listener: o for o in origins}
            fds.update({k.sock: o for o in origins for k in o.open})
            o = fds[select.select(list(fds), [], [], 10)[0][0]]
            o.answer("GET /%d" % i, status)
            order.append(o.name)
        assert c.rx().status == 200
        assert len(set(order)) == 2, order


def test_a_connection_that_is_refused_moves_on(rig):
    o = rig.origin()
    dead = rig.free_port()
    g = rig.gateway([route("/", {"cluster": "all", "retry_policy": {
        "retry_on": "connect-failure", "num_retries": 3,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}})],
        clusters=[cluster("all", dead, o.port)])
    c = g.client()
    for i in range(4):
        c.get("/%d" % i)
        o.answer("GET /%d" % i)
        assert c.rx().status == 200


def test_the_route_timeout_is_504(rig):
    o = rig.origin()
    g = rig.gateway([route("/", {"cluster": "main", "timeout": "0.2s"})])
    c = g.client()
    c.get("/")
    o.rx()
    a = c.rx()
    assert a == (504, b"upstream request timeout")
    o.last.eof()
    assert g.stat("cluster.main.upstream_rq_timeout") == 1


def test_the_route_timeout_cuts_a_body(rig):
    o = rig.origin()
    c = rig.gateway([route("/", {"cluster": "main", "timeout": "0.3s"})]).client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\nContent-Length: 10\n\n123")
    assert c.rx_head().status == 200
    assert c.rest() == b"123"


def test_a_try_that_takes_too_long_is_repeated(rig):
    o = rig.origin()
    c = rig.gateway([route("/", {"cluster": "main", "retry_policy": {
        "retry_on": "5xx,reset", "per_try_timeout": "0.2s", "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"}}})]).client()
    c.get("/")
    o.rx()
    o.answer("GET /", "200 OK", "second")
    assert c.rx() == (200, b"second")


def test_a_head_that_does_not_come_is_408(rig):
    rig.origin()
    g = rig.gateway(hcm_over={"request_headers_timeout": "0.2s"})
    c = g.client()
    c.tx(b"GET / HTTP/1.1\r\nHo")
    a = c.rx()
    assert a.status == 408
    c.eof()


def test_an_idle_client_is_closed(rig):
    o = rig.origin()
    c = rig.gateway(hcm_over={"common_http_protocol_options": {"idle_timeout": "0.2s"}}).client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    c.eof()


def test_a_stream_without_progress_is_ended(rig):
    o = rig.origin()
    g = rig.gateway(hcm_over={"stream_idle_timeout": "0.2s"})
    c = g.client()
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhe")
    assert c.rx().status == 408
    d = g.client()
    d.get("/slow")
    o.ready()
    assert d.rx().status == 504


def test_a_request_that_takes_too_long_is_408(rig):
    rig.origin()
    c = rig.gateway(hcm_over={"request_timeout": "0.2s"}).client()
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhe")
    assert c.rx().status == 408


def test_an_idle_origin_connection_is_closed(rig):
    o = rig.origin()
    g = rig.gateway(clusters=[cluster("main", o.port, typed_extension_protocol_options={
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"idle_timeout": "0.2s"},
            "explicit_http_config": {"http_protocol_options": {}}}})])
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200
    o.last.eof()


def test_pending_requests_over_the_limit_are_503_overflow(rig):
    o = rig.origin()
    g = rig.gateway(clusters=[cluster("main", o.port, circuit_breakers={"thresholds": [
        {"max_connections": 1, "max_pending_requests": 1}]})])
    first, second, third = g.client(), g.client(), g.client()
    first.get("/1")
    o.rx("GET /1")
    second.get("/2")
    g.wait_stat("cluster.main.upstream_rq_pending_active", 1)
    third.get("/3")
    a = third.rx()
    assert a.status == 503
    assert a.headers.get("x-envoy-overloaded") == "true"
    assert g.stat("cluster.main.upstream_rq_pending_overflow") == 1
    o.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    assert first.rx().status == 200
    o.answer("GET /2")
    assert second.rx().status == 200
    assert o.conns == 1


def test_requests_per_origin_connection_are_limited(rig):
    o = rig.origin()
    g = rig.gateway(clusters=[cluster("main", o.port, typed_extension_protocol_options={
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"max_requests_per_connection": 2},
            "explicit_http_config": {"http_protocol_options": {}}}})])
    c = g.client()
    for i in range(4):
        c.get("/%d" % i)
        o.answer("GET /%d" % i)
        assert c.rx().status == 200
    assert o.conns == 2


def test_a_body_over_the_buffer_limit_is_413_for_a_script_that_gathers_it(rig):
    from rig import lua
    rig.origin()
    c = rig.gateway(filters=[lua("function envoy_on_request(h) h:body() end")],
                    listener_over={"per_connection_buffer_limit_bytes": 1000}).client()
    c.tx("POST / HTTP/1.1\nHost: a\nContent-Length: 100000\n\n" + "x" * 20000)
    assert c.rx().status == 413


@pytest.mark.parametrize("step", ["connect", "head", "body"])
def test_a_client_that_leaves_at_any_step_leaves_nothing_behind(rig, step):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()
    c.get("/")
    if step == "connect":
        c.abort()
    else:
        o.rx()
        if step == "body":
            o.tx("HTTP/1.1 200 OK\nContent-Length: 10\n\n123")
            c.rx_head()
        c.abort()
        o.last.rest()
    from rig import until
    until(lambda: g.stat("http.in.downstream_cx_active") == 0 and
          g.stat("http.in.downstream_rq_active") == 0, "no connection is left")

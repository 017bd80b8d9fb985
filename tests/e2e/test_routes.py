"""Route matching and what a route may do to a request and its answer."""
import collections

import pytest

from rig import cluster, route, vhost


def say(text, match, **over):
    """A route whose direct answer names it."""
    return route(match, direct_response={"status": 200, "body": {"inline_string": text}}, **over)


def said(g, target, *fields, host="example.com", method="GET"):
    a = g.get(target, *fields, host=host, method=method)
    return a.body.decode() if a.status == 200 else a.status


def test_direct_responses(rig):
    g = rig.gateway([route({"path": "/teapot"}, direct_response={
        "status": 418, "body": {"inline_string": "short and stout"}},
        response_headers_to_add=[{"header": {"key": "x-pot", "value": "tea"}}]),
        route("/", direct_response={"status": 204})])
    a = g.get("/teapot")
    assert a == (418, b"short and stout")
    assert a.headers.get("x-pot") == "tea"
    assert a.headers.get("content-length") == "15"
    assert a.headers.get("content-type") == "text/plain"
    assert g.get("/else").status == 204


def test_path_matches(rig):
    g = rig.gateway([
        say("exact", {"path": "/exact"}),
        say("nocase", {"path": "/NoCase", "case_sensitive": False}),
        say("separated", {"path_separated_prefix": "/api/v1"}),
        say("regex", {"safe_regex": {"regex": "/user/[0-9]+"}}),
        say("prefix", {"prefix": "/pre"}),
    ])
    assert said(g, "/exact") == "exact"
    assert said(g, "/exact?x=1") == "exact"
    assert said(g, "/exact/") == 404
    assert said(g, "/NOCASE") == "nocase"
    assert said(g, "/api/v1") == "separated"
    assert said(g, "/api/v1/x") == "separated"
    assert said(g, "/api/v10") == 404
    assert said(g, "/user/42") == "regex"
    assert said(g, "/user/42/x") == 404
    assert said(g, "/prefix") == "prefix"


def test_the_first_route_that_matches_wins(rig):
    g = rig.gateway([say("first", "/a"), say("second", "/a/b"), say("rest", "/")])
    assert said(g, "/a/b") == "first"
    assert said(g, "/z") == "rest"


@pytest.mark.parametrize("match,yes,no", [
    ({"string_match": {"exact": "v"}}, "v", "V"),
    ({"string_match": {"exact": "v", "ignore_case": True}}, "V", "w"),
    ({"string_match": {"prefix": "ab"}}, "abc", "cab"),
    ({"string_match": {"suffix": "bc"}}, "abc", "bcd"),
    ({"string_match": {"contains": "x"}}, "axb", "ab"),
    ({"string_match": {"safe_regex": {"regex": "a+b?"}}}, "aab", "aabc"),
    ({"present_match": True}, "anything", None),
    ({"present_match": False}, None, "anything"),
    ({"range_match": {"start": 5, "end": 10}}, "5", "10"),
    ({"string_match": {"exact": "v"}, "invert_match": True}, "w", "v"),
], ids=lambda v: str(v)[:40] if isinstance(v, dict) else None)
def test_header_matches(rig, match, yes, no):
    g = rig.gateway([say("yes", {"prefix": "/", "headers": [dict({"name": "x-h"}, **match)]}),
                     say("no", "/")])
    for value, want in ((yes, "yes"), (no, "no")):
        assert said(g, "/", *(["X-H: " + value] if value is not None else [])) == want


def test_header_matches_see_pseudo_headers(rig):
    g = rig.gateway([
        say("put", {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "PUT"}}]}),
        say("host", {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"exact": "b.example"}}]}),
        say("rest", "/")])
    assert said(g, "/", method="PUT") == "put"
    assert said(g, "/", host="b.example") == "host"
    assert said(g, "/") == "rest"


def test_query_parameter_matches(rig):
    g = rig.gateway([
        say("exact", {"prefix": "/", "query_parameters": [{"name": "wp", "string_match": {"exact": "1"}}]}),
        say("present", {"prefix": "/", "query_parameters": [{"name": "debug", "present_match": True}]}),
        say("rest", "/")])
    assert said(g, "/?wp=1") == "exact"
    assert said(g, "/?a=b&wp=1&c") == "exact"
    assert said(g, "/?wp=2") == "rest"
    assert said(g, "/?xwp=1") == "rest"
    assert said(g, "/?debug") == "present"
    assert said(g, "/?debug=") == "present"
    assert said(g, "/wp=1") == "rest"


def test_cookie_matches(rig):
    g = rig.gateway([
        say("yes", {"prefix": "/", "cookies": [{"name": "wp", "string_match": {"exact": "1"}}]}),
        say("no", "/")])
    assert said(g, "/", "Cookie: wp=1") == "yes"
    assert said(g, "/", "Cookie: a=b; wp=1; c=d") == "yes"
    assert said(g, "/", "Cookie: a=b", "Cookie: wp=1") == "yes"
    assert said(g, "/", "Cookie: xwp=1") == "no"
    assert said(g, "/", "Cookie: wp=11") == "no"


def test_virtual_hosts(rig):
    g = rig.gateway(vhosts=[
        vhost("exact", ["a.example", "a.example:*"], [say("exact", "/")]),
        vhost("suffix", ["*.example"], [say("suffix", "/")]),
        vhost("longer", ["*.b.example"], [say("longer", "/")]),
        vhost("prefix", ["www.*"], [say("prefix", "/")]),
        vhost("rest", ["*"], [say("rest", "/")])])
    assert said(g, "/", host="a.example") == "exact"
    assert said(g, "/", host="A.Example") == "exact"
    assert said(g, "/", host="x.example") == "suffix"
    assert said(g, "/", host="x.b.example") == "longer"
    assert said(g, "/", host="www.else") == "prefix"
    assert said(g, "/", host="else") == "rest"


@pytest.mark.parametrize("redirect,target,location,status", [
    ({"host_redirect": "b.example"}, "/x?y=1", "http://b.example/x?y=1", 301),
    ({"https_redirect": True}, "/x", "https://example.com/x", 301),
    ({"path_redirect": "/new"}, "/x?y=1", "http://example.com/new?y=1", 301),
    ({"prefix_rewrite": "/new"}, "/x/y", "http://example.com/new/y", 301),
    ({"port_redirect": 8443, "https_redirect": True}, "/x", "https://example.com:8443/x", 301),
    ({"strip_query": True, "path_redirect": "/n"}, "/x?y=1", "http://example.com/n", 301),
    ({"regex_rewrite": {"pattern": {"regex": "^/x/(.*)$"}, "substitution": "/r/\\1"}},
     "/x/y", "http://example.com/r/y", 301),
    ({"path_redirect": "/n", "response_code": "TEMPORARY_REDIRECT"}, "/x", "http://example.com/n", 307),
    ({"path_redirect": "/n", "response_code": "SEE_OTHER"}, "/x", "http://example.com/n", 303),
])
def test_redirects(rig, redirect, target, location, status):
    a = rig.gateway([route("/x", redirect=redirect)]).get(target)
    assert (a.status, a.headers.get("location")) == (status, location)


@pytest.mark.parametrize("match,action,target,seen", [
    ("/api", {"prefix_rewrite": "/v2"}, "/api/x?q=1", "/v2/x?q=1"),
    ("/api/", {"prefix_rewrite": "/"}, "/api/x", "/x"),
    ({"path": "/one"}, {"prefix_rewrite": "/two"}, "/one?q", "/two?q"),
    ("/", {"regex_rewrite": {"pattern": {"regex": "^/u/([^/]+)/(.*)$"}, "substitution": "/\\2?u=\\1"}},
     "/u/ann/p", "/p?u=ann"),
])
def test_rewritten_paths(rig, match, action, target, seen):
    o = rig.origin()
    c = rig.gateway([route(match, dict({"cluster": "main"}, **action))]).client()
    c.get(target)
    r = o.answer("GET " + seen + " HTTP/1.1")
    assert r.headers.get("x-envoy-original-path") == target
    assert c.rx().status == 200


def test_rewritten_hosts(rig):
    o = rig.origin()
    g = rig.gateway([
        route("/literal", {"cluster": "main", "host_rewrite_literal": "inner.example"}),
        route("/header", {"cluster": "main", "host_rewrite_header": "x-host"}),
        route("/", "main")])
    c = g.client()
    c.get("/literal")
    assert o.answer().headers.get("host") == "inner.example"
    assert c.rx().status == 200
    c.get("/header", "X-Host: said.example")
    assert o.answer().headers.get("host") == "said.example"
    assert c.rx().status == 200
    c.get("/")
    assert o.answer().headers.get("host") == "example.com"
    assert c.rx().status == 200


def add(key, value, action=None):
    h = {"header": {"key": key, "value": value}}
    if action:
        h["append_action"] = action
    return h


def test_header_mutations_of_every_level(rig):
    o = rig.origin()
    g = rig.gateway(vhosts=[vhost("all", ["*"], [
        route("/", "main",
              request_headers_to_add=[add("x-level", "route"),
                                      add("x-over", "new", "OVERWRITE_IF_EXISTS_OR_ADD"),
                                      add("x-absent", "made", "ADD_IF_ABSENT"),
                                      add("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")],
              request_headers_to_remove=["x-drop"],
              response_headers_to_add=[add("x-out", "route")],
              response_headers_to_remove=["x-inner"])],
        request_headers_to_add=[add("x-level", "vhost")],
        response_headers_to_add=[add("x-out", "vhost")])])
    c = g.client()
    c.get("/", "X-Drop: 1", "X-Over: old", "X-Absent: kept")
    r = o.rx()
    assert r.headers.all("x-level") == ["route", "vhost"]
    assert r.headers.all("x-over") == ["new"]
    assert r.headers.all("x-absent") == ["kept"]
    assert r.headers.get("x-from") == "127.0.0.1"
    assert "x-drop" not in r.headers
    o.tx("HTTP/1.1 200 OK\nX-Inner: 1\nContent-Length: 0\n\n")
    a = c.rx()
    assert a.headers.all("x-out") == ["route", "vhost"]
    assert "x-inner" not in a.headers


def test_weighted_clusters_share_by_weight(rig):
    a, b = rig.origin("a"), rig.origin("b")
    g = rig.gateway([route("/", {"weighted_clusters": {"clusters": [
        {"name": "a", "weight": 90}, {"name": "b", "weight": 10}]}})])
    c = g.client()
    seen = collections.Counter()
    import select
    for i in range(200):
        c.get("/%d" % i)
        while True:
            fds = {o.listener: o for o in (a, b)}
            fds.update({k.sock: o for o in (a, b) for k in o.open})
            r, _, _ = select.select(list(fds), [], [], 10)
            assert r
            o = fds[r[0]]
            break
        o.answer("GET /%d" % i)
        assert c.rx().status == 200
        seen[o.name] += 1
    assert 150 < seen["a"] < 199, seen  # 180 expected, sigma 4


def test_a_cluster_named_by_a_header(rig):
    rig.origin("a")
    b = rig.origin("b")
    c = rig.gateway([route("/", {"cluster_header": "x-cluster"})]).client()
    c.get("/", "X-Cluster: b")
    b.answer()
    assert c.rx().status == 200
    c.get("/", "X-Cluster: nowhere")
    assert c.rx().status == 503


def test_lua_per_route_can_be_switched_off(rig):
    from rig import X, lua
    o = rig.origin()
    off = {"envoy.filters.http.lua": {"@type": X + "filters.http.lua.v3.LuaPerRoute", "disabled": True}}
    g = rig.gateway([route("/off", "main", typed_per_filter_config=off), route("/", "main")],
                    [lua("function envoy_on_request(h) h:headers():add('x-lua', 'ran') end")])
    c = g.client()
    c.get("/on")
    assert "x-lua" in o.answer().headers
    assert c.rx().status == 200
    c.get("/off")
    assert "x-lua" not in o.answer().headers
    assert c.rx().status == 200


BALANCE = {"round_robin": "ROUND_ROBIN", "least_request": "LEAST_REQUEST", "random": "RANDOM"}


@pytest.mark.parametrize("policy", sorted(BALANCE.values()))
def test_every_endpoint_gets_its_share(rig, policy):
    import select
    origins = [rig.origin("o%d" % i) for i in range(3)]
    g = rig.gateway([route("/", "all")], clusters=[
        cluster("all", *[o.port for o in origins], lb_policy=policy)])
    c = g.client()
    seen = collections.Counter()
    for i in range(60):
        c.get("/%d" % i)
        fds = {o.listener: o for o in origins}
        fds.update({k.sock: o for o in origins for k in o.open})
        r, _, _ = select.select(list(fds), [], [], 10)
        o = fds[r[0]]
        o.answer("GET /%d" % i)
        assert c.rx().status == 200
        seen[o.name] += 1
    assert len(seen) == 3, seen
    if policy == "ROUND_ROBIN":
        assert set(seen.values()) == {20}, seen


def test_ring_hash_keeps_a_key_on_its_endpoint(rig):
    import select
    origins = [rig.origin("o%d" % i) for i in range(3)]
    g = rig.gateway([route("/", {"cluster": "all", "hash_policy": [{"header": {"header_name": "x-user"}}]})],
                    clusters=[cluster("all", *[o.port for o in origins], lb_policy="RING_HASH")])
    c = g.client()
    home = {}
    for i in range(60):
        user = "u%d" % (i % 20)
        c.get("/", "X-User: " + user)
        fds = {o.listener: o for o in origins}
        fds.update({k.sock: o for o in origins for k in o.open})
        o = fds[select.select(list(fds), [], [], 10)[0][0]]
        o.answer()
        assert c.rx().status == 200
        assert home.setdefault(user, o.name) == o.name
    assert len(set(home.values())) > 1

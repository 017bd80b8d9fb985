"""What a configuration may say: every mistake at once, with its place and a suggestion; nothing ignored in silence."""
import json
import subprocess

import pytest
import yaml

from rig import ROOT, route, vhost


def planted(rig, text, old, new):
    assert text.count(old) == 1, "%r stands %d times" % (old, text.count(old))
    line = text[:text.index(old)].count("\n") + 1
    return text.replace(old, new), line


GOOD = """\
admin:
  address:
    socket_address: {address: 127.0.0.1, port_value: 1}
static_resources:
  listeners:
  - name: main
    address:
      socket_address: {address: 127.0.0.1, port_value: 2}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: AUTO
          route_config:
            name: r
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: "/"}
                route:
                  cluster: web
                  timeout: 5s
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: web
    type: STATIC
    connect_timeout: 1s
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: web
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: {address: 127.0.0.1, port_value: 3}
"""


def test_a_good_configuration_passes(rig):
    code, out = rig.check(GOOD)
    assert code == 0, out


MISTAKES = [
    ("    lb_policy: ROUND_ROBIN", "    lb_polizy: ROUND_ROBIN", ["lb_polizy", "lb_policy"]),
    ("lb_policy: ROUND_ROBIN", "lb_policy: ROUND_ROBBIN", ["ROUND_ROBBIN", "ROUND_ROBIN"]),
    ("connect_timeout: 1s", "connect_timeout: 1 second", ["connect_timeout"]),
    ("                  cluster: web", "                  cluster: wep", ["wep", "web"]),
    ("          stat_prefix: in", "          stat_prefix: 7x: in", []),
    ("port_value: 3", "port_value: many", ["port_value"]),
    ("port_value: 3", "port_value: 65536", ["port_value"]),
    ("match: {prefix: \"/\"}", "match: {prefix: \"/\", path: \"/x\"}", ["prefix", "path"]),
    ("match: {prefix: \"/\"}", "match: {safe_regex: {regex: \"(\"}}", ["regex"]),
    ("http_connection_manager.v3.HttpConnectionManager", "http_connection_manager.v3.HttpConectionManager",
     ["HttpConectionManager", "HttpConnectionManager"]),
    ("    type: STATIC", "    type: ORIGINAL_DST", ["ORIGINAL_DST"]),
    ("          codec_type: AUTO", "          codec_type: AUTO\n          codec_type: HTTP1", ["codec_type"]),
    ("              domains: [\"*\"]", "              domains: [\"a.*.b\"]", ["a.*.b"]),
]


@pytest.mark.parametrize("old,new,words", MISTAKES, ids=[m[1].strip()[:40] for m in MISTAKES])
def test_a_mistake_is_named_with_its_line_and_a_suggestion(rig, old, new, words):
    text, line = planted(rig, GOOD, old, new)
    code, out = rig.check(text)
    assert code != 0, out
    lines = {line, line + new.count("\n")}
    assert any("check.yaml:%d:" % n in out for n in lines), "no line %d in:\n%s" % (line, out)
    for w in words:
        assert w in out, "%r is not in:\n%s" % (w, out)


def test_a_virtual_host_needs_a_domain(rig):
    code, out = rig.check(GOOD.replace('domains: ["*"]', "domains: []"))
    assert code != 0 and "domains" in out


def test_all_mistakes_are_reported_at_once(rig):
    text = GOOD
    for old, new, _ in (MISTAKES[0], MISTAKES[2], MISTAKES[3]):
        text, _ = planted(rig, text, old, new)
    code, out = rig.check(text)
    assert code != 0
    for word in ("lb_polizy", "connect_timeout", "wep"):
        assert word in out, out


def test_a_faulty_configuration_ends_the_start_and_prints_the_same(rig):
    text, line = planted(rig, GOOD, *MISTAKES[0][:2])
    path = rig.tmp / "bad.yaml"
    path.write_text(text)
    p = subprocess.run([rig.binary, "-c", str(path)], capture_output=True, text=True, timeout=30)
    assert p.returncode != 0
    assert "bad.yaml:%d:" % line in p.stdout + p.stderr


@pytest.mark.parametrize("text", ["", "a: b", "[1, 2]", "a: [", "- \t x", "a: &x [*x]", "{" * 100, "\0", "a: 1\na: 2\n",
                                  '{"static_resources": {}', '{"a": 1, "a": 2}'])
def test_what_is_no_configuration_is_refused_or_harmless(rig, text):
    code, out = rig.check(text)
    assert code in (0, 1)
    assert code == 0 or out.strip()


def test_json_says_the_same_as_yaml(rig):
    path = rig.tmp / "c.json"
    path.write_text(json.dumps(yaml.safe_load(GOOD)))
    p = subprocess.run([rig.binary, "check", "-c", str(path)], capture_output=True, text=True, timeout=30)
    assert p.returncode == 0, p.stdout + p.stderr
    path.write_text(json.dumps(yaml.safe_load(GOOD), indent=1).replace("lb_policy", "lb_polizy"))
    p = subprocess.run([rig.binary, "check", "-c", str(path)], capture_output=True, text=True, timeout=30)
    assert p.returncode != 0 and "c.json:" in p.stdout + p.stderr and "lb_policy" in p.stdout + p.stderr


def test_camel_case_is_the_same(rig):
    text = GOOD
    for a, b in (("static_resources", "staticResources"), ("filter_chains", "filterChains"),
                 ("stat_prefix", "statPrefix"), ("route_config", "routeConfig"), ("lb_endpoints", "lbEndpoints"),
                 ("virtual_hosts", "virtualHosts"), ("connect_timeout", "connectTimeout")):
        text = text.replace(a + ":", b + ":")
    code, out = rig.check(text)
    assert code == 0, out


def test_the_spellings_of_old_articles_work(rig):
    """envoy.lua with inlineCode, as in the article."""
    o = rig.origin()
    f = {"name": "envoy.lua", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "inlineCode": "function envoy_on_request(h) h:headers():add('x-lua', 'yes') end"}}
    c = rig.gateway(filters=[f]).client()
    c.get("/")
    assert o.answer().headers.get("x-lua") == "yes"
    assert c.rx().status == 200


def test_a_known_but_unsupported_filter_is_refused_by_name(rig):
    rig.origin()
    code, out = rig.check(rig.bootstrap(filters=[{"name": "envoy.filters.http.ext_authz", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"}}]))
    assert code != 0 and "ext_authz" in out


@pytest.mark.parametrize("key,value,ok", [
    ("postern.max_target_bytes", 1000, True), ("postern.script_time_ms", 50, True),
    ("postern.script_time_ms", 100000, False), ("postern.max_traget_bytes", 1000, False),
    ("envoy.reloadable_features.something", True, True)])
def test_runtime_keys(rig, key, value, ok):
    rig.origin()
    code, out = rig.check(rig.bootstrap(runtime={key: value}))
    assert (code == 0) == ok, out
    assert ok or key.split(".")[-1] in out


def test_set_overrides_a_runtime_key(rig):
    o = rig.origin()
    g = rig.start(rig.bootstrap(runtime={"postern.max_target_bytes": 4000}),
                  args=["--set", "postern.max_target_bytes=100"])
    assert g.get("/" + "a" * 200).status == 414
    assert o.conns == 0
    code, out = rig.check(rig.bootstrap(), ["--set", "postern.max_traget_bytes=1"])
    assert code != 0 and "max_target_bytes" in out


def test_limits_above_the_hard_one_are_an_error(rig):
    rig.origin()
    code, out = rig.check(rig.bootstrap(hcm_over={"max_request_headers_kb": 9000}))
    assert code != 0 and "max_request_headers_kb" in out


def test_a_configured_head_limit_holds(rig):
    o = rig.origin()
    g = rig.gateway(hcm_over={"max_request_headers_kb": 1})
    assert g.get("/", "X-Big: " + "a" * 2000).status == 431
    assert o.conns == 0


def test_a_yaml_anchor_and_merge(rig):
    text = GOOD.replace("    connect_timeout: 1s", "    connect_timeout: &t 1s").replace(
        "                  timeout: 5s", "                  timeout: *t")
    # the anchor must stand before its use: clusters first
    head, _, clusters = text.partition("  clusters:\n")
    first, _, rest = head.partition("static_resources:\n")
    code, out = rig.check(first + "static_resources:\n  clusters:\n" + clusters + rest)
    assert code == 0, out


def test_the_version_and_the_help(rig):
    for flag in ("--version", "--help"):
        p = subprocess.run([rig.binary, flag], capture_output=True, text=True, timeout=30)
        assert p.returncode == 0
        assert "postern" in p.stdout
    assert "check" in p.stdout and "--set" in p.stdout


def test_the_manual_page_names_every_option_of_the_help(rig):
    import re
    p = subprocess.run([rig.binary, "--help"], capture_output=True, text=True, timeout=30)
    page = open(ROOT + "/docs/postern.1").read().replace("\\-", "-")
    for option in set(re.findall(r"--[a-z][a-z-]+", p.stdout)):
        assert option in page, "%s is not in docs/postern.1" % option


@pytest.mark.parametrize("args,code", [
    (["--nonsense"], 1), (["nonsense"], 1), (["check"], 1), (["-c", "/does/not/exist.yaml"], 1)])
def test_a_wrong_command_line_is_an_error(rig, args, code):
    p = subprocess.run([rig.binary] + args, capture_output=True, text=True, timeout=30)
    assert p.returncode != 0
    assert (p.stdout + p.stderr).strip()


def test_envoys_flags_are_accepted(rig):
    o = rig.origin()
    g = rig.start(rig.bootstrap(), args=[
        "--service-cluster", "c", "--service-node", "n", "-l", "warning", "--component-log-level", "lua:trace",
        "--disable-hot-restart", "--base-id", "7", "--restart-epoch", "0", "--log-format", "%v",
        "--parent-shutdown-time-s", "2", "--local-address-ip-version", "v4"])
    c = g.client()
    c.get("/")
    o.answer()
    assert c.rx().status == 200


def test_mode_validate_checks_and_ends(rig):
    path = rig.tmp / "v.yaml"
    path.write_text(GOOD)
    p = subprocess.run([rig.binary, "--mode", "validate", "-c", str(path)], capture_output=True, text=True, timeout=30)
    assert p.returncode == 0, p.stdout + p.stderr
    path.write_text(GOOD.replace("lb_policy", "lb_polizy"))
    p = subprocess.run([rig.binary, "--mode", "validate", "-c", str(path)], capture_output=True, text=True, timeout=30)
    assert p.returncode != 0 and "lb_policy" in p.stdout + p.stderr


def test_config_yaml_is_merged_over_the_file(rig):
    rig.origin()
    over = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": rig.admin_port}}}}
    config = rig.bootstrap([route("/", direct_response={"status": 200, "body": {"inline_string": "file"}})])
    g = rig.start(config, args=["--config-yaml", json.dumps(over)])
    assert g.get("/") == (200, b"file")


def test_an_address_in_use_ends_the_start(rig):
    import socket
    rig.origin()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the rig's own that holds the port
        s.bind(("127.0.0.1", rig.port))
        s.listen()
        g = rig.start(rig.bootstrap(), wait=False)
        g.expected_exit = g.wait_exit()
        assert g.expected_exit != 0
        assert "ddress already in use" in g.log()


def test_local_replies_can_be_rewritten(rig):
    g = rig.gateway([route("/x", direct_response={"status": 200})], hcm_over={"local_reply_config": {
        "mappers": [{"filter": {"status_code_filter": {"comparison": {
            "op": "EQ", "value": {"default_value": 404, "runtime_key": "k"}}}},
            "status_code": 410, "body": {"inline_string": "moved out"}}]}})
    assert g.get("/nope") == (410, b"moved out")


def test_a_virtual_host_stands_once(rig):
    rig.origin()
    code, out = rig.check(rig.bootstrap(vhosts=[
        vhost("one", ["a.example"], [route("/", "main")]), vhost("two", ["a.example"], [route("/", "main")])]))
    assert code != 0 and "a.example" in out



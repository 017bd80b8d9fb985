"""What docs/fallback.md and examples/ print works as printed."""
import os
import re
import shlex
import subprocess

import pytest
import yaml

from rig import ROOT, cluster, hcm, listener, route, vhost

TEXT = open(os.path.join(ROOT, "docs", "fallback.md"), encoding="utf-8").read()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("line", [c for c in COMMANDS if c.startswith("postern run")])
def test_commands_of_the_page_are_accepted(rig, line):
    words = shlex.split(line)[2:]
    certs = {"site.pem": str(rig.certs.pem("a.example")), "site.key": str(rig.certs.key("a.example"))}
    p = subprocess.run([rig.binary, "check"] + [certs.get(w, w) for w in words], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert p.returncode == 0, p.stderr


@pytest.mark.parametrize("text", BLOCKS)
def test_configuration_of_the_page_is_accepted(rig, text):
    filters = yaml.safe_load(text)["http_filters"]
    manager = hcm([vhost("all", ["*"], [route("/", "primary")])])
    manager["typed_config"]["http_filters"] = filters
    config = {"static_resources": {"listeners": [listener("l", rig.port, [{"filters": [manager]}])],
                                   "clusters": [cluster("primary", 1), cluster("fallback", 2)]}}
    status, out = rig.check(config)
    assert status == 0, out


def test_every_field_of_the_filter_is_on_the_page():
    source = open(os.path.join(ROOT, "src", "config", "schema_fallback.c"), encoding="utf-8").read()
    for name in re.findall(r"F\(\d+, (\w+)", source):
        if name not in ("name", "regex", "compare", "percent", "disabled"):
            assert name in TEXT, name


def start(rig, example, origins):
    text = open(os.path.join(ROOT, "examples", example, "postern.yaml"), encoding="utf-8").read()
    for port, origin in origins.items():
        text = re.sub(r"port_value: %d\b" % port, "port_value: %d" % origin.port, text)
    text = re.sub(r"port_value: 8080\b", "port_value: %d" % rig.port, text)
    config = yaml.safe_load(text)
    config["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": rig.admin_port}}}
    return rig.start(config)


def test_the_garage_example(rig):
    bucket, wp = rig.origin("bucket"), rig.origin("wp")
    g = start(rig, "garage", {3902: bucket, 8081: wp})
    c = g.client()
    c.get("/x")
    bucket.answer("GET /x", "404 Not Found", "p")
    wp.answer("GET /x", "200 OK", "w")
    assert c.rx() == (200, b"w")
    c.get("/x", "Cookie: wp=1")
    wp.answer("GET /x", "200 OK", "w")
    assert c.rx() == (200, b"w")


def test_the_folder_example(rig):
    old = rig.origin("old")
    g = start(rig, "folder", {8081: old})
    c = g.client()
    c.get("/")
    assert b"The new site" in c.rx().body
    c.get("/x")
    old.answer("GET /x", "404 Not Found", "w")
    a = c.rx()
    assert a.status == 404 and b"Neither site" in a.body


def test_the_strangler_example(rig):
    new, old = rig.origin("new"), rig.origin("old")
    g = start(rig, "strangler", {3000: new, 8081: old})
    c = g.client()
    c.tx("PUT /x HTTP/1.1\nHost: a\nContent-Length: 4\n\nbody")
    new.answer("PUT /x", "405 Method Not Allowed", "")
    assert old.rx("PUT /x").body == b"body"
    old.tx("HTTP/1.1 204 No Content\n\n")
    assert c.rx().status == 204
    c.get("/x", "X-Side: old")
    old.answer("GET /x", "200 OK", "o")
    assert c.rx() == (200, b"o")

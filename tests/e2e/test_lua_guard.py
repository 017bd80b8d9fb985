"""Scripts that run away are stopped, and nobody else notices (spec/dependencies.md 6.9, robustness.md L1 to L3).

What is asserted is counted, not timed: the ticks of processor time that the script was seen to use. How long it
takes and how long others wait is measured by `./dev bench lua-runaway`, on the same scripts.
"""
import os
import re
import sys

from rig import ROOT, X, cluster, lua, route, until

sys.path.insert(0, os.path.join(ROOT, "bench"))

import runaway  # noqa: E402

LUA = "envoy.filters.http.lua"
STOPPED = r"script log: \[string \"[^\n]*\"\]:\d+: script exceeded its time limit|script log: script exceeded its time limit"
ENDED = STOPPED + r"|script log: (\[string .*\]:\d+: )?not enough memory"


MOST_MS = 2 * runaway.CPU_MS  # sanitizers make the compiler's and the collector's share larger; ./dev bench lua-runaway holds the limit


def per_route(code):
    return {LUA: {"@type": X + "filters.http.lua.v3.LuaPerRoute", "source_code": {"inline_string": code}}}


def answered(match, code=None, **over):
    r = route(match, direct_response={"status": 200, "body": {"inline_string": "ok"}}, **over)
    if code:
        r["typed_per_filter_config"] = per_route(code)
    return r


def hook(body, name="request"):
    return "function envoy_on_%s(h) %s end" % (name, body)


def guarded(rig, codes, **over):
    """A gateway where /0, /1, ... run the scripts; every other path runs none."""
    routes = [answered({"path": "/%d" % i}, code) for i, code in enumerate(codes)] + [answered("/")]
    over.setdefault("clusters", [cluster("down", rig.free_port(), connect_timeout="1s")])
    return rig.gateway(routes, [{"name": LUA, "typed_config": {"@type": X + "filters.http.lua.v3.Lua"}}], **over)


def seen(g):
    s = g.stats("lua")
    return s["http.in.lua.errors"], s["http.in.lua.cpu_ms"]


def test_every_runaway_is_stopped_and_the_worker_serves_on(rig):
    """One after the other in one worker: what one leaves behind must not hurt the next."""
    g = guarded(rig, [hook(body) for body in runaway.CASES.values()])
    wrong = []
    for i, name in enumerate(runaway.CASES):
        errors, cpu = seen(g)
        ended = len(re.findall(ENDED, g.log()))
        status = g.get("/%d" % i).status
        want = {"load piecemeal": (200, 0, 0), "tostring": (200, 1, 0)}.get(name, (500, 1, 1))
        until(lambda: len(re.findall(ENDED, g.log())) >= ended + want[2], "%s is in the log" % name)
        after = seen(g)
        told = len(re.findall(ENDED, g.log())) - ended
        got = (status, after[0] - errors, told)
        if got != want or after[1] - cpu > MOST_MS or g.get("/other") != (200, b"ok"):
            wrong.append((name, got, want, after[1] - cpu))
    assert not wrong


def test_the_log_says_that_memory_was_wanting_however_long_the_error(rig):
    g = guarded(rig, [hook("pcall(string.rep, 'x', 1e9) error(('e'):rep(5000), 0)")])
    assert g.get("/0").status == 500
    g.wait_log("script log: not enough memory$")


def test_the_cases_of_the_specification_are_stopped_for_their_time(rig):
    names = ["loop", "pcall loop", "pcall of error", "coroutine loop", "pattern bomb", "plain find bomb"]
    g = guarded(rig, [hook(runaway.CASES[n]) for n in names])
    for i in range(len(names)):
        assert g.get("/%d" % i).status == 500
    assert len(re.findall(STOPPED, g.log())) == len(names)


def test_a_stop_cannot_be_caught_and_nothing_after_it_runs(rig):
    g = guarded(rig, [
        hook("pcall(function() while true do end end) h:logErr('went on')"),
        hook("pcall(function() local _ = ('x'):gsub('.', function() while true do end end) end) h:logErr('went on')"),
        hook("return pcall(function() while true do end end)"),
        hook("return xpcall(function() while true do end end, function() h:logErr('went on') end)"),
        hook("coroutine.resume(coroutine.create(function() while true do end end)) h:logErr('went on')"),
        hook("for _ in coroutine.wrap(function() while true do end end) do end h:logErr('went on')"),
    ])
    for i in range(6):
        assert g.get("/%d" % i).status == 500
    assert "went on" not in g.log()
    assert seen(g)[0] == 6


def test_a_coroutine_that_was_stopped_may_be_resumed_by_the_next_request_and_is_stopped_again(rig):
    g = guarded(rig, [hook("co = co or coroutine.create(function() while true do end end) "
                           "h:logErr('status ' .. coroutine.status(co)) coroutine.resume(co)")])
    for _ in range(3):
        assert g.get("/0").status == 500
    assert len(re.findall(STOPPED, g.log())) == 3
    assert "status suspended" in g.log()


def test_it_is_stopped_in_the_response_hook_and_while_a_body_passes(rig):
    o = rig.origin("main")
    g = rig.gateway([dict(route("/r", "main"), typed_per_filter_config=per_route(hook("while true do end", "response"))),
                     dict(route("/c", "main"), typed_per_filter_config=per_route(
                         hook("for c in h:bodyChunks() do while true do end end", "response"))),
                     dict(route("/q", "main"), typed_per_filter_config=per_route(hook("h:body() while true do end"))),
                     route("/", "main")],
                    [{"name": LUA, "typed_config": {"@type": X + "filters.http.lua.v3.Lua"}}])
    c = g.client()
    c.get("/r")
    o.answer("GET /r", "200 OK", "page")
    assert c.rx().status == 500
    c = g.client()
    c.get("/c")
    o.answer("GET /c", "200 OK", "page")
    assert c.rx().status == 500
    assert g.get("/q", method="POST", body="12345").status == 500
    assert seen(g)[0] == 3
    c = g.client()
    c.get("/fine")
    o.answer("GET /fine", "200 OK", "page")
    assert c.rx() == (200, b"page")


def test_the_limit_is_the_operators(rig):
    g = rig.gateway([answered("/")], [lua(hook("while true do end"))],
                    runtime={"postern.script_time_ms": 20, "postern.lua.error_status": 599})
    assert g.get("/").status == 599
    assert seen(g)[1] <= 20


def test_a_stop_by_force_leaves_the_other_requests_an_answer(rig):
    """Below a callback of C there is no way out but unwinding: when that lasts, the scripts' state is made anew."""
    o, late = rig.origin("main"), rig.origin("late")
    force = ("pcall(h.httpCall, h, 'main', {}, '', 1) "  # a call that was begun and not made
             "local f local function r(n) if n > 0 then pcall(r, n - 1) else pcall(coroutine.wrap(f)) while true do end end end "
             "f = function() local _ = ('x'):gsub('.', function() r(6000) end) end f()")
    g = rig.gateway([dict(route("/force", "main"), typed_per_filter_config=per_route(hook(force))),
                     dict(route("/wait", "late"), typed_per_filter_config=per_route(
                         hook("n = (n or 0) + 1 h:headers():add('x-n', tostring(n)) h:body()"))),
                     dict(route("/call", "main"), typed_per_filter_config=per_route(
                         hook("h:httpCall('main', {[':method'] = 'GET', [':path'] = '/called', [':authority'] = 'a'}, '', 0)"))),
                     dict(route("/chunks", "main"), typed_per_filter_config=per_route(hook("for c in h:bodyChunks() do end"))),
                     route("/", "main")],
                    [{"name": LUA, "typed_config": {"@type": X + "filters.http.lua.v3.Lua"}}], runtime={"postern.lua_stream_mib": 60})
    waiting = [g.client() for _ in range(3)]
    waiting[0].tx("POST /wait HTTP/1.1\nHost: a\nContent-Length: 4\n\nab")
    waiting[1].get("/call")
    o.rx("GET /called")
    callee = o.last
    waiting[2].tx("POST /chunks HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n2\r\nab\r\n")
    by_force = 0
    for _ in range(20):
        assert g.get("/force").status == 500
        by_force = len(re.findall("could only be stopped by force", g.log()))
        if by_force:
            break
    assert by_force, "twenty times it went without"
    waiting[0].tx("cd")
    callee.tx("HTTP/1.1 200 OK\nContent-Length: 0\n\n")
    waiting[2].tx("2\r\ncd\r\n0\r\n\r\n")
    assert [c.rx().status for c in waiting] == [500, 500, 500]
    c = g.client()
    c.tx("POST /wait HTTP/1.1\nHost: a\nContent-Length: 4\n\nabcd")
    r = late.rx("POST /wait")
    assert r.headers.get("x-n") == "1"  # globals begin afresh
    late.tx("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
    assert c.rx() == (200, b"ok")

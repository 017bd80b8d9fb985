"""What scripts see in detail: which error comes first, rounds of chunks, fields of the connection, framing after a script."""
import pytest

from rig import lua, route

OK = "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"
ROUNDS = """
function envoy_on_request(h) if h:headers():get(":path") == "/own" then h:respond({[":status"] = "200"}, "own") end end
function envoy_on_response(h) local t = {} for c in h:bodyChunks() do t[#t + 1] = c:length() end h:logInfo("rounds [" .. table.concat(t, ",") .. "]") end
"""


def scripted(rig, *codes, routes=None, **over):
    filters = [lua(c, name="envoy.filters.http.lua" + (str(i) if i else "")) for i, c in enumerate(codes)]
    return rig.gateway(routes, filters, args=["--component-log-level", "lua:trace"], **over)


def one_request(rig, code, *fields, answer=OK):
    """The script's run must end without an error."""
    o = rig.origin()
    g = scripted(rig, code)
    c = g.client()
    c.get("/", *fields)
    o.rx()
    o.tx(answer)
    assert c.rx() == (200, b"ok")
    assert g.stat("http.in.lua.errors") == 0, g.log()


def test_a_frozen_map_is_told_before_wrong_arguments(rig):
    one_request(rig, """
        local function wrong(what, f, ...) local ok, e = pcall(f, ...) assert(not ok and e:find(what, 1, true), e) end
        function envoy_on_request(h)
          local hd, d = h:headers(), h:streamInfo():dynamicMetadata()
          d:set("ns", "k", 1)
          for k in pairs(hd) do
            for _, m in ipairs({"add", "replace", "remove", "setHttp1ReasonPhrase"}) do wrong("header map cannot be modified while iterating", hd[m], hd) end
          end
          for k in pairs(d) do wrong("dynamic metadata map cannot be modified while iterating", d.set, d) end
          wrong("string expected, got no value", hd.add, hd)
        end
        function envoy_on_response(h)
          local hd = h:headers()
          for c in h:bodyChunks() do end
          for _, m in ipairs({"add", "replace", "remove", "setHttp1ReasonPhrase"}) do wrong("header map can no longer be modified", hd[m], hd) end
        end""")


def test_numbers_lose_their_fraction_before_they_are_checked(rig):
    one_request(rig, """
        function envoy_on_request(h)
          local s = h:stats()
          s:counter("c"):add(-0.5) s:gauge("g"):set(-0.9) s:histogram("h"):recordValue(-0.1)
          local c = s:counter("c")
          assert(c:value() == 0 and not pcall(c.add, c, -1))
          assert(#h:timestampString(" 1 ") == 16 and #h:timestampString("00") == 13 and not pcall(h.timestampString, h, "0x0"))
          assert(h:streamInfo():filterState():get("none", {}) == nil)
          h:setUpstreamOverrideHost("::1") h:setUpstreamOverrideHost("::ffff:1.2.3.4") assert(not pcall(h.setUpstreamOverrideHost, h, "[::1"))
          local ok, e = coroutine.resume(coroutine.running()) assert(e == "cannot resume running coroutine", e)
        end""")


def test_options_of_calls(rig):
    o = rig.origin()
    g = scripted(rig, """
        function envoy_on_request(h)
          local t = {[":method"] = "GET", [":path"] = "/call", [":authority"] = "a", ["x-l"] = {"a", nil, "c"}}
          local function wrong(what, o) local ok, e = pcall(function() h:httpCall("main", t, nil, o) end) assert(not ok and e:find(what, 1, true), e) end
          wrong("bad argument #7 to 'httpCall' (number expected, got string)", {timeout_ms = "x"})
          wrong("bad argument #6 to 'httpCall' (string expected, got boolean)", {[true] = 1})
          wrong('"1" is not valid key for httpCall() options', {1})
          wrong("http call timeout must be >= 0", {timeout_ms = -1})
          h:respond({[":status"] = h:httpCall("main", t, nil, {timeout_ms = "5000"})[":status"], ["x-l"] = {"p", nil, "q"}}, "x")
        end""")
    c = g.client()
    c.get("/")
    r = o.rx()
    assert r.target == "/call" and r.headers.all("x-l") == ["a", "c"]
    o.tx(OK)
    a = c.rx()
    assert a == (200, b"x") and a.headers.all("x-l") == ["p", "q"]
    assert g.stat("http.in.lua.errors") == 0, g.log()


def test_a_phrase_of_the_script_outlives_a_new_status(rig):
    o = rig.origin()
    g = scripted(rig, """
        function envoy_on_response(h)
          local hd = h:headers()
          if h:requestHeaders():get(":path") == "/mine" then hd:setHttp1ReasonPhrase("Mine") hd:replace(":status", "201") else hd:setHttp1ReasonPhrase("") end
        end""")
    c = g.client()
    for target, line in (("/mine", b"HTTP/1.1 201 Mine"), ("/empty", b"HTTP/1.1 200 OK")):
        c.get(target)
        o.rx()
        o.tx("HTTP/1.1 200 Fine\nContent-Length: 2\n\nok")
        a = c.rx()
        assert ("HTTP/1.1 %d %s" % (a.status, a.reason)).encode() == line


def test_fields_of_the_connection_are_not_the_script_s(rig):
    one_request(rig, """
        function envoy_on_request(h)
          local hd = h:headers()
          for _, n in ipairs({"connection", "keep-alive", "proxy-connection", "te"}) do assert(hd:getNumValues(n) == 0, n) end
          hd:add("keep-alive", "mine") assert(hd:get("keep-alive") == "mine")
        end
        function envoy_on_response(h) assert(h:headers():get("keep-alive") == nil and h:headers():get("connection") == "x-hop") end
        """, "Connection: keep-alive", "Keep-Alive: 5", "Proxy-Connection: keep-alive", "TE: gzip",
        answer="HTTP/1.1 200 OK\nConnection: x-hop\nKeep-Alive: 5\nContent-Length: 2\n\nok")


@pytest.mark.parametrize("target, rounds", [("/own", "3"), ("/direct", "4"), ("/empty", ""), ("/main", "2,0")])
def test_only_the_wire_ends_in_a_chunk_of_its_own(rig, target, rounds):
    o = rig.origin()
    g = scripted(rig, ROUNDS, routes=[
        route({"path": "/direct"}, direct_response={"status": 200, "body": {"inline_string": "text"}}),
        route({"path": "/empty"}, direct_response={"status": 200}), route("/", "main")])
    c = g.client()
    c.get(target)
    if target == "/main":
        o.rx()
        o.tx(OK)
    c.rx()
    g.wait_log(r"rounds \[%s\]" % rounds)


def test_a_body_that_another_filter_held_is_one_chunk(rig):
    o = rig.origin()
    g = scripted(rig, ROUNDS, "function envoy_on_response(h) h:body() end")
    c = g.client()
    c.get("/")
    o.rx()
    o.tx(OK)
    c.rx()
    g.wait_log(r"rounds \[2\]")


def test_the_end_that_comes_during_a_call_is_no_round(rig):
    o = rig.origin()
    g = scripted(rig, """
        function envoy_on_response(h)
          local t = {}
          for c in h:bodyChunks() do
            t[#t + 1] = c:length()
            h:httpCall("main", {[":method"] = "GET", [":path"] = "/call", [":authority"] = "a"}, nil, 5000)
          end
          h:logInfo("rounds [" .. table.concat(t, ",") .. "]")
        end""")
    c = g.client()
    c.get("/")
    o.rx("GET /")
    o.tx(OK)
    o.answer("GET /call")
    assert c.rx() == (200, b"ok")
    g.wait_log(r"rounds \[2\]")


def test_trailers_without_a_byte_before_them_are_no_body(rig):
    o = rig.origin()
    g = scripted(rig, """
        function envoy_on_request(h)
          h:logInfo("body " .. tostring(h:body(true)) .. " trailer " .. h:trailers():get("x-t"))
          h:headers():add("x-late", "1")
        end""", hcm_over={"http_protocol_options": {"enable_trailers": True}})
    c = g.client()
    c.tx("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n0\r\nx-t: v\r\n\r\n")
    assert o.rx().headers.get("x-late") == "1"
    o.tx(OK)
    c.rx()
    g.wait_log("body nil trailer v")


def test_an_empty_chunked_answer_stays_chunked(rig):
    o = rig.origin()
    c = scripted(rig, ROUNDS).client()
    c.get("/")
    o.rx()
    o.tx("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\r\n\r\n")
    a = c.rx()
    assert a == (200, b"") and a.framing == "chunked"


def test_the_head_of_a_chunked_answer_says_so(rig):
    o = rig.origin()
    c = rig.gateway().client()
    for line, chunked in (("200 OK", True), ("204 None", False), ("304 Same", False)):
        c.tx("HEAD / HTTP/1.1\nHost: a\n\n")
        o.rx()
        o.tx("HTTP/1.1 %s\n%s\n" % (line, "Transfer-Encoding: chunked\n" if chunked else ""))
        a = c.rx_head()
        assert ("transfer-encoding" in a.headers) == chunked and "content-length" not in a.headers


def test_own_answers_without_a_body_have_no_length_for_scripts(rig):
    g = scripted(rig, "function envoy_on_response(h) h:logInfo('length ' .. tostring(h:headers():get('content-length'))) end", routes=[route({"path": "/x"}, direct_response={"status": 200})])
    a = g.get("/nowhere")
    assert a.status == 404 and a.headers.get("content-length") == "0"
    g.wait_log("length nil")


def test_what_a_script_writes_to_the_body_of_a_head_is_there_for_it_and_not_sent(rig):
    o = rig.origin()
    g = scripted(rig, """
        function envoy_on_response(h)
          local b = h:body(true)
          assert(b:setBytes("four") == 4 and b:length() == 4 and b:getBytes(1, 2) == "ou" and h:headers():get("content-length") == "4")
        end""")
    c = g.client()
    for _ in range(2):  # the second shows that no byte followed the first head
        c.tx("HEAD / HTTP/1.1\nHost: a\n\n")
        o.rx()
        o.tx("HTTP/1.1 200 OK\nContent-Length: 9\n\n")
        a = c.rx_head()
        assert a.status == 200 and a.headers.get("content-length") == "4"
    assert g.stat("http.in.lua.errors") == 0, g.log()


def test_a_long_error_is_logged_whole(rig):
    g = scripted(rig, "function envoy_on_request(h) error(('e'):rep(3000), 0) end", routes=[route("/", direct_response={"status": 200})])
    g.get("/")
    g.wait_log("script log: e{3000}$")

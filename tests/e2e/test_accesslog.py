"""Access logs: one line per exchange with Envoy's operators, as text and as JSON."""
import json
import re

from rig import access_log, cluster, route, until


def lines(path, count):
    until(lambda: path.exists() and path.read_text().count("\n") >= count, "%d lines in %s" % (count, path.name))
    return path.read_text().splitlines()


def test_envoys_default_line(rig):
    o = rig.origin()
    log = rig.tmp / "access.log"
    c = rig.gateway(hcm_over={"access_log": access_log(log)}).client()
    c.get("/a?b=c", "User-Agent: test/1", "X-Forwarded-For: 1.2.3.4")
    o.answer("", "200 OK", "hello")
    assert c.rx().status == 200
    line = lines(log, 1)[0]
    assert re.fullmatch(
        r'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET /a\?b=c HTTP/1\.1" 200 - 0 5 \d+ \d+ "1\.2\.3\.4" "test/1" '
        r'"[0-9a-f-]{36}" "example\.com" "127\.0\.0\.1:%d"' % o.port, line), line


def test_a_text_format(rig):
    o = rig.origin()
    log = rig.tmp / "access.log"
    form = ("%REQ(:METHOD)% %REQ(X-A?X-B)% %REQ(X-NONE)% %REQ(X-LONG):3% %RESP(X-OUT)% %RESPONSE_CODE% %PROTOCOL% "
            "%BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %ROUTE_NAME% %RESPONSE_FLAGS% "
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %RESPONSE_CODE_DETAILS% %START_TIME(%Y)% 100%%\n")
    g = rig.gateway([route("/", "main", name="the-route")], hcm_over={"access_log": access_log(log, text=form)})
    c = g.client()
    c.tx("POST / HTTP/1.1\nHost: a\nX-B: b\nX-Long: abcdef\nContent-Length: 4\n\nbody")
    o.answer("", "201 Created", "hello", "X-Out: out")
    assert c.rx().status == 201
    line = lines(log, 1)[0]
    assert re.fullmatch(r"POST b - abc out 201 HTTP/1\.1 4 5 main 127\.0\.0\.1:%d the-route - 127\.0\.0\.1 via_upstream "
                        r"20\d\d 100%%" % o.port, line), line


def test_a_json_format(rig):
    o = rig.origin()
    log = rig.tmp / "access.log"
    c = rig.gateway(hcm_over={"access_log": access_log(log, json_format={
        "status": "%RESPONSE_CODE%", "path": "%REQ(:PATH)%", "ms": "%DURATION%", "both": "%PROTOCOL%/%RESPONSE_CODE%",
        "none": "%REQ(X-NONE)%", "nested": {"agent": "%REQ(USER-AGENT)%"}})}).client()
    c.get("/\"quoted\"", "User-Agent: a\"b\\c")
    o.answer()
    assert c.rx().status == 200
    row = json.loads(lines(log, 1)[0])
    assert row["status"] == 200
    assert row["path"] == '/"quoted"'
    assert row["both"] == "HTTP/1.1/200"
    assert row["none"] is None
    assert isinstance(row["ms"], int)
    assert row["nested"] == {"agent": 'a"b\\c'}


def test_flags_tell_what_went_wrong(rig):
    o = rig.origin()
    log = rig.tmp / "access.log"
    dead = rig.free_port()
    g = rig.gateway([route("/dead", "dead"), route("/slow", {"cluster": "main", "timeout": "0.1s"}),
                     route("/here", "main")], clusters=[cluster("main", o.port), cluster("dead", dead)],
                    hcm_over={"access_log": access_log(log, text="%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS%\n")})
    assert g.get("/dead").status == 503
    assert g.get("/slow").status == 504
    assert g.get("/nowhere").status == 404
    c = g.client()
    c.get("/here")
    o.rx("GET /slow")
    o.rx("GET /here")
    c.abort()
    rows = sorted(lines(log, 4))
    assert rows[0] == "/dead 503 UF"
    assert rows[1].startswith("/here ") and rows[1].endswith(" DC")
    assert rows[2] == "/nowhere 404 NR"
    assert rows[3] == "/slow 504 UT"


def test_a_refused_request_has_a_line_too(rig):
    rig.origin()
    log = rig.tmp / "access.log"
    g = rig.gateway(hcm_over={"access_log": access_log(log, text="%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\n")})
    c = g.client()
    c.tx(b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n")
    c.rx()
    assert lines(log, 1) == ["400 http1.field_name"]


def test_a_line_cannot_be_forged(rig):
    o = rig.origin()
    log = rig.tmp / "access.log"
    c = rig.gateway(hcm_over={"access_log": access_log(log)}).client()
    c.tx(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\" \"\xc3\xa4\x7f\r\n\r\n".replace(b"\x7f", b""))
    o.answer()
    assert c.rx().status == 200
    row = lines(log, 1)
    assert len(row) == 1
    assert all(" " <= ch <= "~" for ch in row[0]), row


def test_standard_output_is_a_log_too(rig):
    o = rig.origin()
    g = rig.gateway(hcm_over={"access_log": [{"name": "envoy.access_loggers.stdout", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        "log_format": {"text_format_source": {"inline_string": "line %REQ(:PATH)%\n"}}}}]})
    c = g.client()
    c.get("/seen")
    o.answer()
    assert c.rx().status == 200
    g.wait_log("^line /seen$")


def test_a_filter_chooses_what_is_logged(rig):
    o = rig.origin()
    log = rig.tmp / "access.log"
    entry = access_log(log, text="%REQ(:PATH)%\n")
    entry[0]["filter"] = {"status_code_filter": {"comparison": {
        "op": "GE", "value": {"default_value": 400, "runtime_key": "k"}}}}
    c = rig.gateway(hcm_over={"access_log": entry}).client()
    for path, status in (("/ok", "200 OK"), ("/bad", "404 Not Found")):
        c.get(path)
        o.answer("GET " + path, status)
        c.rx()
    assert lines(log, 1) == ["/bad"]


def test_an_http_2_exchange_says_so(rig):
    o = rig.origin()
    log = rig.tmp / "access.log"
    h = rig.gateway(hcm_over={"access_log": access_log(log, text="%PROTOCOL% %RESPONSE_CODE%\n")}).h2()
    sid = h.request()
    o.answer()
    assert h.rx(sid).status == 200
    assert lines(log, 1) == ["HTTP/2 200"]


def test_sigusr1_opens_the_file_anew(rig):
    import os
    import signal
    o = rig.origin()
    log = rig.tmp / "access.log"
    g = rig.gateway(hcm_over={"access_log": access_log(log, text="%REQ(:PATH)%\n")})
    c = g.client()
    c.get("/one")
    o.answer()
    c.rx()
    lines(log, 1)
    os.rename(log, str(log) + ".1")
    g.signal(signal.SIGUSR1)
    until(log.exists, "the file exists again")
    c.get("/two")
    o.answer()
    c.rx()
    assert lines(log, 1) == ["/two"]

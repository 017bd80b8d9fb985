"""postern test: cases of a script, with scripted origins."""
import os
import re
import subprocess
import xml.etree.ElementTree as ET

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(binary, tmp_path, lua, cases, *args):
    script, file = tmp_path / "s.lua", tmp_path / "c.yaml"
    script.write_text(lua)
    file.write_text(cases)
    return subprocess.run([binary, "test", str(script), str(file), *args], capture_output=True, text=True, timeout=60)


def test_the_articles_cases_pass(binary):
    r = subprocess.run([binary, "test", "examples/article/article.lua", "examples/article/cases.yaml"], cwd=ROOT,
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
    assert r.stdout.startswith("TAP version 13\n1..6\nok 1 - ")


LUA = """
function envoy_on_request(h)
  h:logInfo("asked for " .. h:headers():get(":path"))
  local headers, body = h:httpCall("aux", {[":method"] = "PUT", [":path"] = "/aux", [":authority"] = "aux"}, "sent", 1000)
  h:headers():add("x-aux", headers[":status"] .. (body or ""))
end
function envoy_on_response(h)
  for chunk in h:bodyChunks() do end
  h:headers():get("x")
end
"""


def test_a_failing_case_says_what_differs_where(binary, tmp_path):
    r = run(binary, tmp_path, LUA, """
cases:
- name: all wrong
  origins:
    one: {status: 201, headers: {x: [a, b]}, body: "first\\nsecond\\nthird"}
    aux: {body: aux}
  request: {request: POST /p, body: hello}
  expect:
    status: 200
    headers: {x: [a, c], y: there}
    body: "first\\n2nd\\nthird"
    origins:
      one: [{request: GET /p, headers: {x-aux: 200}, body: hello}]
      aux: []
    log: ["info: asked for /q"]
""")
    assert r.returncode == 1
    out = r.stdout
    assert "not ok 1 - all wrong" in out and "0 passed, 1 failed" in out
    for wanted in [r":9: status is not .*\n#   - 200\n#   \+ 201", r":10: header x is not .*\n#     a\n#   - c\n#   \+ b",
                   r":10: header y is missing: there", r":11: answer's body .*\n#     first\n#   - 2nd\n#   \+ second\n",
                   r":13: one: request 1: method is not .*\n#   - GET\n#   \+ POST", r"header x-aux is not .*\n#   - 200\n#   \+ 200aux",
                   r":14: aux should be asked 0 times, not 1\n#   \+ PUT /aux",
                   r":15: the script's log .*\n#   - info: asked for /q\n#   \+ info: asked for /p"]:
        assert re.search(wanted, out), (wanted, out)


def test_every_kind_of_answer(binary, tmp_path):
    r = run(binary, tmp_path, LUA, """
defaults:
  primary: one
  origins: {aux: {status: 204}}
cases:
- name: in turn, chunked, with steps
  origins:
    one:
    - {match: {path: /b}, body: for b}
    - {chunks: [a, bc], delay_ms: 5, body_delay_ms: 5}
    - {status: 503, body: later}
  steps:
  - {request: GET /a, expect: {status: 200, body: abc, headers: {transfer-encoding: chunked}}}
  - {request: GET /b, expect: {body: for b}}
  - {request: GET /a, expect: {status: 503}}
  - {request: GET /a, expect: {status: 503}}
  expect: {origins: {one: [GET /a, GET /b, GET /a, GET /a]}, log_contains: [asked for /a, "info: asked for /b"]}
- name: an origin refuses
  origins: {one: refuse}
  expect: {status: 503, body_contains: [upstream, connect]}
- name: an origin closes before the head
  origins: {one: {fail: close}}
  expect: {status: 503, origins: {one: [GET /]}}
- name: an origin breaks off
  origins: {one: {body: 123456, fail: cut}}
  expect: {no_answer: true}
- name: a helper hangs
  origins: {one: {body: fine}, aux: {fail: hang}}
  expect: {status: 200, origins: {one: [{headers: {x-aux: 504upstream request timeout}}]}}
- name: settings
  origins: {one: {body: x}}
  routes: [{match: {prefix: /}, direct_response: {status: 418, body: {inline_string: tea}}}]
  request: {method: GET, path: /x, host: a.b, headers: [[x-a, 1], [x-a, 2]]}
  expect: {status: 418, body: tea, origins: {one: []}}
""")
    assert r.returncode == 0, r.stdout + r.stderr


def test_errors_of_the_script_fail_a_case_that_does_not_expect_them(binary, tmp_path):
    lua = "function envoy_on_request(h)\n  error('boom')\nend\n"
    cases = "cases:\n- name: x\n  expect: {status: 200%s}\n"
    r = run(binary, tmp_path, lua, cases % "")
    assert r.returncode == 1 and re.search(r"the script reports an error: .*:2: boom", r.stdout)
    assert run(binary, tmp_path, lua, cases % ", log_contains: ['error: boom']").returncode == 0
    r = run(binary, tmp_path, "function x(", cases % "")
    assert r.returncode == 1 and "does not start" in r.stdout and "script load error" in r.stdout


def test_mistakes_in_the_file_are_named_with_their_line(binary, tmp_path):
    r = run(binary, tmp_path, "", "cases:\n- name: x\n  orgins: {}\n  expect: {staus: 200}\n")
    assert r.returncode == 2
    assert "c.yaml:3:" in r.stderr and 'did you mean "origins"' in r.stderr and 'did you mean "status"' in r.stderr
    r = run(binary, tmp_path, "", "cases:\n- name: x\n  origins: {a: {fail: explode}}\n")
    assert r.returncode == 2 and "close, cut or hang" in r.stderr
    assert run(binary, tmp_path, "", "cases: []\n").returncode == 2
    assert subprocess.run([binary, "test"], capture_output=True).returncode == 2


def test_junit_and_only(binary, tmp_path):
    xml = tmp_path / "r.xml"
    r = run(binary, tmp_path, "", "cases:\n- {name: one <&>}\n- {name: two, expect: {status: 404, body: \"\\x01\"}}\n", "--junit", str(xml))
    assert r.returncode == 1
    suite = ET.parse(xml).getroot()[0]
    assert suite.get("tests") == "2" and suite.get("failures") == "1"
    assert [c.get("name") for c in suite] == ["one <&>", "two"]
    assert "status is not" in suite[1][0].get("message")
    r = run(binary, tmp_path, "", "cases:\n- {name: one}\n- {name: two, expect: {status: 404}}\n", "--only", "one")
    assert r.returncode == 0 and "1..1" in r.stdout


def test_nothing_is_left_behind(binary, tmp_path, monkeypatch):
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", "/tmp/" + os.path.basename(str(tmp_path))[:10])
    short = os.environ["TMPDIR"]
    os.makedirs(short, exist_ok=True)
    try:
        assert run(binary, tmp_path, "", "cases:\n- {name: x, origins: {a: {body: b}}}\n").returncode == 0
        assert os.listdir(short) == []
    finally:
        os.rmdir(short)

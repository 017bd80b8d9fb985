"""postern check reads the scripts, too."""
import os
import re
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_the_articles_script_is_told_what_it_loses(binary):
    r = subprocess.run([binary, "check", "-c", "examples/article/envoy.yaml"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    for wanted in [r"article\.lua:6:9: warning: the table keeps one value of each name",
                   r"article\.lua:28:\d+: warning: httpCall repeats the client's request without its body",
                   r"article\.lua:28:\d+: warning: an httpCall that fails gives 503 or 504",
                   r'article\.lua:28:\d+: notice: this is a fallback; .*fallbacks: \[\{cluster: "outbound\|443\|\|example\.com", header_timeout: 5']:
        assert re.search(wanted, r.stderr), (wanted, r.stderr)


def test_a_script_inside_the_yaml_has_the_yamls_lines(binary, tmp_path):
    text = (open(os.path.join(ROOT, "examples/article/envoy.yaml")).read()
            .replace("default_source_code: {filename: examples/article/article.lua}",
                     "default_source_code:\n                inline_string: |\n"
                     "                  function envoy_on_request(h)\n"
                     "                    h:httpCall('primry', {}, 'x', 5)\n"
                     "                  end"))
    file = tmp_path / "e.yaml"
    file.write_text(text)
    line = text.split("\n").index("                    h:httpCall('primry', {}, 'x', 5)") + 1
    r = subprocess.run([binary, "check", "-c", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    assert re.search(r'e\.yaml:%d:1: warning: httpCall names the cluster "primry", .*did you mean "primary"\?' % line, r.stderr), r.stderr


def test_the_printed_policy_is_one(binary, tmp_path):
    r = subprocess.run([binary, "check", "-c", "examples/article/envoy.yaml"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    policy = re.search(r"instead of this filter: (\{.*\})$", r.stderr, re.M).group(1)
    text = open(os.path.join(ROOT, "examples/article/envoy.yaml")).read()
    lua = re.search(r"          - name: envoy\.filters\.http\.lua\n(?:            .*\n)+", text).group(0)
    file = tmp_path / "policy.yaml"
    file.write_text(text.replace(lua, "          - %s\n" % policy))
    r = subprocess.run([binary, "check", "-c", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr

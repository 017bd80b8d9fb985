"""The page of fields is what the tables say, and a field called used is read by somebody."""
import glob
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "schema-docs")

# Used by being there: what they hold is harmless, or their value is only a label.
LABELS = {("Bootstrap", "cluster_manager"), ("Cluster", "round_robin_lb_config"),
          ("ClusterLoadAssignment", "cluster_name"), ("FilterConfig", "is_optional"), ("HttpFilter", "is_optional"),
          ("Locality", "region"), ("Locality", "zone"), ("Locality", "sub_zone")}


def tool():
    loader = importlib.machinery.SourceFileLoader("schema_docs", TOOL)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("schema_docs", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


def readers():
    """Every snake_case string literal in the code that compiles configurations."""
    words = set()
    for path in (glob.glob(os.path.join(ROOT, "src", "config", "*.c"))
                 + glob.glob(os.path.join(ROOT, "src", "filters", "**", "*.c"), recursive=True)):
        name = os.path.basename(path)
        if name.startswith("schema") or name.endswith("_test.c"):
            continue
        with open(path, encoding="utf-8") as f:
            words.update(re.findall(r'"([a-z0-9_]+)"', f.read()))
    return words


def used_and_unread(words):
    sd = tool()
    for area, _ in sd.AREAS:
        messages, _ = sd.parse(os.path.join(ROOT, "src", "config", "schema_%s.c" % area))
        for _, full, rows in messages:
            for r in rows:
                field = (sd.short(full), r["name"])
                if r["status"] == "used" and r["name"] not in words and field not in LABELS:
                    yield field


def test_the_page_is_up_to_date():
    done = subprocess.run([sys.executable, TOOL, "--check"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stdout


def test_every_used_field_is_read():
    assert list(used_and_unread(readers())) == []


def test_a_field_that_nobody_reads_is_found():
    words = readers() - {"connect_timeout"}
    assert list(used_and_unread(words)) == [("Cluster", "connect_timeout")]


def test_rows_are_understood(tmp_path):
    sd = tool()
    table = tmp_path / "schema_x.c"
    table.write_text('static const char *const e_kind[] = {"A", "", "B", NULL};\n'
                     'static const struct schema_field x_fields[] = {\n'
                     '\tF(1, a, LIST, MSG(y), OLD),\n'
                     '\tF(2, b, ENUM(e_kind), ONEOF(2), REFUSED("no (not "\n\t\t"yet)")),\n'
                     '\tEND};\nMESSAGE(x, "p.v3.X");\n\nEMPTY(y, "p.v3.Y");\n')
    messages, enums = sd.parse(str(table))
    assert enums == {"e_kind": ["A", "B"]}
    assert [(m[0], m[1], len(m[2])) for m in messages] == [("x", "p.v3.X", 2), ("y", "p.v3.Y", 0)]
    a, b = messages[0][2]
    assert a["list"] and a["old"] and a["type"] == ("MSG", "y") and a["status"] == "used"
    assert b["status"] == "refused" and b["why"] == "no (not yet)" and b["oneof"] == "2"

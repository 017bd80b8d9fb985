"""tools/arrows must be green on the tree and see every mistake planted in a small copy of its shape."""
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, "tools", "arrows")

BLOCK = """# Rooms

```arrows
base    :
net     : base
http    : base
filters : base http
```
"""

GOOD = {
    "docs/architecture.md": BLOCK,
    "src/main.c": '#include "filters/filters.h"\n#include "net/conn.h"\n',
    "src/base/str.h": "#pragma once\n#include <stddef.h>\n",
    "src/net/conn.h": '#pragma once\n#include "base/str.h"\n',
    "src/net/net_int.h": "#pragma once\n",
    "src/net/conn.c": '#include "net/conn.h"\n#include "net/net_int.h"\n',
    "src/net/dns.c": "#include <ares.h>\n",
    "src/net/dns_test.c": "#include <ares.h>\n",
    "src/net/tls_openssl.c": "#include <openssl/ssl.h>\n",
    "src/http/head.h": '#pragma once\n#include "base/str.h"\n',
    "src/filters/filters.h": '#pragma once\n#include "http/head.h"\n',
    "src/filters/lua/lua.h": "#pragma once\n",
    "src/filters/lua/vm.c": '#include <lua.h>\n#include "filters/lua/lua.h"\n',
    "src/filters/lua/crypto.c": "#include <openssl/evp.h>\n#include <openssl/pem.h>\n",
    "src/filters/router/router.h": "#pragma once\n",
}


def body(lines):
    return "{\n" + "\tx();\n" * (lines - 2) + "}\n"


BAD = [
    ("a room sees one that is not on its line",
     {"src/net/conn.c": '#include "http/head.h"\n'},
     'src/net/conn.c:1: "http/head.h": net may not see http'),
    ("the lowest room sees another",
     {"src/base/str.c": '#include "base/str.h"\n#include "net/conn.h"\n'},
     'src/base/str.c:2: "net/conn.h": base may not see net'),
    ("a test is no excuse",
     {"src/http/head_test.c": '#include "net/conn.h"\n'},
     'src/http/head_test.c:1: "net/conn.h": http may not see net'),
    ("blanks in the directive",
     {"src/base/str.c": '  #  include   "net/conn.h"\n'}, "base may not see net"),
    ("a private header outside its room",
     {"src/main.c": '#include "net/net_int.h"\n'}, '"net/net_int.h" is private to net'),
    ("a filter cell sees another",
     {"src/filters/lua/vm.c": '#include "filters/router/router.h"\n'},
     "a filter cell includes no other cell"),
    ("an include without its room",
     {"src/net/conn.c": '#include "conn.h"\n'}, 'write "room/conn.h"'),
    ("an include of a file that is not there",
     {"src/net/conn.c": '#include "net/gone.h"\n'}, '"net/gone.h" does not exist'),
    ("a folder that is no room",
     {"src/attic/a.c": "\n"}, "src/attic: not in the arrows block"),
    ("a library outside its place",
     {"src/net/conn.c": "#include <ares.h>\n"}, "<ares.h> is seen by net/dns.c only"),
    ("Lua outside its cell",
     {"src/filters/router/router.c": "#include <luajit-2.1/lua.h>\n"}, "filters/lua/ only"),
    ("TLS in the script's crypto",
     {"src/filters/lua/crypto.c": "#include <openssl/ssl.h>\n"}, "<openssl/ssl.h> is seen by"),
    ("libcrypto elsewhere",
     {"src/http/h1.c": "#include <openssl/evp.h>\n"}, "<openssl/evp.h> is seen by"),
    ("epoll outside the loop",
     {"src/net/conn.c": "#include <sys/epoll.h>\n"}, "loop/ only"),
    ("a file too long",
     {"src/base/long.c": "int x;\n" * 1501}, "src/base/long.c: 1501 lines"),
    ("a function too long",
     {"src/base/f.c": "int f(void)\n" + body(71)}, "f has 72 lines"),
    ("a function too long, its head on two lines",
     {"src/base/f.c": "static int g(int a,\n\t     int b)\n" + body(70)}, "g has 72 lines"),
    ("braces in strings and comments do not end a function",
     {"src/base/f.c": 'int f(void)\n{\n\tputs("\\\n}");\n/*\n}\n*/\n' + "\tx();\n" * 70 + "}\n"},
     "f has"),
    ("a cycle",
     {"docs/architecture.md": BLOCK.replace("base    :", "base    : http")},
     "base uses http, which is not above it"),
    ("no block", {"docs/architecture.md": "# nothing\n"}, "no ```arrows block"),
    ("a fuzz target that nobody runs",
     {"fuzz/meson.build": "fuzz_targets = []\n", "fuzz/fuzz_a.c": "\n", "fuzz/corpus/a/1": "x"},
     "fuzz/fuzz_a.c: not listed"),
    ("a fuzz target without seeds",
     {"fuzz/meson.build": "fuzz_targets = ['a']\n", "fuzz/fuzz_a.c": "\n"}, "no seeds"),
]

GOOD_MORE = [
    ("a long function that says why",
     {"src/base/f.c": "/* long: one table. */\nint f(void)\n" + body(200)}),
    ("a long function that says why inside",
     {"src/base/f.c": "int f(void)\n{\n\t/* long: a state machine */\n" + "\tx();\n" * 90 + "}\n"}),
    ("a function of exactly 70 lines", {"src/base/f.c": "int f(void)\n" + body(69)}),
    ("a long table is no function",
     {"src/base/t.c": "static const int t[] = {\n" + "\t1,\n" * 300 + "};\n"}),
    ("a file of exactly 1,500 lines", {"src/base/long.c": "int x;\n" * 1500}),
]


def plant(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(folder):
    p = subprocess.run([sys.executable, TOOL, str(folder)], capture_output=True, text=True)
    assert not p.stderr, p.stderr
    return p.returncode, p.stdout


def test_a_good_tree_is_green(tmp_path):
    plant(tmp_path, GOOD)
    assert run(tmp_path) == (0, "")


@pytest.mark.parametrize("name,files,text", BAD, ids=[b[0].replace(" ", "-") for b in BAD])
def test_a_planted_mistake_is_found(tmp_path, name, files, text):
    plant(tmp_path, GOOD)
    plant(tmp_path, files)
    code, out = run(tmp_path)
    assert code == 1
    assert text in out
    assert len(out.splitlines()) == 1 or "no ```arrows" in out, "one mistake, one line:\n" + out


@pytest.mark.parametrize("name,files", GOOD_MORE, ids=[g[0].replace(" ", "-") for g in GOOD_MORE])
def test_what_is_allowed_is_not_reported(tmp_path, name, files):
    plant(tmp_path, GOOD)
    plant(tmp_path, files)
    assert run(tmp_path) == (0, "")


def test_this_tree_is_green():
    code, out = run(ROOT)
    assert code == 0, out

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import certs as certs_mod  # noqa: E402
import rig as rig_mod  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--postern", default=os.environ.get("POSTERN_BIN"),
                     help="the binary under test (default: $POSTERN_BIN, else build/postern)")


def pytest_configure(config):
    config.addinivalue_line("markers", "tsan: reload and worker tests, also run under ThreadSanitizer")
    config.addinivalue_line("markers", "release: only for the program as it is shipped, without sanitizers")


@pytest.fixture(scope="session")
def binary(request):
    path = request.config.getoption("--postern") or os.path.join(rig_mod.ROOT, "build", "postern")
    path = os.path.abspath(path)
    assert os.access(path, os.X_OK), "no binary at %s" % path
    return path


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    return certs_mod.Certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def rig(request, binary, certs, tmp_path):
    r = rig_mod.Rig(binary, tmp_path, certs)
    request.node.rig = r
    yield r
    r.finish()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    r = getattr(item, "rig", None)
    if report.failed and r is not None:
        for title, text in r.report():
            report.sections.append((title, text))

"""What a request may not cost: memory from the allocator, in steady state."""

import pytest

# as shipped: the build for testing takes each piece of an arena from the allocator, so that overruns show
pytestmark = pytest.mark.release

WARM, COUNTED = 50, 400


def test_a_proxied_request_allocates_nothing_in_steady_state(rig):
    o = rig.origin()
    g = rig.gateway()
    c = g.client()

    def ask(n):
        for _ in range(n):
            c.get("/page?x=1", "Cookie: a=1; b=2", "Accept: text/html")
            o.answer("GET /page", "200 OK", "x" * 1024, "Content-Type: text/html")
            assert c.rx().status == 200

    ask(WARM)
    g.stat("postern.allocations")  # the admin listener's own connection is warm too
    before = g.stat("postern.allocations")
    unmeasured = g.stat("postern.allocations") - before  # what asking costs
    before = g.stat("postern.allocations")
    ask(COUNTED)
    spent = g.stat("postern.allocations") - before - unmeasured
    assert spent < COUNTED / 20, f"{spent} allocations for {COUNTED} requests"

"""A few seconds of the soak (soak.py runs it for as long as one likes)."""
import pytest

import soak


@pytest.mark.tsan
def test_mixed_load_survives_reloads(rig):
    rig.transcript = soak.Quiet()
    done, reloads = soak.Soak(rig, 6).run(every=0.3)
    assert reloads >= 4
    assert {"http", "https", "h2", "post", "echo"} <= set(done), done

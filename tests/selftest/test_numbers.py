"""The scorecard's numerical tests in their smallest form: what most laws of processes, samplers and objectives are."""

import pytest

from scorefield import selftest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["R01", "R02", "R03", "R04", "R05", "R06", "R07", "R08", "R20"])
def test_the_smoke_form_passes(name):
    found = selftest.run_one(name, selftest.Plan("smoke"))
    assert found.passed, found.line()

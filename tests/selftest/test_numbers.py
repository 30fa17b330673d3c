"""The scorecard's numerical tests in their smallest form: what most laws of processes, samplers and objectives are."""

import pytest

from scorefield import selftest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["R01", "R06", "R07", "R20"])
def test_the_smoke_form_passes(name):
    """Of those that take little longer in the quick form, which `make test` runs, that form alone is run."""
    found = selftest.run_one(name, selftest.Plan("smoke"))
    assert found.passed, found.line()

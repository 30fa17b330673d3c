"""What tests of tables ask for by name."""

import pytest

from scorefield.data import sources


@pytest.fixture
def small_groups(monkeypatch):
    """Rows are read in groups of 512, so that a small table has several."""
    monkeypatch.setattr(sources, "GROUP", 512)

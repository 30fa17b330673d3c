"""What tests of commands ask for by name; nothing may change the run that they share."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import TINY, scorefield


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "people.csv"
    draw = np.random.Generator(np.random.PCG64(0))
    frame = pd.DataFrame(
        {"height": draw.normal(170, 9, 1000), "age": draw.integers(18, 80, 1000), "smoker": draw.random(1000) < 0.3}
    )
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def few_rows(table, tmp_path) -> Path:
    """The first nine rows: they have one network and no choice of a base, so that a fit takes no time."""
    path = tmp_path / "few.csv"
    path.write_text("".join(table.read_text().splitlines(keepends=True)[:10]))
    return path


@pytest.fixture(scope="session")
def fitted(table, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    scorefield("fit", table, "--out", out, *TINY)
    return out

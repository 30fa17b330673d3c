"""What tests of images ask for by name."""

from collections.abc import Iterator

import pytest

from scorefield.kinds.images import settings


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """A narrower network than the default learns twelve pictures as well, in a fifth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "WIDTH", 24)
        yield

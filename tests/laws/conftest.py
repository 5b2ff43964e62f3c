"""Two ranks, started once for all laws that need them."""

from collections.abc import Iterator

import pytest
from together import Ranks


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.stop()

"""Every test computes in float64 and draws into memory; property tests see the same examples every time."""

import sys
from collections.abc import Iterator

import jax
import matplotlib as mpl
import pytest
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
mpl.use("Agg")

# The first example of a property compiles, and a compilation has no deadline. The same examples come every time, so
# that a failure is a change in the code; `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("search", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Leave no figure open, so that no test sees another's."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")

"""Every test computes in float64 and draws into memory; property tests see the same examples every time."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

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


# Every compiled program maps pieces of memory, of which Linux gives a process 65 530. Beyond them XLA ends the process.
MAPS, MOST_MAPS = Path("/proc/self/maps"), 20_000


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs() -> Iterator[None]:
    """Let go of what was compiled for earlier files before there is too much of it."""
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Leave no figure open, so that no test sees another's."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")

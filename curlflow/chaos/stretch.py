"""The stretch of a run in which tangent vectors grew before they ceased to: transient chaos, or only a departure."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from curlflow.chaos.engine.runner import states_along
from curlflow.chaos.indicators import CHAOTIC_ABOVE, FEWEST_DECORRELATED, soonest_forgotten, zero_one
from curlflow.chaos.kinds import Evidence, Motion
from curlflow.chaos.recorded import decorrelation
from curlflow.chaos.recurrence import Coordinates
from curlflow.chaos.result import LyapunovSpectrum
from curlflow.chaos.statistics import resolution, standard_error

# A stretch of chaos lasts so many Lyapunov times at least.
FEWEST_LYAPUNOV_TIMES = 10.0
# An orbit of fewer decorrelation times than this did not oscillate.
FEWEST_OSCILLATIONS = 20
MOST_STATES = 4096


class Stretch(NamedTuple):
    """How tangent vectors grew until they ceased to, and how aperiodic the orbit was so long."""

    lyapunov_times: float
    is_positive: bool  # in both of its halves
    zero_one: Evidence
    decorrelations: int
    end: float

    @property
    def is_long(self) -> bool:
        """Whether it lasted long enough to be one of chaos."""
        return self.is_positive and self.lyapunov_times >= FEWEST_LYAPUNOV_TIMES

    @property
    def was_chaotic(self) -> bool:
        """Whether the same indicators speak for chaos as of lasting chaos."""
        return self.is_long and self.zero_one.value >= CHAOTIC_ABOVE

    @property
    def may_have_been_chaotic(self) -> bool:
        """Whether the orbit oscillated too few times to tell."""
        return self.is_long and FEWEST_OSCILLATIONS < self.decorrelations < FEWEST_DECORRELATED


def stretch_of_growth(spectrum: LyapunovSpectrum, count: int, periods: np.ndarray) -> Stretch:
    """What the first `count` intervals of a run were, in which tangent vectors grew. `periods` are those of angles."""
    local = spectrum.local[:count, :1]
    halves = np.array_split(local, 2)
    errors = [resolution(standard_error(half), len(half), spectrum.dt, 0.0) for half in halves]
    series = _series(spectrum, count, periods)
    return Stretch(
        lyapunov_times=float(local.sum() * spectrum.dt),
        is_positive=all(half.mean() > error[0] for half, error in zip(halves, errors, strict=True)),
        zero_one=zero_one(series),
        decorrelations=len(series) // decorrelation(series),
        end=float(spectrum.times[count - 1]),
    )


def _series(spectrum: LyapunovSpectrum, count: int, periods: np.ndarray) -> Float[np.ndarray, " times"]:
    """One coordinate along the stretch, which the run passes once more."""
    states = states_along(spectrum.run, count, max(-(-count // MOST_STATES), 1))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return soonest_forgotten(Coordinates.of(stacked, periods)(stacked))


def judged(stretch: Stretch, settled: Motion) -> tuple[Motion, Evidence]:
    """The motion of an orbit that has settled after such a stretch: what it has settled to, unless it was chaotic before."""
    told = (
        f"Tangent vectors grew for {stretch.lyapunov_times:.3g} Lyapunov times, until t = {stretch.end:.6g}"
    )
    name, K = "chaotic stretch", stretch.zero_one.value
    if stretch.was_chaotic:
        sentence = f"{told}, on an orbit that was chaotic so long (0–1 test: K = {K:.2f}), and then no more."
        return Motion.TRANSIENT_CHAOS, Evidence(name, K, CHAOTIC_ABOVE, sentence)
    if stretch.may_have_been_chaotic:
        few = f"{stretch.decorrelations} decorrelation times"
        sentence = f"{told}, on an orbit too short to say whether it was chaotic ({few}), and then no more."
        return Motion.UNDECIDED, Evidence(name, K, CHAOTIC_ABOVE, sentence)
    sentence = f"{told}, as they do where an orbit leaves an unstable solution, and then no more."
    return settled, Evidence(name, K, CHAOTIC_ABOVE, sentence)

"""How indicators are weighed: what an orbit has settled to, from most certain to least."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from curlflow._trees import flatten_states, size
from curlflow.chaos.exclusions import Exclusions, exclusions, repeats_after
from curlflow.chaos.growth import end_of_growth
from curlflow.chaos.indicators import (
    STEEPEST_REGULAR_POWER,
    alignment,
    growth_of_tangents,
    soonest_forgotten,
    zero_one,
)
from curlflow.chaos.kinds import Evidence, Motion
from curlflow.chaos.observed import States, observed, returns
from curlflow.chaos.recurrence import (
    CLOSED_WITHIN,
    NEARLY_CLOSED,
    Coordinates,
    closings,
    dimension,
    extent,
    is_stationary,
)
from curlflow.chaos.result import LyapunovSpectrum
from curlflow.chaos.statistics import resolution, standard_error
from curlflow.chaos.stretch import FEWEST_LYAPUNOV_TIMES, judged, stretch_of_growth
from curlflow.outcome import Ending
from curlflow.system import State

Observable = Callable[[State], Any]

REGULAR_BELOW = 0.2
# Weak chaos has not come to 1 yet; below this it may be regular motion.
CHAOTIC_ENOUGH = 0.5
FEWEST_INTERVALS = 50
# Section points of a torus fill a curve at least: below this, their dimension is that of a fractal or a cycle.
SMALLEST_DIMENSION = 0.75
# A motion all of which is less than so many of the solver's tolerances says nothing.
FEWEST_TOLERANCES = 1000
# The halves of a chaotic orbit differ by so many times as much as those of a torus at most.
LARGEST_CHANGE = 8.0
# What the run itself has seen: a cycle, only of maps.
SETTLED = {Ending.FIXED_POINT: Motion.FIXED_POINT, Ending.CYCLE: Motion.PERIODIC}


class _Case(NamedTuple):
    """All that the indicators look at."""

    spectrum: LyapunovSpectrum
    periods: State | None
    forcing: float | None
    observable: Observable | None
    observed: States
    coordinates: Coordinates
    excluded: Exclusions
    growth_ended: int | None

    @property
    def late(self) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """The exponents, and how far from 0 they must be to differ from it, since tangent vectors ceased to grow."""
        spectrum, end = self.spectrum, self.growth_ended
        if end is None:
            return spectrum.exponents, spectrum.resolution
        local = spectrum.local[end:]
        rtol = float(spectrum.tangent_system.rtol)
        return local.mean(axis=0), resolution(standard_error(local), len(local), spectrum.dt, rtol)

    @property
    def is_forced(self) -> bool:
        """Whether the system depends on time in a way that nobody knows the period of."""
        return self.forcing is None and not self.excluded.is_autonomous


def weigh(
    spectrum: LyapunovSpectrum, observable: Observable | None, periods: State | None, forcing: float | None
) -> tuple[Motion, list[Evidence]]:
    """Weigh the indicators, of which an orbit that blew up or came to rest needs few."""
    ending = spectrum.outcome.ending
    if ending is Ending.BLEW_UP:
        return Motion.BLOW_UP, []
    if ending is Ending.UNDECIDED or not (spectrum.outcome.ok or ending is Ending.NOT_CONVERGED):
        return Motion.UNDECIDED, []
    ended = end_of_growth(spectrum.local[:, 0], spectrum.dt)
    if ending in SETTLED and ended is None:
        return _settled_all_the_time(spectrum)
    case = _case(spectrum, observable, periods, forcing, ended)
    motion, evidence = _settled(case)
    if motion is None:
        return _chaotic_or_undecided(case, evidence)
    if ended is None or case.excluded.chaos is not None:
        return motion, evidence
    motion, told = judged(stretch_of_growth(spectrum, ended, case.coordinates.periods), motion)
    return motion, [*evidence, told]


def _settled_all_the_time(spectrum: LyapunovSpectrum) -> tuple[Motion, list[Evidence]]:
    """What a run has seen of itself, if tangent vectors do not grow there: an orbit beside it would leave it."""
    largest, resolved = float(spectrum.exponents[0]), float(spectrum.resolution[0])
    if largest > resolved:
        sentence = (
            "The orbit began at an unstable point and stayed there: where others go, a start beside it tells."
        )
        return Motion.UNDECIDED, [Evidence("largest exponent", largest, resolved, sentence)]
    return SETTLED[spectrum.outcome.ending], []


def _case(
    spectrum: LyapunovSpectrum,
    observable: Observable | None,
    periods: State | None,
    forcing: float | None,
    ended: int | None,
) -> _Case:
    states = observed(spectrum)
    flat = np.zeros(size(spectrum.final_state)) if periods is None else np.asarray(ravel_pytree(periods)[0])
    excluded = exclusions(
        spectrum.tangent_system, spectrum.initial_state, states.ys, states.times, int(np.sum(flat > 0))
    )
    coordinates = Coordinates.of(states.ys, flat)
    return _Case(spectrum, periods, forcing, observable, states, coordinates, excluded, ended)


def _settled(case: _Case) -> tuple[Motion | None, list[Evidence]]:
    """The regular motion that an orbit has settled to, if that can be shown."""
    ending = case.spectrum.outcome.ending
    if ending in SETTLED:
        return SETTLED[ending], []
    exponents, resolved = case.late
    if exponents[0] > resolved[0] or _hardly_moves(case):
        return None, []
    attracts = _attracts(case, exponents, resolved)
    closing, section = _closing(case, attracts)
    if closing.value <= NEARLY_CLOSED:
        return Motion.PERIODIC, [closing]
    against = _against_torus(case, attracts, section)
    if against is None and len(case.spectrum.times) >= FEWEST_INTERVALS:
        regular, evidence = _is_regular(case)
        return Motion.QUASI_PERIODIC if regular else None, [closing, *evidence]
    return None, [closing] if against is None else [closing, against]


def _hardly_moves(case: _Case) -> bool:
    """Whether all of the motion observed is not much more than what the solver may do wrong."""
    tangent, numbers = case.spectrum.tangent_system, flatten_states(case.observed.ys)
    if tangent.is_map:
        return False
    tolerance = float(tangent.atol) + float(tangent.rtol) * np.abs(numbers).max()
    return bool(np.ptp(numbers, axis=0).max() < FEWEST_TOLERANCES * tolerance)


def _attracts(case: _Case, exponents: np.ndarray, resolved: np.ndarray) -> bool:
    """Whether neighbours approach the orbit from all sides: then it is none of a torus, whose zeros are more than these.

    One zero belongs to the direction along the orbit of an autonomous flow.
    """
    along = 0 if case.spectrum.tangent_system.is_map or not case.excluded.is_autonomous else 1
    if along >= len(exponents):
        return False
    return bool(exponents[along] < -resolved[along])


def _decays(case: _Case) -> bool:
    """Whether the largest exponent is below 0 by its own error: on a torus the vectors along it only come and go.

    (Above 0, where shear shows, its `resolution` counts.)
    """
    local = case.spectrum.local[case.growth_ended or 0 :, :1]
    rounding = 10 * float(case.spectrum.tangent_system.rtol)
    return bool(local.mean() < -3 * standard_error(local)[0] - rounding)


def _closing(case: _Case, attracts: bool) -> tuple[Evidence, States]:
    """How near the orbit comes back to the final state, in units of its extent, and the section points passed."""
    size_of_orbit = extent(case.coordinates(case.observed.ys))
    section = case.observed
    for section in returns(case.spectrum, case.periods, case.forcing):
        found = closings(case.coordinates(section.ys), max(size_of_orbit, 1e-300), attracts)
        # A flow that is forced is back when its forcing is, too.
        found = [each for each in found if not case.is_forced or _forcing_repeats(case, section, each[0])]
        if found:
            number, distance = found[0]
            return _closes(case, section, number, distance), section
    count = len(section.times) - 1
    sentence = (
        f"The orbit does not close within {count} returns." if count else "The orbit does not come back."
    )
    return Evidence("closing", np.nan, CLOSED_WITHIN, sentence), section


def _closes(case: _Case, section: States, number: int, distance: float) -> Evidence:
    after = section.times[number] - section.times[0]
    turns = "" if case.spectrum.tangent_system.is_map or number == 1 else f", at return {number},"
    sentence = f"The orbit closes: after {after:.6g}{turns} it is back within {distance:.1e} of its extent."
    return Evidence("closing", distance, CLOSED_WITHIN, sentence)


def _forcing_repeats(case: _Case, section: States, number: int) -> bool:
    """Whether the system is the same after the time of so many returns, wherever the orbit goes."""
    after = section.times[number] - section.times[0]
    return repeats_after(case.spectrum.tangent_system, case.observed.ys, case.observed.times, float(after))


def _against_torus(case: _Case, attracts: bool, section: States) -> Evidence | None:
    """What speaks against quasi-periodic motion, or None."""
    name = "torus"
    if case.excluded.torus is not None:
        return Evidence(name, np.nan, np.nan, case.excluded.torus)
    if attracts and not case.is_forced:
        sentence = (
            "The orbit attracts from all sides, as no torus does: its period is longer than was waited for."
        )
        return Evidence(name, np.nan, np.nan, sentence)
    if not case.is_forced and _decays(case):
        sentence = "Tangent vectors shrink by and by: the orbit is still on a slow way to where it settles."
        return Evidence(name, np.nan, np.nan, sentence)
    if not is_stationary(case.coordinates(case.observed.ys)):
        return Evidence(
            name, np.nan, np.nan, "The orbit drifts, or its amplitude changes; take a longer `Ttr` or `T`."
        )
    filled = dimension(case.coordinates(section.ys))
    if not case.is_forced and not filled >= SMALLEST_DIMENSION:
        sentence = f"Its section points have dimension {filled:.2f}: those of a torus fill a curve."
        return Evidence("dimension of section points", filled, SMALLEST_DIMENSION, sentence)
    return None


def _is_regular(case: _Case) -> tuple[bool, list[Evidence]]:
    """Whether tangent vectors grow no faster than shear makes them, and the 0–1 test sees regular motion."""
    K = zero_one(_series(case))
    growth, growth_evidence = growth_of_tangents(case.spectrum)
    is_shear = (
        growth.kind == "algebraic" or growth.power < STEEPEST_REGULAR_POWER or case.growth_ended is not None
    )
    return is_shear and K.value < REGULAR_BELOW, [K, growth_evidence]


def _chaotic_or_undecided(case: _Case, evidence: list[Evidence]) -> tuple[Motion, list[Evidence]]:
    """Chaotic if every indicator says so and nothing excludes it."""
    spectrum = case.spectrum
    if len(spectrum.times) < FEWEST_INTERVALS:
        return Motion.UNDECIDED, [*evidence, _too_few(spectrum)]
    if case.excluded.chaos is not None:
        told = any(each.sentence == case.excluded.chaos for each in evidence)
        excluded = [] if told else [Evidence("chaos", np.nan, np.nan, case.excluded.chaos)]
        return Motion.UNDECIDED, [*evidence, *excluded]
    halves = np.array_split(spectrum.local[:, 0], 2)
    positive = all(half.mean() > spectrum.resolution[0] for half in halves)
    lasts = spectrum.exponents[0] * spectrum.T >= FEWEST_LYAPUNOV_TIMES
    grows, growth_evidence = growth_of_tangents(spectrum)
    aligns = alignment(spectrum)
    aligned = all(each.value < each.threshold for each in aligns)
    series = _series(case)
    K = zero_one(series)
    # What was told on the way to here by the same indicators is not told twice.
    told = {each.indicator for each in (K, growth_evidence)}
    evidence = [*(each for each in evidence if each.indicator not in told), K, growth_evidence, *aligns]
    if not is_stationary(series[:, None], LARGEST_CHANGE):
        # What still leaves an unstable solution grows all the time, and is not chaotic for that.
        sentence = "The orbit drifts, or its amplitude changes, by much; take a longer `Ttr` or `T`."
        return Motion.UNDECIDED, [*evidence, Evidence("stationarity", np.nan, np.nan, sentence)]
    chaotic = positive and lasts and grows.kind != "algebraic" and aligned and K.value >= CHAOTIC_ENOUGH
    return Motion.CHAOTIC if chaotic else Motion.UNDECIDED, evidence


def _too_few(spectrum: LyapunovSpectrum) -> Evidence:
    sentence = f"{len(spectrum.times)} intervals are too few to tell; take a longer `T`."
    return Evidence("intervals", len(spectrum.times), FEWEST_INTERVALS, sentence)


def _series(case: _Case) -> Float[np.ndarray, " times"]:
    """One number along the orbit: the observable, or of the coordinates that vary much the one that forgets soonest."""
    if case.observable is not None:
        return np.asarray(jax.vmap(case.observable)(case.observed.ys))
    return soonest_forgotten(case.coordinates(case.observed.ys) * case.coordinates.scale)

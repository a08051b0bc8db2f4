"""The verdict: what kind of motion an orbit settles to, and on what evidence it rests."""

from collections.abc import Callable
from enum import StrEnum
from itertools import islice
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Float, PRNGKeyArray

from curlflow._results import result
from curlflow._trees import flatten_states, float64
from curlflow.chaos.engine.tangent_system import TangentSystem, as_tangent_system
from curlflow.chaos.gali import aligned_volumes
from curlflow.chaos.growth import Growth, tangent_growth
from curlflow.chaos.lyapunov import averaged
from curlflow.chaos.recorded import decorrelation, zero_one_test
from curlflow.chaos.result import LyapunovSpectrum, spectrum_of
from curlflow.orbits.integrate import solved
from curlflow.orbits.iterate import Problem as MapProblem
from curlflow.orbits.iterate import iterated
from curlflow.orbits.returns import Return, section_returns
from curlflow.orbits.solve import Problem
from curlflow.orbits.solvers import SolverChoice
from curlflow.outcome import Ending
from curlflow.system import Args, State, StateLike, System

CHAOTIC_ABOVE, REGULAR_BELOW = 0.8, 0.2
# A volume of tangent directions below this has collapsed; rounding would be 1e-16.
COLLAPSED_VOLUME = 1e-8
# An orbit is closed when it returns this much closer than it strays; a return this near is the one to judge by.
CLOSED_WITHIN = 1e-5
NEAR = 0.1
SAMPLES = 8192
# Returns are waited for so many intervals of the spectrum, at most so many of them, and are located at tolerances at least
# as tight as these.
LONGEST_WAIT = 500
MOST_RETURNS = 512
CLOSING_RTOL, CLOSING_ATOL = 1e-10, 1e-13
# The 0–1 test takes a slow series for a regular one. It needs this many samples a decorrelation time or more apart.
FEWEST_DECORRELATED = 200
# Tangent vectors of regular motion grow like t, its shear; a steeper power is a growth that has not shown its kind yet.
STEEPEST_REGULAR_POWER = 2.0
LONGEST_ALIGNMENT = 2000
FEWEST_INTERVALS = 50

Observable = Callable[[State], Any]


class Motion(StrEnum):
    """What kind of motion an orbit settles to."""

    CHAOTIC = "chaotic"
    TRANSIENT_CHAOS = "transient chaos"
    QUASI_PERIODIC = "quasi-periodic"
    PERIODIC = "periodic"
    FIXED_POINT = "fixed point"
    BLOW_UP = "blow-up"
    UNDECIDED = "undecided"


@result
class Evidence:
    """What one indicator found; part of a `Verdict`.

    Attributes
    ----------
    indicator
        Its name, e.g. "0–1 test".
    value
        What it measured; NaN where it could measure nothing.
    threshold
        The number that the value is held against; NaN where there is none.
    sentence
        Both in words.
    """

    indicator: str
    value: float
    threshold: float
    sentence: str

    def __str__(self) -> str:
        return f"Evidence: {self.sentence}"


@result
class Verdict:
    """What kind of motion an orbit settles to, made by `verdict`.

    Attributes
    ----------
    motion
        One of the `Motion` values, e.g. ``Motion.CHAOTIC``; compares equal to its text, ``"chaotic"``.
    evidence
        What each indicator found, in the order in which they were asked; see `Evidence`.
    spectrum
        The exponents that were computed.
    """

    motion: Motion
    evidence: tuple[Evidence, ...]
    spectrum: LyapunovSpectrum

    def to_xarray(self) -> xr.Dataset:
        """The spectrum's dataset along `exponent` and `time`, the evidence along `indicator`, the motion as an attribute."""
        found = {
            "value": [each.value for each in self.evidence],
            "threshold": [each.threshold for each in self.evidence],
            "sentence": [each.sentence for each in self.evidence],
        }
        return (
            self.spectrum.to_xarray()
            .assign({name: ("indicator", values) for name, values in found.items()})
            .assign_coords(indicator=[each.indicator for each in self.evidence])
            .assign_attrs(motion=self.motion.value)
        )

    def __str__(self) -> str:
        lines = (str(self.spectrum), *(each.sentence for each in self.evidence))
        return "\n".join([f"Verdict: {self.motion.value}", *(f"  - {line}" for line in lines)])


def verdict(
    system: System | TangentSystem,
    y0: StateLike,
    k: int | None = None,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    observable: Observable | None = None,
    key: PRNGKeyArray | None = None,
    t0: float = 0.0,
    args: Args = None,
    batch: None = None,
    solver: SolverChoice | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    max_steps: int | None = None,
    blow_up: float = 1e6,
    progress: bool = False,
) -> Verdict:
    """What kind of motion an orbit settles to, from several indicators, or that they disagree.

    Chaotic: the largest exponent is positive in both halves of the run, tangent vectors grow exponentially and align (as far
    as the gap between the first two exponents lets them), and the 0–1 test does not contradict. Periodic: the orbit closes.
    Quasi-periodic: it does not, no exponent is positive, tangent vectors grow no faster than shear makes them, and the 0–1
    test sees regular motion. Transient chaos: the largest exponent was positive for a time and is not in the end. Everything
    else is undecided: among it slow drifts, whose series are too short for the 0–1 test, and every orbit that does not close
    within fewer than 50 intervals.

    Parameters
    ----------
    system
        A flow, a map, or a `TangentSystem` of either. The orbit is also observed by the solver and the tolerances with which
        the exponents were computed.
    y0, T, Ttr, dt, key, t0, args, solver, rtol, atol, max_steps, blow_up, progress
        As for `lyapunov_spectrum`.
    k
        How many leading exponents to compute. Two are needed, where the state is more than one number, and always computed;
        None means no more than those.
    observable
        Function from the state to the number given to the 0–1 test; None means the coordinate that varies most.
    batch
        Not to be had: a verdict is on one orbit. Ask for one member after another.

    Returns
    -------
    Verdict
        The kind of motion, the evidence, and the spectrum.

    Raises
    ------
    ValueError
        If `batch` is given, or as `lyapunov_spectrum` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> cf.verdict(cf.toy_flow(s=1.0, flip="readout"), jnp.array([0.5, 0.3]), T=400.0).motion
    <Motion.PERIODIC: 'periodic'>
    """
    tangent = as_tangent_system(
        system,
        dt=dt,
        t0=t0,
        args=args,
        solver=solver,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        blow_up=blow_up,
    ).averaging_divergence(False)
    if batch is not None or tangent.members is not None:
        raise ValueError(
            "`batch` must be left out, because a verdict is on one orbit: ask for one member after another."
        )
    k = 1 if k is None else k
    run = averaged(tangent, y0, k, T=T, Ttr=Ttr, key=key, progress=progress, at_least=2)
    spectrum = spectrum_of(run)
    motion, evidence = _weigh(spectrum, observable)
    return Verdict(motion, tuple(evidence), spectrum)


def _weigh(spectrum: LyapunovSpectrum, observable: Observable | None) -> tuple[Motion, list[Evidence]]:
    """Weigh the indicators, of which an orbit that blew up or came to rest needs few."""
    ending = spectrum.outcome.ending
    if ending is Ending.BLEW_UP:
        return Motion.BLOW_UP, []
    if not spectrum.outcome.ok and ending is not Ending.NOT_CONVERGED:
        return Motion.UNDECIDED, []
    was_chaotic, evidence = _was_chaotic(spectrum)
    if ending is Ending.FIXED_POINT:
        return Motion.TRANSIENT_CHAOS if was_chaotic else Motion.FIXED_POINT, evidence
    states = _observed(spectrum)
    closing = _closing(spectrum, states)
    evidence = [*evidence, closing]
    if closing.value < CLOSED_WITHIN:
        return Motion.TRANSIENT_CHAOS if was_chaotic else Motion.PERIODIC, evidence
    if len(spectrum.times) < FEWEST_INTERVALS:
        return Motion.UNDECIDED, [*evidence, _too_few(spectrum)]
    K = _zero_one(_series(states, observable))
    growth, growth_evidence = _growth(spectrum)
    alignment = _alignment(spectrum)
    evidence = [*evidence, K, growth_evidence, *alignment]
    return _motion(spectrum, was_chaotic, K.value, growth, alignment), evidence


def _motion(
    spectrum: LyapunovSpectrum, was_chaotic: bool, K: float, growth: Growth, alignment: list[Evidence]
) -> Motion:
    """What an orbit that does not close does, by the 0–1 test (NaN: no answer), growth and alignment of tangent vectors."""
    halves, resolution = np.array_split(spectrum.local[:, 0], 2), spectrum.resolution[0]
    positive = all(half.mean() > resolution for half in halves)
    aligned = all(each.value < each.threshold for each in alignment)
    if positive and aligned and growth.kind != "algebraic" and not K <= REGULAR_BELOW:
        return Motion.CHAOTIC if not np.isnan(K) or growth.kind == "exponential" else Motion.UNDECIDED
    if was_chaotic and abs(halves[1].mean()) <= resolution:
        return Motion.TRANSIENT_CHAOS
    is_shear = growth.kind == "algebraic" or growth.power < STEEPEST_REGULAR_POWER
    no_growth = spectrum.exponents[0] <= resolution and not positive and is_shear
    return Motion.QUASI_PERIODIC if no_growth and K < CHAOTIC_ABOVE / 2 else Motion.UNDECIDED


def _was_chaotic(spectrum: LyapunovSpectrum) -> tuple[bool, list[Evidence]]:
    """Whether the first part of the run grew exponentially and the last part does not; evidence if so."""
    parts = np.array_split(spectrum.local[:, 0], 8)
    first, last = parts[0], parts[-1]
    if len(first) < 8:
        return False, []
    error = 3 * first.std() / len(first) ** 0.5
    chaotic_then = first.mean() > max(error, 10 * np.log(len(first)) / (len(first) * spectrum.dt) / 4)
    if not (chaotic_then and last.mean() < first.mean() / 10):
        return False, []
    sentence = (
        f"The largest exponent fell from {first.mean():.3g} in the first eighth of the run to {last.mean():.3g} "
        "in the last."
    )
    return True, [
        Evidence("largest exponent in the end", float(last.mean()), float(first.mean() / 10), sentence)
    ]


def _too_few(spectrum: LyapunovSpectrum) -> Evidence:
    sentence = f"{len(spectrum.times)} intervals are too few to tell; take a longer `T`."
    return Evidence("intervals", len(spectrum.times), FEWEST_INTERVALS, sentence)


def _observed(spectrum: LyapunovSpectrum) -> State:
    """The states of the orbit from the final state on, over the time averaged before, stacked."""
    tangent, t0 = spectrum.tangent_system, spectrum.final_time
    if tangent.is_map:
        every = max(round(spectrum.T) // SAMPLES, 1)
        system: Any = tangent.system
        problem = MapProblem(system, tangent.args, None, {}, tangent.blow_up)
        return iterated(problem, spectrum.final_state, round(t0), every * (SAMPLES - 1), every).ys
    problem = _onwards(spectrum, spectrum.T, float(tangent.rtol), float(tangent.atol))
    return solved(problem, spectrum.final_state, np.linspace(t0, t0 + spectrum.T, SAMPLES)).ys


def _onwards(spectrum: LyapunovSpectrum, time: float, rtol: float, atol: float) -> Problem:
    """The integration of the orbit beyond its final state, by the solver that brought it there."""
    tangent, t0 = spectrum.tangent_system, spectrum.final_time
    flow: Any = tangent.system
    assert tangent.solver is not None
    return Problem(
        t0=float64(t0),
        t1=float64(t0 + time),
        rtol=float64(rtol),
        atol=float64(atol),
        blow_up=tangent.blow_up,
        args=tangent.args,
        system=flow,
        solver=tangent.solver,
    )


def _closing(spectrum: LyapunovSpectrum, states: State) -> Evidence:
    """How near the orbit comes back to the final state, in units of its extent; of maps, whether it is on a cycle."""
    name = "closing"
    if spectrum.tangent_system.is_map:
        if spectrum.outcome.ending is Ending.CYCLE:
            return Evidence(name, 0.0, CLOSED_WITHIN, spectrum.outcome.message)
        return Evidence(name, np.nan, CLOSED_WITHIN, "The orbit does not repeat itself within 64 steps.")
    found = _closest_return(spectrum, states)
    if found is None:
        return Evidence(name, np.nan, CLOSED_WITHIN, "The orbit did not come back near the final state.")
    period, distance = found
    word = "closes" if distance < CLOSED_WITHIN else "does not close"
    sentence = f"The orbit {word}: after {period:.6g} it returns to {distance:.1e} of its extent."
    return Evidence(name, distance, CLOSED_WITHIN, sentence)


def _closest_return(spectrum: LyapunovSpectrum, states: State) -> tuple[float, float] | None:
    """After what time the orbit first comes near the final state, and how near; None if it does not."""
    tangent = spectrum.tangent_system
    rtol, atol = min(float(tangent.rtol), CLOSING_RTOL), min(float(tangent.atol), CLOSING_ATOL)
    start = flatten_states(jax.tree.map(lambda leaf: leaf[None], spectrum.final_state))
    extent = float(np.linalg.norm(flatten_states(states) - start, axis=1).max())
    problem = _onwards(spectrum, min(spectrum.T, LONGEST_WAIT * spectrum.dt), rtol, atol)

    def distance(found: Return) -> float:
        state = flatten_states(jax.tree.map(lambda leaf: leaf[None], found.state))
        return float(np.linalg.norm(state - start)) / extent

    returns = islice(section_returns(problem, spectrum.final_state), MOST_RETURNS)
    distances = ((found, distance(found)) for found in returns)
    near = next((pair for pair in distances if pair[1] < NEAR), None)
    return None if near is None else (near[0].time - spectrum.final_time, near[1])


def _series(states: State, observable: Observable | None) -> Float[np.ndarray, " times"]:
    """One number along the orbit: the observable, or the coordinate that varies most."""
    if observable is not None:
        return np.asarray(jax.vmap(observable)(states))
    numbers = flatten_states(states)
    return numbers[:, np.argmax(numbers.std(axis=0))]


def _zero_one(series: Float[np.ndarray, " times"]) -> Evidence:
    """The 0–1 test of a series, thinned out until its samples are decorrelated; NaN if too few are left."""
    thinned = series[:: decorrelation(series)]
    if len(thinned) < FEWEST_DECORRELATED:
        sentence = f"0–1 test: not to be trusted, the series has only {len(thinned)} decorrelation times; take a longer `T`."
        return Evidence("0–1 test", np.nan, CHAOTIC_ABOVE, sentence)
    K = zero_one_test(thinned)
    return Evidence("0–1 test", K, CHAOTIC_ABOVE, f"0–1 test: K = {K:.2f} (near 1 chaotic, near 0 regular).")


def _growth(spectrum: LyapunovSpectrum) -> tuple[Growth, Evidence]:
    growth = tangent_growth(spectrum)
    sentence = (
        f"Growth of tangent vectors: {growth.kind}; residuals {growth.residuals[0]:.2g} of e^({growth.rate:.3g} t), "
        f"{growth.residuals[1]:.2g} of t^{growth.power:.3g}."
    )
    return growth, Evidence("growth of tangent vectors", growth.power, STEEPEST_REGULAR_POWER, sentence)


def _alignment(spectrum: LyapunovSpectrum) -> list[Evidence]:
    """Whether two tangent vectors collapse onto one line, or do so at the rate λ1 − λ2 if that is too slow to see.

    Nothing for systems that have only one.
    """
    if spectrum.local.shape[1] < 2:
        return []
    count = min(len(spectrum.times), LONGEST_ALIGNMENT)
    smallest = float(aligned_volumes(spectrum.run, count)[1].min())
    expected = float(np.exp(-(spectrum.exponents[0] - spectrum.exponents[1]) * count * spectrum.dt))
    sentence = f"GALI_2 fell to {smallest:.1e}; at the rate λ1 − λ2 it would fall to {expected:.1e}."
    return [Evidence("GALI_2", smallest, max(COLLAPSED_VOLUME, expected**0.5), sentence)]

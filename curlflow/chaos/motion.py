"""The verdict: what kind of motion an orbit settles to, and on what evidence it rests."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from curlflow import _checks
from curlflow._trees import flatten_states, size
from curlflow.chaos.gali import aligned_volumes
from curlflow.chaos.growth import tangent_growth
from curlflow.chaos.lyapunov import lyapunov_spectrum
from curlflow.chaos.recorded import decorrelation, zero_one_test
from curlflow.chaos.result import LyapunovSpectrum
from curlflow.chaos.returns import closest_return
from curlflow.orbits.integrate import integrate
from curlflow.orbits.iterate import iterate
from curlflow.outcome import Ending

CHAOTIC_ABOVE, REGULAR_BELOW = 0.8, 0.2
# A volume of tangent directions below this has collapsed; rounding would be 1e-16.
COLLAPSED_VOLUME = 1e-8
# An orbit is closed when it returns this much closer than it strays.
CLOSED_WITHIN = 1e-5
SAMPLES = 8192
# The 0–1 test takes a slow series for a regular one. It needs this many samples a decorrelation time or more apart.
FEWEST_DECORRELATED = 200
# Tangent vectors of regular motion grow like t, its shear; a steeper power is a growth that has not shown its kind yet.
STEEPEST_REGULAR_POWER = 2.0
LONGEST_ALIGNMENT = 2000
FEWEST_INTERVALS = 50


class Motion(StrEnum):
    """What kind of motion an orbit settles to."""

    CHAOTIC = "chaotic"
    TRANSIENT_CHAOS = "transient chaos"
    QUASI_PERIODIC = "quasi-periodic"
    PERIODIC = "periodic"
    FIXED_POINT = "fixed point"
    BLOW_UP = "blow-up"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Verdict:
    """What kind of motion an orbit settles to, made by `verdict`.

    Attributes
    ----------
    motion
        One of the `Motion` values, e.g. ``Motion.CHAOTIC``; compares equal to its text, ``"chaotic"``.
    evidence
        One sentence for each indicator, with its numbers.
    spectrum
        The exponents that were computed.
    """

    motion: Motion
    evidence: tuple[str, ...]
    spectrum: LyapunovSpectrum

    def __str__(self) -> str:
        return "\n".join([f"Verdict: {self.motion.value}", *(f"  - {line}" for line in self.evidence)])


def verdict(
    system: Any,
    y0: PyTree[ArrayLike],
    k: int | None = None,
    *,
    T: float,
    Ttr: float = 0.0,
    dt: float = 1.0,
    observable: Callable[[PyTree[Array]], Any] | None = None,
    key: PRNGKeyArray | None = None,
    **options: Any,
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
    system, y0, T, Ttr, dt, key
        As for `lyapunov_spectrum`.
    k
        How many leading exponents to compute. Two are needed, where the state is more than one number, and always computed;
        None means no more than those.
    observable
        Function from the state to the number given to the 0–1 test; None means the coordinate that varies most.
    **options
        Further options of `lyapunov_spectrum`.

    Returns
    -------
    Verdict
        The kind of motion, the evidence, and the spectrum.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> from curlflow.chaos import verdict
    >>> verdict(cf.toy_flow(s=1.0, flip="readout"), jnp.array([0.5, 0.3]), T=400.0).motion
    <Motion.PERIODIC: 'periodic'>
    """
    y0 = _checks.state_pytree("y0", y0)
    needed = min(size(y0), 2)
    k = needed if k is None else max(_checks.positive_integer("k", k), needed)
    spectrum = lyapunov_spectrum(system, y0, k, T=T, Ttr=Ttr, dt=dt, key=key, divergence=False, **options)
    evidence = [str(spectrum)]
    motion = _weigh(spectrum, observable, evidence)
    return Verdict(motion, tuple(evidence), spectrum)


def _weigh(
    spectrum: LyapunovSpectrum, observable: Callable[[PyTree[Array]], Any] | None, evidence: list[str]
) -> Motion:
    """Weigh the indicators, of which an orbit that blew up or came to rest needs few; append a sentence on each."""
    ending = spectrum.outcome.ending
    if ending is Ending.BLEW_UP:
        return Motion.BLOW_UP
    if not spectrum.outcome.ok and ending is not Ending.NOT_CONVERGED:
        return Motion.UNDECIDED
    was_chaotic = _was_chaotic(spectrum, evidence)
    if ending is Ending.FIXED_POINT:
        return Motion.TRANSIENT_CHAOS if was_chaotic else Motion.FIXED_POINT
    if _closes(spectrum, evidence):
        return Motion.TRANSIENT_CHAOS if was_chaotic else Motion.PERIODIC
    if len(spectrum.times) < FEWEST_INTERVALS:
        evidence.append(f"{len(spectrum.times)} intervals are too few to tell; take a longer `T`.")
        return Motion.UNDECIDED
    K = _zero_one(_observe(spectrum, observable), evidence)
    halves = np.array_split(spectrum.local[:, 0], 2)
    positive = all(half.mean() > spectrum.resolution[0] for half in halves)
    growth = tangent_growth(spectrum)
    evidence.append(
        f"Growth of tangent vectors: {growth.kind}; residuals {growth.residuals[0]:.2g} of e^({growth.rate:.3g} t), "
        f"{growth.residuals[1]:.2g} of t^{growth.power:.3g}."
    )
    aligned = _aligns(spectrum, evidence)
    if positive and aligned and growth.kind != "algebraic" and (K is None or K > REGULAR_BELOW):
        return Motion.CHAOTIC if K is not None or growth.kind == "exponential" else Motion.UNDECIDED
    if was_chaotic and abs(halves[1].mean()) <= spectrum.resolution[0]:
        return Motion.TRANSIENT_CHAOS
    is_shear = growth.kind == "algebraic" or growth.power < STEEPEST_REGULAR_POWER
    no_growth = spectrum.exponents[0] <= spectrum.resolution[0] and not positive and is_shear
    if no_growth and K is not None and K < CHAOTIC_ABOVE / 2:
        return Motion.QUASI_PERIODIC
    return Motion.UNDECIDED


def _was_chaotic(spectrum: LyapunovSpectrum, evidence: list[str]) -> bool:
    """Whether the first part of the run grew exponentially and the last part does not."""
    parts = np.array_split(spectrum.local[:, 0], 8)
    first, last = parts[0], parts[-1]
    if len(first) < 8:
        return False
    error = 3 * first.std() / len(first) ** 0.5
    chaotic_then = first.mean() > max(error, 10 * np.log(len(first)) / (len(first) * spectrum.dt) / 4)
    regular_now = last.mean() < first.mean() / 10
    if chaotic_then and regular_now:
        evidence.append(
            f"The largest exponent fell from {first.mean():.3g} in the first eighth of the run to {last.mean():.3g} "
            "in the last."
        )
    return bool(chaotic_then and regular_now)


def _closes(spectrum: LyapunovSpectrum, evidence: list[str]) -> bool:
    """Whether the orbit through the final state returns to it."""
    if spectrum.run.problem.solver is None:
        is_cycle = spectrum.outcome.ending is Ending.CYCLE
        if is_cycle:
            evidence.append(spectrum.outcome.message)
        return is_cycle
    found = closest_return(spectrum)
    if found is None:
        evidence.append("The orbit did not come back near the final state.")
        return False
    period, distance = found
    closes = distance < CLOSED_WITHIN
    word = "closes" if closes else "does not close"
    evidence.append(f"The orbit {word}: after {period:.6g} it returns to {distance:.1e} of its extent.")
    return closes


def _observe(
    spectrum: LyapunovSpectrum, observable: Callable[[PyTree[Array]], Any] | None
) -> Float[np.ndarray, " times"]:
    """A series of one number along the orbit, from the final state on."""
    problem, y0, t0 = spectrum.run.problem, spectrum.final_state, float(spectrum.times[-1])
    options: dict[str, Any] = {"args": problem.args, "blow_up": float(problem.blow_up)}
    if problem.solver is None:
        every = max(round(spectrum.T) // SAMPLES, 1)
        orbit = iterate(problem.system, y0, every * (SAMPLES - 1), n0=round(t0), every=every, **options)
    else:
        t1 = t0 + spectrum.T
        orbit = integrate(problem.system, y0, t1, t0=t0, ts=np.linspace(t0, t1, SAMPLES), **options)
    if observable is not None:
        return np.asarray(jax.vmap(observable)(orbit.ys))
    states = flatten_states(orbit.ys)
    return states[:, np.argmax(states.std(axis=0))]


def _zero_one(series: Float[np.ndarray, " times"], evidence: list[str]) -> float | None:
    """The 0–1 test of a series, thinned out until its samples are decorrelated; None if too few are left."""
    thinned = series[:: decorrelation(series)]
    if len(thinned) < FEWEST_DECORRELATED:
        evidence.append(
            f"0–1 test: not to be trusted, the series holds only {len(thinned)} decorrelation times; take a longer `T`."
        )
        return None
    K = zero_one_test(thinned)
    evidence.append(f"0–1 test: K = {K:.2f} (near 1 chaotic, near 0 regular).")
    return K


def _aligns(spectrum: LyapunovSpectrum, evidence: list[str]) -> bool:
    """Whether two tangent vectors collapse onto one line, or do so at the rate λ1 − λ2 if that is too slow to see.

    True for systems that have only one.
    """
    if spectrum.local.shape[1] < 2:
        return True
    count = min(len(spectrum.times), LONGEST_ALIGNMENT)
    smallest = float(aligned_volumes(spectrum.run, count)[1].min())
    expected = float(np.exp(-(spectrum.exponents[0] - spectrum.exponents[1]) * count * spectrum.dt))
    evidence.append(f"GALI_2 fell to {smallest:.1e}; at the rate λ1 − λ2 it would fall to {expected:.1e}.")
    return smallest < max(COLLAPSED_VOLUME, expected**0.5)

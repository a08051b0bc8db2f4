"""Is it chaos? Indicators that do not trust one number, and a verdict that says on what evidence it rests."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import nolds
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray, PyTree

from curlflow import _checks
from curlflow.integrate import integrate
from curlflow.lyapunov import LyapunovSpectrum, engine, lyapunov_spectrum, tangent
from curlflow.lyapunov.problem import Problem, State
from curlflow.lyapunov.runner import Run
from curlflow.outcome import Ending

# Gottwald and Melbourne's 0–1 test: so many frequencies, away from 0 and π where resonances with the sampling lie.
FREQUENCIES = 100
FREQUENCY_RANGE = (np.pi / 5, 4 * np.pi / 5)
CHAOTIC_ABOVE, REGULAR_BELOW = 0.8, 0.2
# A volume of tangent directions below this has collapsed; rounding would be 1e-16.
COLLAPSED_VOLUME = 1e-8
# An orbit is closed when it returns this much closer than it strays.
CLOSED_WITHIN = 1e-5
SAMPLES = 4096
# The 0–1 test takes a slow series for a regular one. It needs this many samples a decorrelation time or more apart.
FEWEST_DECORRELATED = 200
# Tangent vectors of regular motion grow like t, its shear; a steeper power is a growth that has not shown its kind yet.
STEEPEST_REGULAR_POWER = 2.0
LONGEST_ALIGNMENT = 2000
FEWEST_INTERVALS = 50
GROWTH_POINTS = 100


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


@dataclass(frozen=True)
class Growth:
    """Whether tangent vectors grow exponentially or like a power of time, made by `tangent_growth`.

    Attributes
    ----------
    kind
        "exponential", "algebraic", or "undecided" if neither describes the growth clearly better.
    rate
        The fitted exponent λ of e^{λt}.
    power
        The fitted exponent p of t^p.
    residuals
        Root-mean-square residuals of the two fits of the logarithm, exponential first.
    """

    kind: str
    rate: float
    power: float
    residuals: tuple[float, float]


def gali(
    system: Any, y0: PyTree[ArrayLike], k: int = 2, *, T: float, dt: float = 1.0, **options: Any
) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, " times"]]:
    """Generalised alignment index GALI_k: the volume of k tangent vectors of length one that are never made orthogonal.

    It decays exponentially on chaotic orbits, as all vectors turn towards the direction of strongest growth, and stays of
    order one, or decays like a power of time, on regular ones.

    Parameters
    ----------
    system, y0, T, dt
        As for `lyapunov_spectrum`.
    k
        How many tangent vectors, at least 2.
    **options
        Further options of `lyapunov_spectrum`: `Ttr`, `args`, `key`, tolerances.

    Returns
    -------
    tuple
        Times and the index, shape (times,).

    References
    ----------
    Ch. Skokos, T. Bountis, Ch. Antonopoulos, Physica D 231, 30 (2007).
    """
    if _checks.positive_integer("k", k) < 2:
        raise ValueError(f"`k` must be at least 2, but is {k}.")
    spectrum = lyapunov_spectrum(system, y0, k, T=dt, dt=dt, divergence=False, **options)
    return _aligned_volumes(spectrum.run, math.ceil(T / dt * (1 - 1e-12)))


def _aligned_volumes(run: Run, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and volumes of the run's tangent vectors over its next intervals, scaled to length one but not orthogonal."""
    times = float(run.problem.t0) + float(run.problem.dt) * (
        int(run.state.interval) + np.arange(1, count + 1)
    )
    return times, np.asarray(_volumes(run.problem, run.state, count))


@eqx.filter_jit
def _volumes(problem: Problem, state: State, count: int) -> Float[Array, " times"]:
    def one_interval(state: State, nothing: None) -> tuple[State, Array]:
        begin, end = (problem.t0 + (state.interval + i) * problem.dt for i in (0, 1))
        after = engine.advance(problem, state, begin, end)[0]
        lengths = jnp.sqrt(tangent.column_squares(after.frame))
        frame = tangent.scale(after.frame, 1 / lengths)
        volume = jnp.prod(jnp.linalg.svd(tangent.columns(frame), compute_uv=False))
        return eqx.tree_at(lambda s: (s.frame, s.interval), after, (frame, state.interval + 1)), volume

    return jax.lax.scan(one_interval, state, length=count)[1]


def zero_one_test(series: ArrayLike, *, key: PRNGKeyArray | None = None) -> float:
    """The 0–1 test for chaos of a recorded series: near 1 for chaotic, near 0 for regular motion.

    The series drives a rotation p + iq = Σ x_j e^{icj}; its mean-square displacement grows linearly for chaotic motion
    and stays bounded for regular motion. The result is the median over frequencies c of its correlation with time.

    Parameters
    ----------
    series
        Values at equal times, shape (times,), at least 200 of them. A flow must not be sampled too finely: take the time in
        which its autocorrelation vanishes.
    key
        JAX random key of the frequencies; None means `jax.random.key(0)`.

    References
    ----------
    G. A. Gottwald, I. Melbourne, SIAM J. Appl. Dyn. Syst. 8, 129 (2009).
    """
    x = np.asarray(_checks.float64_array("series", series))
    if x.ndim != 1 or len(x) < 200:
        raise ValueError(f"`series` must hold at least 200 values along one axis, but has shape {x.shape}.")
    low, high = FREQUENCY_RANGE
    draw = jax.random.uniform(
        jax.random.key(0) if key is None else key, (FREQUENCIES,), jnp.float64, low, high
    )
    return float(np.median([_growth_correlation(x, float(c)) for c in draw]))


def _growth_correlation(x: np.ndarray, c: float) -> float:
    steps = np.arange(1, len(x) + 1)
    path = np.cumsum(x * np.exp(1j * c * steps))
    lags = np.arange(1, len(x) // 10 + 1)
    kept = len(x) - len(lags)
    displacement = np.array([np.mean(np.abs(path[n : n + kept] - path[:kept]) ** 2) for n in lags])
    # The mean of the series adds an oscillation that is known exactly.
    displacement = displacement - x.mean() ** 2 * (1 - np.cos(lags * c)) / (1 - np.cos(c))
    if np.ptp(displacement) == 0:
        return 0.0
    return float(np.corrcoef(lags, displacement)[0, 1])


def tangent_growth(spectrum: LyapunovSpectrum) -> Growth:
    """Whether the leading tangent vector of a computed spectrum grew exponentially or like a power of time.

    Algebraic separation, λ1 ~ log T / T, is not chaos. Both laws, log growth = a + λt and a + p log t, are fitted to the last
    nine tenths of the run; one is chosen if its residual is less than half the other's.
    """
    t = spectrum.times - spectrum.times[0] + spectrum.dt
    if len(t) < 20:
        raise ValueError(f"`spectrum` must cover at least 20 intervals, but has {len(t)}.")
    log_growth = np.cumsum(spectrum.local[:, 0]) * spectrum.dt
    # Averages over neighbouring intervals: what oscillates along the orbit says nothing about growth.
    width = max(len(t) // GROWTH_POINTS, 1)
    t, log_growth = (x[: len(x) // width * width].reshape(-1, width).mean(axis=1) for x in (t, log_growth))
    kept = slice(len(t) // 10, None)
    (rate, exponential), (power, algebraic) = (_line(x[kept], log_growth[kept]) for x in (t, np.log(t)))
    kind = "undecided"
    if exponential < algebraic / 2:
        kind = "exponential"
    elif algebraic < exponential / 2:
        kind = "algebraic"
    return Growth(kind, rate, power, (exponential, algebraic))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and root-mean-square residual of a straight line."""
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(np.sqrt(np.mean((y - slope * x - intercept) ** 2)))


def exponent_of_series(
    series: ArrayLike, dt: float = 1.0, *, emb_dim: int = 3, lag: int | None = None, fit: int = 20
) -> float:
    """The largest exponent of a recorded series by Rosenstein's method (nolds): a cross-check of a run from outside.

    It depends on its parameters and says little about exponents near zero; where equations are at hand, trust
    `lyapunov_spectrum`.

    Parameters
    ----------
    series
        Values at equal times, shape (times,).
    dt
        Time between two values.
    emb_dim, lag
        Embedding dimension and delay in samples; None takes the first zero of the autocorrelation for the delay.
    fit
        Number of samples over which the divergence of neighbours is fitted.

    Returns
    -------
    float
        In natural logarithms per unit time.
    """
    x = np.asarray(_checks.float64_array("series", series))
    dt = _checks.positive_number("dt", dt)
    lag = _decorrelation(x) if lag is None else _checks.positive_integer("lag", lag)
    value = nolds.lyap_r(
        x, emb_dim=emb_dim, lag=lag, min_tsep=max(10, 2 * lag * emb_dim), trajectory_len=fit, fit="poly"
    )
    return float(value) / dt  # pyright: ignore[reportArgumentType]


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
    needed = min(ravel_pytree(y0)[0].size, 2)
    k = needed if k is None else max(_checks.positive_integer("k", k), needed)
    spectrum = lyapunov_spectrum(
        system,
        y0,
        k,
        T=T,
        Ttr=Ttr,
        dt=dt,
        key=key,
        divergence=False,
        **options,
    )
    evidence = [str(spectrum)]
    ending = spectrum.outcome.ending
    if ending is Ending.BLEW_UP:
        return Verdict(Motion.BLOW_UP, tuple(evidence), spectrum)
    if not spectrum.outcome.ok and ending is not Ending.NOT_CONVERGED:
        return Verdict(Motion.UNDECIDED, tuple(evidence), spectrum)
    was_chaotic = _was_chaotic(spectrum, evidence)
    if ending is Ending.FIXED_POINT:
        return Verdict(
            Motion.TRANSIENT_CHAOS if was_chaotic else Motion.FIXED_POINT, tuple(evidence), spectrum
        )
    return Verdict(
        _weigh(system, spectrum, observable, was_chaotic, evidence, options), tuple(evidence), spectrum
    )


def _weigh(
    system: Any,
    spectrum: LyapunovSpectrum,
    observable: Callable[[PyTree[Array]], Any] | None,
    was_chaotic: bool,
    evidence: list[str],
    options: dict[str, Any],
) -> Motion:
    """Weigh the indicators of an orbit that neither blew up nor came to rest; append a sentence on each."""
    if _closes(system, spectrum, evidence, options):
        return Motion.TRANSIENT_CHAOS if was_chaotic else Motion.PERIODIC
    if len(spectrum.times) < FEWEST_INTERVALS:
        evidence.append(f"{len(spectrum.times)} intervals are too few to tell; take a longer `T`.")
        return Motion.UNDECIDED
    K = _zero_one(_observe(system, spectrum, observable, options), evidence)
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


def _zero_one(series: Float[np.ndarray, " times"], evidence: list[str]) -> float | None:
    """The 0–1 test of a series, thinned out until its samples are decorrelated; None if too few are left."""
    thinned = series[:: _decorrelation(series)]
    if len(thinned) < FEWEST_DECORRELATED:
        evidence.append(
            f"0–1 test: not to be trusted, the series holds only {len(thinned)} decorrelation times; take a longer `T`."
        )
        return None
    K = zero_one_test(thinned)
    evidence.append(f"0–1 test: K = {K:.2f} (near 1 chaotic, near 0 regular).")
    return K


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


def _aligns(spectrum: LyapunovSpectrum, evidence: list[str]) -> bool:
    """Whether two tangent vectors collapse onto one line, or do so at the rate λ1 − λ2 if that is too slow to see.

    True for systems that have only one.
    """
    if spectrum.local.shape[1] < 2:
        return True
    count = min(len(spectrum.times), LONGEST_ALIGNMENT)
    smallest = float(_aligned_volumes(spectrum.run, count)[1].min())
    expected = float(np.exp(-(spectrum.exponents[0] - spectrum.exponents[1]) * count * spectrum.dt))
    evidence.append(f"GALI_2 fell to {smallest:.1e}; at the rate λ1 − λ2 it would fall to {expected:.1e}.")
    return smallest < max(COLLAPSED_VOLUME, expected**0.5)


def _closes(system: Any, spectrum: LyapunovSpectrum, evidence: list[str], options: dict[str, Any]) -> bool:
    """Whether the orbit through the final state returns to it."""
    if hasattr(system, "step"):
        if spectrum.outcome.ending is Ending.CYCLE:
            evidence.append(spectrum.outcome.message)
        return spectrum.outcome.ending is Ending.CYCLE
    period, distance = _closest_return(system, spectrum, options)
    if period is None:
        evidence.append("The orbit did not come back near the final state.")
        return False
    closes = bool(distance < CLOSED_WITHIN)
    word = "closes" if closes else "does not close"
    evidence.append(f"The orbit {word}: after {period:.6g} it returns to {distance:.1e} of its extent.")
    return closes


def _closest_return(
    system: Any, spectrum: LyapunovSpectrum, options: dict[str, Any]
) -> tuple[float | None, float]:
    """The first time at which the orbit comes back to the final state, and how far off, in units of its extent."""
    args, y0 = options.get("args"), spectrum.final_state
    t0 = float(spectrum.times[-1])
    trajectory = integrate(
        system, y0, t0 + min(spectrum.T, 500 * spectrum.dt),
        t0=t0, ts=np.linspace(t0, t0 + min(spectrum.T, 500 * spectrum.dt), SAMPLES), args=args, rtol=1e-10, atol=1e-13,
    )  # fmt: skip
    states = np.asarray(jax.vmap(lambda y: ravel_pytree(y)[0])(trajectory.ys))
    distance = np.linalg.norm(states - states[0], axis=1)
    extent = distance.max()
    away = np.flatnonzero(distance > 0.2 * extent)
    if not len(away) or extent == 0:
        return None, np.inf
    near = np.flatnonzero(distance[away[0] :] < 0.1 * extent)
    if not len(near):
        return None, np.inf
    first = away[0] + near[0]
    leaves = np.flatnonzero(distance[first:] >= 0.1 * extent)
    last = first + (leaves[0] if len(leaves) else len(distance) - first)
    index = first + int(np.argmin(distance[first:last]))
    time, state = float(trajectory.ts[index]), jtu.tree_map(lambda leaf: leaf[index], trajectory.ys)
    return _refined_return(system, args, t0, y0, time, state, extent)


def _refined_return(
    system: Any, args: Any, t0: float, y0: PyTree[Array], time: float, state: PyTree[Array], extent: float
) -> tuple[float, float]:
    """Move along the orbit to the point nearest to y0."""
    target = np.asarray(ravel_pytree(y0)[0])
    for _ in range(4):
        gap = target - np.asarray(ravel_pytree(state)[0])
        velocity = np.asarray(ravel_pytree(system(jnp.asarray(time), state, args))[0])
        step = float(gap @ velocity / (velocity @ velocity))
        if abs(step) < 1e-12 * abs(time):
            break
        state = integrate(
            system, state, time + step, t0=time, ts=[time + step], args=args, rtol=1e-11, atol=1e-13
        ).final
        time += step
    return time - t0, float(np.linalg.norm(target - np.asarray(ravel_pytree(state)[0]))) / extent


def _observe(
    system: Any,
    spectrum: LyapunovSpectrum,
    observable: Callable[[PyTree[Array]], Any] | None,
    options: dict[str, Any],
) -> Float[np.ndarray, " times"]:
    """A series of one number along the orbit."""
    if hasattr(system, "step"):
        states = _iterate(system, spectrum.final_state, options.get("args"), SAMPLES)
        return _most_varying(states, observable)
    t0, args = float(spectrum.times[-1]), options.get("args")
    fine = integrate(
        system, spectrum.final_state, t0 + spectrum.T, t0=t0, ts=np.linspace(t0, t0 + spectrum.T, 2 * SAMPLES), args=args
    )  # fmt: skip
    return _most_varying(fine.ys, observable)


def _most_varying(states: PyTree[Array], observable: Callable[[PyTree[Array]], Any] | None) -> np.ndarray:
    if observable is not None:
        return np.asarray(jax.vmap(observable)(states))
    flat = np.asarray(jax.vmap(lambda y: ravel_pytree(y)[0])(states))
    return flat[:, np.argmax(flat.std(axis=0))]


def _decorrelation(x: np.ndarray) -> int:
    """After how many samples the autocorrelation first vanishes."""
    centred = x - x.mean()
    spectrum = np.abs(np.fft.rfft(centred, 2 * len(x))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(x)]
    below = np.flatnonzero(correlation <= 0)
    return int(below[0]) if len(below) else 1


@eqx.filter_jit
def _iterate(system: Any, y: PyTree[Array], args: Any, count: int) -> PyTree[Array]:
    def step(y: PyTree[Array], n: Array) -> tuple[PyTree[Array], PyTree[Array]]:
        return system.step(n, y, args), y

    return jax.lax.scan(step, y, jnp.arange(count))[1]

"""Whether tangent vectors grow exponentially, or like a power of time."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from curlflow import _checks
from curlflow._results import result
from curlflow.chaos.result import LyapunovSpectrum

GROWTH_POINTS = 100
# A growth that ended had grown by this (a logarithm), and lasted so many intervals, as what came after it.
LEAST_GROWTH, FEWEST_ON_EITHER_SIDE = 3.0, 8


@result
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

    kind: Literal["exponential", "algebraic", "undecided"]
    rate: float
    power: float
    residuals: tuple[float, float]

    def __str__(self) -> str:
        exponential, algebraic = self.residuals
        return (
            f"Growth: {self.kind}; residuals {exponential:.2g} of e^({self.rate:.3g} t), "
            f"{algebraic:.2g} of t^{self.power:.3g}"
        )


def tangent_growth(spectrum: LyapunovSpectrum) -> Growth:
    """Whether the leading tangent vector of a computed spectrum grew exponentially or like a power of time.

    Algebraic separation, λ1 ~ log T / T, is not chaos. Both laws, log growth = a + λt and a + p log t, are fitted to the last
    nine tenths of the run; one is chosen if its residual is less than half the other's.
    """
    _checks.require_made("spectrum", spectrum, LyapunovSpectrum, "lyapunov_spectrum of one orbit")
    t = spectrum.times - spectrum.times[0] + spectrum.dt
    if len(t) < 20:
        raise ValueError(f"`spectrum` must cover at least 20 intervals, but has {len(t)}.")
    log_growth = np.cumsum(spectrum.local[:, 0]) * spectrum.dt
    # Averages over neighbouring intervals: what oscillates along the orbit says nothing about growth.
    width = max(len(t) // GROWTH_POINTS, 1)
    t, log_growth = (x[: len(x) // width * width].reshape(-1, width).mean(axis=1) for x in (t, log_growth))
    kept = slice(len(t) // 10, None)
    (rate, exponential), (power, algebraic) = (_line(x[kept], log_growth[kept]) for x in (t, np.log(t)))
    kind: Literal["exponential", "algebraic", "undecided"] = "undecided"
    if exponential < algebraic / 2:
        kind = "exponential"
    elif algebraic < exponential / 2:
        kind = "algebraic"
    return Growth(kind, rate, power, (exponential, algebraic))


def end_of_growth(local: Float[np.ndarray, " intervals"], dt: float) -> int | None:
    """After how many intervals tangent vectors ceased to grow, by their local exponents; None if they did not.

    That is where the logarithm of their length is highest above the straight line from its start to its end. They had grown
    before, by a factor e³ at least, and from then on grow ten times more slowly, if at all.
    """
    count = len(local)
    log_growth = np.cumsum(local) * dt
    end = int(np.argmax(log_growth - log_growth[-1] * np.arange(1, count + 1) / count)) + 1 if count else 0
    if min(end, count - end) < FEWEST_ON_EITHER_SIDE or log_growth[end - 1] < LEAST_GROWTH:
        return None
    before, after = local[:end].mean(), local[end:].mean()
    return end if after < before / 10 else None


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and root-mean-square residual of a straight line."""
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(np.sqrt(np.mean((y - slope * x - intercept) ** 2)))

"""The indicators that a verdict weighs, each with what it found in words."""

import numpy as np
from jaxtyping import Float

from curlflow.chaos.gali import aligned_volumes
from curlflow.chaos.growth import Growth, tangent_growth
from curlflow.chaos.kinds import Evidence
from curlflow.chaos.recorded import decorrelation, zero_one_test
from curlflow.chaos.result import LyapunovSpectrum

CHAOTIC_ABOVE = 0.8
# The 0–1 test takes a slow series for a regular one. It needs this many samples a decorrelation time or more apart.
FEWEST_DECORRELATED = 200
# It is given one of so many coordinates, which vary at least so much as the one that varies most.
MOST_CANDIDATES, VARIES_MUCH = 8, 0.2
# Tangent vectors of regular motion grow like t, its shear; a steeper power is a growth that has not shown its kind yet.
STEEPEST_REGULAR_POWER = 2.0
# A volume of tangent directions below this has collapsed; rounding would be 1e-16.
COLLAPSED_VOLUME = 1e-8
LONGEST_ALIGNMENT = 2000


def soonest_forgotten(columns: Float[np.ndarray, "times columns"]) -> Float[np.ndarray, " times"]:
    """Of the coordinates that vary much, the one whose autocorrelation vanishes soonest."""
    spread = columns.std(axis=0)
    most = np.argsort(-spread, kind="stable")[:MOST_CANDIDATES]
    candidates = [columns[:, i] for i in most if spread[i] >= VARIES_MUCH * spread[most[0]]]
    return min(candidates, key=decorrelation)


def zero_one(series: Float[np.ndarray, " times"]) -> Evidence:
    """The 0–1 test of a series, thinned out until its samples are decorrelated; NaN if too few are left."""
    thinned = series[:: decorrelation(series)]
    if len(thinned) < FEWEST_DECORRELATED:
        sentence = f"0–1 test: not to be trusted, the series has only {len(thinned)} decorrelation times; take a longer `T`."
        return Evidence("0–1 test", np.nan, CHAOTIC_ABOVE, sentence)
    K = zero_one_test(thinned)
    return Evidence("0–1 test", K, CHAOTIC_ABOVE, f"0–1 test: K = {K:.2f} (near 1 chaotic, near 0 regular).")


def growth_of_tangents(spectrum: LyapunovSpectrum) -> tuple[Growth, Evidence]:
    """Whether tangent vectors grew like an exponential or like a power of time."""
    growth = tangent_growth(spectrum)
    sentence = (
        f"Growth of tangent vectors: {growth.kind}; residuals {growth.residuals[0]:.2g} of e^({growth.rate:.3g} t), "
        f"{growth.residuals[1]:.2g} of t^{growth.power:.3g}."
    )
    return growth, Evidence("growth of tangent vectors", growth.power, STEEPEST_REGULAR_POWER, sentence)


def alignment(spectrum: LyapunovSpectrum) -> list[Evidence]:
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

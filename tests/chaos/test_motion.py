"""The indicators on motions whose kind is known, and the verdict that weighs them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_motions import SHARED, SPACE, SYSTEMS, UNDECIDED_TODAY, Map, verdict_on
from reference_systems import henon_heiles, lorenz

from curlflow import chaos
from curlflow.chaos import Motion, lyapunov_spectrum

GOLDEN_RATIO = (1 + 5**0.5) / 2


def two_oscillators(t, y, args):
    """Two oscillators with frequencies 1 and the golden ratio, each on its own circle: quasi-periodic."""
    a, b = y[:2], y[2:]
    spin = jnp.stack([-a[1], a[0], -GOLDEN_RATIO * b[1], GOLDEN_RATIO * b[0]])
    pull = jnp.concatenate([a * (1 - jnp.vdot(a, a)), b * (1 - jnp.vdot(b, b))])
    return spin + pull


KNOWN = [
    pytest.param(
        known, id=name, marks=() if any(known.system is each for each in SHARED) else pytest.mark.slow
    )
    for name, known in SYSTEMS.items()
]


@pytest.mark.parametrize("known", KNOWN)
def test_verdicts_on_known_motions(known):
    found = verdict_on(known)
    assert found.motion in (known.truth, *known.allowed), str(found)
    assert str(found).startswith(f"Verdict: {found.motion.value}")


def test_few_of_the_known_motions_may_stay_undecided():
    # Systems of which "undecided" is the truth are no failures; the table itself says which others may end so today.
    assert len(SYSTEMS) >= 60
    assert len(UNDECIDED_TODAY) <= 0.15 * len(SYSTEMS)


@pytest.mark.slow
def test_no_more_than_these_stay_undecided():
    undecided = {
        name
        for name, known in SYSTEMS.items()
        if known.truth != "undecided" and verdict_on(known).motion == "undecided"
    }
    assert undecided <= UNDECIDED_TODAY


def test_too_short_a_run_is_undecided():
    result = chaos.verdict(lorenz, jnp.array([1.0, 2.0, 3.0]), T=4.0)
    assert result.motion is Motion.UNDECIDED


def drifting_oscillators(t, y, args):
    """The two oscillators beside a number that creeps towards 1: not yet what it will be."""
    return jnp.append(two_oscillators(t, y[:4], args), 0.004 * (10.0 - y[4]))


@pytest.mark.slow
def test_a_slow_drift_is_undecided_and_not_quasi_periodic():
    result = chaos.verdict(drifting_oscillators, jnp.array([1.0, 0.5, 0.3, 1.0, 0.0]), T=300.0, Ttr=10.0)
    assert result.motion is Motion.UNDECIDED, str(result)
    assert any("still on a slow way to where it settles" in each.sentence for each in result.evidence)


@pytest.mark.slow
def test_chaos_seen_for_a_few_lyapunov_times_is_undecided():
    def slow(t, y, args):
        return lorenz(t, y, args) / 50

    result = chaos.verdict(slow, jnp.array([-8.0, -8.0, 27.0]), T=200.0, Ttr=100.0)
    assert result.motion is Motion.UNDECIDED, str(result)


def test_angles_and_the_period_of_a_forcing_are_checked():
    y0, spin = jnp.array([0.0, 1.0]), {"T": 100.0}
    for angles, message in (([1.0], "look like the state"), ([-1.0, 0.0], "not negative")):
        with pytest.raises(ValueError, match=message):
            chaos.verdict(SPACE, y0, angles=jnp.array(angles), **spin)
    with pytest.raises(ValueError, match="`period` must be positive"):
        chaos.verdict(SPACE, y0, period=-1.0, **spin)
    with pytest.raises(ValueError, match="`period` must be left out"):
        chaos.verdict(CalmsDown(), y0, period=1.0, **spin)


def forced_map(n, y):
    return 0.5 * y + jnp.cos(2 * jnp.pi * n / 7)


def test_a_forced_map_closes_with_its_forcing():
    # Any orbit on a line passes its old value; this one is back after seven steps.
    found = chaos.verdict(Map(forced_map), jnp.array([0.3]), T=500, Ttr=100)
    assert found.motion is Motion.PERIODIC, str(found)


class CalmsDown:
    """Triples the angle of a point around the origin for 5000 steps, which is chaos, and rotates it from then on."""

    def step(self, n, y, args):
        angle = jnp.where(n < 5000, 3.0, 1.0) * jnp.arctan2(y[1], y[0]) + GOLDEN_RATIO
        return jnp.linalg.norm(y) * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def test_a_map_that_depends_on_n_is_observed_where_its_run_ended():
    result = chaos.verdict(CalmsDown(), jnp.array([1.0, 0.0]), T=1000, Ttr=5000)
    assert result.motion is Motion.QUASI_PERIODIC, str(result)


def test_an_observable_that_does_not_vary_is_regular():
    result = chaos.verdict(
        CalmsDown(), jnp.array([1.0, 0.0]), T=1000, Ttr=5000, observable=lambda y: 0 * y[0]
    )
    assert "0–1 test: K = 0.00" in str(result)


@pytest.mark.slow
def test_more_exponents_may_be_asked_for():
    result = chaos.verdict(two_oscillators, jnp.array([1.0, 0.5, 0.3, 1.0]), 4, T=60.0)
    np.testing.assert_allclose(result.spectrum.exponents[2:], -2.0, atol=0.2)


def test_gali_collapses_at_the_rate_of_the_exponents_gap():
    # Skokos et al.: GALI_2 ~ exp(−(λ1 − λ2) t).
    times, volume = chaos.gali(lorenz, jnp.array([1.0, 2.0, 3.0]), T=25.0, Ttr=20.0, dt=0.5)
    kept = volume > 1e-12
    slope = np.polyfit(times[kept], np.log(volume[kept]), 1)[0]
    assert slope == pytest.approx(-0.9, abs=0.35)


def test_gali_of_a_regular_orbit_does_not_collapse():
    start = {"q": jnp.array([0.0, 0.1]), "p": jnp.array([0.2, 0.05])}
    _, volume = chaos.gali(henon_heiles, start, T=200.0)
    assert volume.min() > 1e-3


class SlowRotation:
    """A step by a hundredth of a radian, which never closes."""

    def step(self, n, y, args):
        c, s = jnp.cos(0.01), jnp.sin(0.01)
        return jnp.array([[c, -s], [s, c]]) @ y


def test_a_map_is_observed_for_as_long_as_its_exponents():
    found = chaos.verdict(SlowRotation(), jnp.array([1.0, 0.0]), T=60_000, dt=10.0)
    assert found.motion == "quasi-periodic", str(found)


def test_the_zero_one_test_on_maps():
    y, logistic = 0.3, []
    for _ in range(3000):
        y = 4 * y * (1 - y)
        logistic.append(y)
    assert chaos.zero_one_test(logistic) > 0.95
    assert abs(chaos.zero_one_test(np.cos(GOLDEN_RATIO * np.arange(3000)))) < 0.1


def test_growth_tells_a_power_from_an_exponential():
    # ẋ = y, ẏ = 0 separates like t; a saddle like an exponential.
    shear = lyapunov_spectrum(lambda t, y, args: jnp.stack([y[1], 0 * y[0]]), jnp.ones(2), 1, T=500.0)
    saddle = lyapunov_spectrum(lambda t, y, args: jnp.stack([y[0], -y[1]]) / 10, jnp.zeros(2), 1, T=500.0)
    assert chaos.tangent_growth(shear).kind == "algebraic"
    assert chaos.tangent_growth(shear).power == pytest.approx(1.0, abs=0.05)
    assert chaos.tangent_growth(saddle).kind == "exponential"
    assert chaos.tangent_growth(saddle).rate == pytest.approx(0.1, abs=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`k` must be at least 2"):
        chaos.gali(lorenz, jnp.ones(3), 1, T=10.0)
    with pytest.raises(ValueError, match="at least 200"):
        chaos.zero_one_test(np.zeros(10))
    with pytest.raises(ValueError, match="at least 20 intervals"):
        chaos.tangent_growth(lyapunov_spectrum(lorenz, jnp.ones(3), 1, T=5.0))


def test_the_same_key_gives_the_same_zero_one_test():
    series = np.cos(np.arange(400.0))
    values = [chaos.zero_one_test(series, key=jax.random.key(seed)) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]

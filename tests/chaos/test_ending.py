"""How runs end: at rest, on a cycle, where only rounding holds them; and not there, where motion is slow or small."""

import jax.numpy as jnp
import pytest
from known_motions import LINE_MAP, PLANE, SPACE, Map, coefficients, logistic, lorenz, polynomial

import curlflow as cf
from curlflow.outcome import Ending


def outcome(system, y0, **options):
    return cf.lyapunov_spectrum(system, jnp.array(y0), **options).outcome


def lorenz_28(x, y, z):
    return lorenz(28, x, y, z)


@pytest.mark.parametrize("T", [100.0, 2000.0])
def test_a_slow_motion_is_not_at_rest(T):
    slow = 1e-7 * coefficients(SPACE, lorenz_28)
    assert outcome(SPACE, [1.0, 2.0, 3.0], T=T, args=slow).ending is not Ending.FIXED_POINT


def test_a_motion_smaller_than_the_tolerance_is_not_at_rest():
    def tiny(t, y, args):
        return 1e-11 * SPACE(t, 1e11 * y, args)

    args = coefficients(SPACE, lorenz_28)
    assert outcome(tiny, [1e-11, 2e-11, 3e-11], T=100.0, args=args).ending is not Ending.FIXED_POINT


def test_a_stiff_system_at_rest_is_at_rest_whatever_its_unit_of_time():
    decay = polynomial(PLANE, lambda x, y: (-1000 * (x - 1), -y))
    assert outcome(PLANE, [2.0, 1.0], T=50.0, **decay).ending is Ending.FIXED_POINT


def test_a_slow_way_to_a_fixed_point_is_no_cycle():
    node = polynomial(PLANE, lambda x, y: (-1e-3 * x, -y))
    found = outcome(PLANE, [1.0, 1.0], T=400.0, Ttr=20.0, **node)
    assert found.ending is not Ending.CYCLE
    assert "verdict" in found.message


def test_rest_at_an_unstable_point_is_no_end_reached():
    saddle = polynomial(PLANE, lambda x, y: (0.2 * x, -y))
    found = outcome(PLANE, [0.0, 1.0], T=100.0, **saddle)
    assert found.ending is Ending.UNDECIDED
    assert "unstable fixed point" in found.message
    # Its stable twin is one; so is a focus, whose tangent vectors grow and shrink on their way round.
    focus = polynomial(PLANE, lambda x, y: (-0.2 * x + 5 * y, -0.2 * x - 0.2 * y))
    assert outcome(PLANE, [1.0, 1.0], T=200.0, **focus).ending is Ending.FIXED_POINT


def test_exponents_of_an_unstable_fixed_point_may_be_asked_for():
    # At the origin of the Lorenz system the largest is (−11 + √1201)/2. Where an orbit goes, it does not tell.
    at_origin = cf.verdict(SPACE, jnp.zeros(3), T=100.0, Ttr=20.0, args=coefficients(SPACE, lorenz_28))
    assert at_origin.spectrum.outcome.ending is Ending.FIXED_POINT
    assert at_origin.spectrum.exponents[0] == pytest.approx((1201**0.5 - 11) / 2, rel=1e-6)
    assert at_origin.motion == "undecided"


def test_a_map_whose_digits_ran_out_has_not_come_to_rest():
    found = outcome(Map(lambda n, y: jnp.mod(4 * y, 1.0)), [0.1234567], T=200)
    assert found.ending is Ending.UNDECIDED
    assert "digits" in found.message


def test_a_marginal_map_is_not_at_rest():
    # At r = 3 the distance to the fixed point falls like 1/√n.
    assert outcome(LINE_MAP, [0.3], T=5000, **logistic(3.0)).ending not in (Ending.FIXED_POINT, Ending.CYCLE)


def test_a_map_that_drifts_slowly_does_not_repeat_itself():
    creep = polynomial(LINE_MAP, lambda x: x + 1e-12 * (1 - 0.5 * x))
    assert outcome(LINE_MAP, [0.3], T=500, **creep).ending not in (Ending.FIXED_POINT, Ending.CYCLE)

"""Plots of spectra hold the numbers of the result."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from reference_systems import lorenz

import curlflow as cf
from curlflow.chaos import lyapunov_spectrum


@pytest.fixture(scope="module")
def spectrum():
    return lyapunov_spectrum(lorenz, jnp.array([1.0, 2.0, 3.0]), T=100.0, Ttr=10.0)


def test_convergence_draws_the_history_and_the_error(spectrum):
    _, ax = plt.subplots()
    lines = cf.plot.convergence(spectrum, ax=ax, most=2)
    assert len(lines) == 2
    np.testing.assert_array_equal(lines[1].get_ydata(), spectrum.history[:, 1])
    np.testing.assert_allclose(lines[0].get_xdata()[-1], 100.0)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(spectrum.exponents[0] + spectrum.stderr[0])


def test_bars_are_the_exponents_and_explained_zeros_are_hollow():
    ls = lyapunov_spectrum(cf.toy_flow(), jnp.array([2.0, 1.0]), T=100.0, Ttr=50.0)
    _, ax = plt.subplots()
    bars, _ = cf.plot.exponents(ls, zeros=ls.zeros(), ax=ax)
    np.testing.assert_array_equal([bar.get_height() for bar in bars], ls.exponents)
    assert bars[0].get_facecolor()[3] == 0
    assert bars[1].get_facecolor()[3] == 1
    ax.figure.canvas.draw()
    np.testing.assert_array_equal(ax.get_xticks() % 1, 0)


def test_the_distribution_is_that_of_the_windows(spectrum):
    _, ax = plt.subplots()
    bars = cf.plot.finite_time_distribution(spectrum, 2.0, ax=ax, density=False, bins=5)
    assert sum(bar.get_height() for bar in bars) == 50
    assert ax.get_lines()[0].get_xdata()[0] == spectrum.exponents[0]

"""What holds for every plot: where it draws, in what look, and what is left when it refuses."""

import inspect
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

import curlflow as cf

TOY = cf.toy_flow(1.0, flip="readout")
ONE_PANEL = (
    "loss",
    "convergence",
    "exponents",
    "finite_time_distribution",
    "spectrum",
    "stability_diagram",
    "survival",
    "survey",
    "phase_portrait",
)


@pytest.fixture(scope="module")
def plots() -> dict[str, Callable[..., Any]]:
    """Every plot by its name, with something to draw."""
    orbit = cf.integrate(TOY, jnp.array([-1.5, 0.5]), 8.0)
    exponents = cf.lyapunov_spectrum(cf.toy_flow(), jnp.array([2.0, 1.0]), T=20.0)
    times = cf.races.compare_times([1.0, 2.0], [3.0, 6.0], horizon=10.0)
    seen = cf.plane.survey(TOY, (-2, 2), (-2, 2), resolution=12)
    split = cf.gradient.helmholtz_split(TOY, (-1, 1), (-1, 1), resolution=11)
    two, window = {"one": TOY, "other": TOY.gradient_flow()}, ((-2, 2), (-2, 2))
    return {
        "loss": lambda **on: cf.plot.loss({"curl flow": orbit}, **on),
        "convergence": lambda **on: cf.plot.convergence(exponents, **on),
        "exponents": lambda **on: cf.plot.exponents(exponents, **on),
        "finite_time_distribution": lambda **on: cf.plot.finite_time_distribution(exponents, 2.0, **on),
        "spectrum": lambda **on: cf.plot.spectrum([1.0, 2.0], [1.0, 2.0], [0.5, 0.5], **on),
        "stability_diagram": lambda **on: cf.plot.stability_diagram(
            [0.1, 1.0], [0.0, 1.0], [[1.0, 1.0], [1.0, -1.0]], layer="hidden", **on
        ),
        "survival": lambda **on: cf.plot.survival(times, **on),
        "survey": lambda **on: cf.plot.survey(seen, **on),
        "phase_portrait": lambda **on: cf.plot.phase_portrait(TOY, *window, resolution=12, **on),
        "helmholtz": lambda **on: cf.plot.helmholtz(split, **on),
        "compare_portraits": lambda: cf.plot.compare_portraits(two, *window, resolution=12),
    }


def is_empty(ax: Axes) -> bool:
    return not ax.has_data() and not ax.get_xlabel()


def look(ax: Axes) -> tuple[Any, ...]:
    tick = ax.xaxis.get_major_ticks()[0]
    label = ax.xaxis.label.get_fontsize()
    return label, tick.label1.get_fontsize(), tick.tick1line.get_markersize(), ax.spines["top"].get_visible()


# ------------------------------------------------------------------------------------ where a plot draws


@pytest.mark.parametrize("name", [*ONE_PANEL, "helmholtz", "compare_portraits"])
def test_without_axes_a_plot_makes_a_new_figure_in_the_papers_style(
    plots: dict[str, Callable[..., Any]], name: str
):
    others, settings = plt.figure().add_subplot(), dict(mpl.rcParams)
    plots[name]()
    assert len(plt.get_fignums()) == 2
    assert is_empty(others)
    figure = plt.gcf()
    columns = 2 if name in ("helmholtz", "compare_portraits") else 1
    assert 25.4 * figure.get_size_inches()[0] == pytest.approx({1: 85.0, 2: 178.0}[columns])
    assert look(figure.axes[0]) == (8.0, 7.0, 2.5, False)
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize("name", ONE_PANEL)
def test_the_axes_given_are_drawn_on_in_their_own_look(plots: dict[str, Callable[..., Any]], name: str):
    figure, (others, ax) = plt.subplots(1, 2)
    before, size = look(ax), tuple(figure.get_size_inches())
    plots[name](ax=ax)
    assert plt.get_fignums() == [figure.number]
    assert is_empty(others)
    assert not is_empty(ax)
    assert look(ax) == before
    assert tuple(figure.get_size_inches()) == size


@pytest.mark.parametrize(
    "refused",
    [
        lambda: cf.plot.loss({}),
        lambda: cf.plot.stability_diagram([0.1], [0.1], [[1.0]], layer="both"),
        lambda: cf.plot.compare_portraits({"one": TOY, "other": TOY}, (1, -1), (-1, 1)),
    ],
)
def test_a_refused_plot_leaves_no_empty_figure(refused: Callable[[], Any]):
    with pytest.raises(ValueError, match="must"):
        refused()
    assert plt.get_fignums() == []


def test_plots_keep_their_signatures_and_docstrings():
    for name in ONE_PANEL:
        plot = getattr(cf.plot, name)
        axes = inspect.signature(plot).parameters["ax"]
        assert (axes.kind, axes.default) == (inspect.Parameter.KEYWORD_ONLY, None)
        assert plot.__name__ == name
        assert (
            "    ax\n        Matplotlib axes to draw on; None makes a new figure in the paper's style."
            in plot.__doc__
        )


def test_a_portraits_own_figure_is_as_high_as_its_legend_needs():
    seen = cf.plane.survey(TOY, (-2, 2), (-2, 2), resolution=12)
    heights = {}
    for nullclines in (None, (seen.separatrices, seen.separatrices)):
        ax = cf.plot.survey(replace(seen, nullclines=nullclines)).ax
        heights[len(ax.get_legend().get_texts())] = ax.figure.get_size_inches()[1]
    assert list(heights) == [6, 8]
    assert heights[8] - heights[6] == pytest.approx(0.15, abs=0.01)  # one row more
    plain = cf.plot.survey(seen, legend=False).ax.figure
    np.testing.assert_allclose(*plain.get_size_inches(), rtol=0.1)


# ----------------------------------------------------------------------------------- what a plot returns


def test_what_a_plot_returns_is_fixed_and_prints_itself(plots: dict[str, Callable[..., Any]]):
    printed = {
        "phase_portrait": "Portrait: 3 fixed points, 0 trajectories, loss as background",
        "spectrum": "SpectrumPlot: 60 bins, 0 atoms",
        "helmholtz": "HelmholtzPanels: a  velocity, b  gradient, ",
    }
    for name, line in printed.items():
        drawn = plots[name]()
        assert repr(drawn) == f"{drawn}"
        assert f"{drawn}".startswith(line)
        for field in fields(drawn):
            with pytest.raises(FrozenInstanceError):
                setattr(drawn, field.name, None)
            assert not isinstance(getattr(drawn, field.name), list)


def test_a_portrait_counts_what_it_shows():
    seen = cf.plane.survey(cf.toy_flow(flip=None), (-2, 2), (-2, 2), resolution=12)
    orbit = cf.integrate(cf.toy_flow(flip=None), jnp.array([0.5, 0.5]), 1.0)
    assert str(cf.plot.survey(seen, trajectories=[orbit], background="speed")) == (
        "Portrait: 1 fixed point, 1 trajectory, speed as background"
    )
    assert str(cf.plot.survey(seen, background=None)) == "Portrait: 1 fixed point, 0 trajectories"
    assert str(
        cf.plot.spectrum(
            [1.0, 2.0], [1.0, 2.0], [0.5, 0.5], atoms=cf.random_matrix.Atoms(np.array(1.0), np.array(0.5))
        )
    ).endswith(", 1 atom")


# ---------------------------------------------------------------------------------------- the style sheet


def test_the_style_sheet_is_the_papers_style():
    with mpl.rc_context():
        plt.style.use("curlflow.plot.paper")
        sheet = dict(mpl.rcParams)
    with cf.plot.paper_style():
        assert {**mpl.rcParams, "figure.figsize": None} == {**sheet, "figure.figsize": None}
        np.testing.assert_allclose(mpl.rcParams["figure.figsize"], sheet["figure.figsize"])
    assert sheet["pdf.fonttype"] == 42
    assert 25.4 * sheet["figure.figsize"][0] == pytest.approx(85.0)

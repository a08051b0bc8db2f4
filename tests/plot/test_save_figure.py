"""`save_figure` finds the one figure in which anything lies that a plot returned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import curlflow as cf

GRID = np.linspace(-1, 1, 5)


def portrait(ax: Axes) -> cf.plot.Portrait:
    marks = tuple(ax.plot(0, 0))
    return cf.plot.Portrait(ax, None, None, (None, None), (), (), marks, ())


@pytest.fixture
def figure() -> Any:
    made, _ = plt.subplots(1, 2)
    yield made
    plt.close(made)


DRAWN: dict[str, Callable[[Figure], Any]] = {
    "figure": lambda figure: figure,
    "subfigure": lambda figure: figure.subfigures(1, 2)[0].subfigures(2, 1)[1],
    "axes": lambda figure: figure.axes[0],
    "axes in a subfigure": lambda figure: figure.subfigures().subplots(),
    "array of axes": lambda figure: np.array(figure.axes),
    "portrait": lambda figure: portrait(figure.axes[0]),
    "portraits": lambda figure: {"a": portrait(figure.axes[0]), "b": portrait(figure.axes[1])},
    "lines": lambda figure: figure.axes[0].plot(GRID, GRID),
    "bars and errors": lambda figure: (
        figure.axes[0].bar(GRID, GRID),
        figure.axes[0].errorbar(GRID, GRID, GRID**2),
    ),
    "contours": lambda figure: figure.axes[0].contour(GRID, GRID, np.outer(GRID, GRID)),
    "streamlines of which some are none": lambda figure: cf.plot.HelmholtzPanels(
        tuple(figure.axes),
        (figure.axes[0].streamplot(GRID, GRID, np.ones((5, 5)), np.ones((5, 5))), None),
        (),
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_it_saves_the_figure_in_which_it_lies(
    name: str, figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **options: saved.append((self, path)))
    assert cf.plot.save_figure(DRAWN[name](figure), tmp_path / "figure.pdf") == tmp_path / "figure.pdf"
    assert saved == [(figure, tmp_path / "figure.pdf")]


def test_a_portrait_becomes_a_file(figure: Figure, tmp_path: Path):
    assert cf.plot.save_figure(portrait(figure.axes[0]), tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("drawn", "found"),
    [(None, "is NoneType"), ([], "is list"), ({"a": 1.0}, "is dict"), ("figure", "is str")],
)
def test_what_lies_in_no_figure_is_refused(drawn: Any, found: str, tmp_path: Path):
    with pytest.raises(ValueError, match=f"`figure` must be a figure, .* but {found} with nothing in it"):
        cf.plot.save_figure(drawn, tmp_path / "figure.pdf")


def test_what_was_removed_or_lies_in_two_figures_is_refused(figure: Figure, tmp_path: Path):
    (line,) = figure.axes[0].plot(GRID, GRID)
    other, ax = plt.subplots()
    try:
        with pytest.raises(ValueError, match="that lie in one, but lies in 2"):
            cf.plot.save_figure([line, ax], tmp_path / "figure.pdf")
    finally:
        plt.close(other)
    line.remove()
    with pytest.raises(ValueError, match="nothing in it that was drawn"):
        cf.plot.save_figure(line, tmp_path / "figure.pdf")
    assert list(tmp_path.iterdir()) == []

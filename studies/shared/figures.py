"""Figures of one column, and the letters of panels."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

import curlflow as cf


@contextmanager
def panel(path: Path, aspect: float = 0.75) -> Iterator[Axes]:
    """The axes of a figure of one column, which is saved in the end."""
    with cf.plot.paper_style(aspect=aspect):
        figure, ax = plt.subplots()
        yield ax
        cf.plot.save_figure(figure, path)


def letter_panels(axes: Iterable[Axes]) -> None:
    """Letters from a on, at the upper left of each panel."""
    for ax, letter in zip(axes, "abcdefghi", strict=False):
        ax.set_title(letter, loc="left", fontweight="bold")

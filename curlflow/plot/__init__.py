"""Figures: everything here draws results that were computed elsewhere."""

from curlflow.plot.curves import loss
from curlflow.plot.diagrams import stability_diagram
from curlflow.plot.fields import HelmholtzPanels, helmholtz
from curlflow.plot.lyapunov import convergence, exponents, finite_time_distribution
from curlflow.plot.portrait import Portrait, compare_portraits, phase_portrait, survey
from curlflow.plot.races import survival
from curlflow.plot.spectra import SpectrumPlot, spectrum
from curlflow.plot.style import paper_style, save_figure

__all__ = [
    "Portrait",
    "phase_portrait",
    "compare_portraits",
    "survey",
    "loss",
    "convergence",
    "exponents",
    "finite_time_distribution",
    "SpectrumPlot",
    "spectrum",
    "stability_diagram",
    "HelmholtzPanels",
    "helmholtz",
    "survival",
    "paper_style",
    "save_figure",
]

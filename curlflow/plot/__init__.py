"""Figures: everything here draws results that were computed elsewhere."""

from curlflow.plot.curves import plot_loss as plot_loss
from curlflow.plot.diagrams import plot_stability_diagram as plot_stability_diagram
from curlflow.plot.exponents import plot_convergence as plot_convergence
from curlflow.plot.exponents import plot_exponents as plot_exponents
from curlflow.plot.exponents import plot_finite_time_distribution as plot_finite_time_distribution
from curlflow.plot.helmholtz import HelmholtzPanels as HelmholtzPanels
from curlflow.plot.helmholtz import plot_helmholtz as plot_helmholtz
from curlflow.plot.portrait import Portrait as Portrait
from curlflow.plot.portrait import compare_portraits as compare_portraits
from curlflow.plot.portrait import draw_survey as draw_survey
from curlflow.plot.portrait import phase_portrait as phase_portrait
from curlflow.plot.spectra import plot_spectrum as plot_spectrum
from curlflow.plot.style import paper_style as paper_style
from curlflow.plot.style import save_figure as save_figure
from curlflow.plot.survival import plot_survival as plot_survival

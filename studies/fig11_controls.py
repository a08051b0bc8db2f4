"""Figure 11 of the paper and other controls: what the faster learning of Fig. 5 depends on.

    python studies/fig11_controls.py [--quick] [--workers N] [--parts free_samples …] [--out FOLDER]

Tanh networks as in `fig5_faster.py`. Each part writes a figure, its numbers (.nc) and tables; sweeps may be killed and are
resumed by the same command:

- free_samples  fig11_free_samples.pdf  Fig. 11a: norms left free, against the number of training samples;
- free_student  fig11_free_student.pdf  Fig. 11b: norms left free, against the scale of the student's weights;
- derivative    fig11_derivative.pdf    the gradient of ½⟨e²⟩, with the output's derivative that the paper's rule leaves out;
- feedback      fig11_feedback.pdf      direct feedback alignment against gradient descent, against its flipped synapses.

Cost: 9 minutes; with `--quick`: 3.
"""

from shared.parts import run_parts
from shared.races import Comparisons, Races, claim_faster, count_faster
from shared.verdicts import Claims


def claim_free_samples(comparisons: Comparisons) -> Claims:
    """As in Fig. 5c."""
    many = [each for value, each in comparisons.items() if value >= 500]
    return [claim_faster("11a: faster without the norm constraint too", many)]


def claim_free_student(comparisons: Comparisons) -> Claims:
    """As in Fig. 5d."""
    return [claim_faster("11b: and over a range of student scales", list(comparisons.values()))]


def claim_derivative(comparisons: Comparisons) -> Claims:
    """Not in the paper."""
    many = [each for value, each in comparisons.items() if value >= 500]
    return [("not in the paper: against the true gradient of ½⟨e²⟩", count_faster(many), "for comparison")]


def claim_feedback(comparisons: Comparisons) -> Claims:
    """Not in the paper; here "curl" stands for feedback alignment."""
    found = count_faster(list(comparisons.values()))
    return [("not in the paper: feedback alignment against backpropagation", found, "for comparison")]


SAMPLES = ("samples", [250, 500, 1000, 1500, 2000], [800])
FREE = Races("fig11", seeds=10, fixed=(("constrain", False),))
TRUE_GRADIENT = Races("fig11", seeds=10, fixed=(("objective", "squared error"),))
FEEDBACK = Races(
    "fig11", seeds=10, rules=("feedback alignment", "gradient descent"), fixed=(("feedback", True),)
)
PARTS = {
    "free_samples": FREE.along("free_samples", *SAMPLES, claim_free_samples, label="training samples"),
    "free_student": FREE.along(
        "free_student",
        "scale",
        [0.1, 0.5, 1.0, 2.0, 4.0, 8.0],
        [1.0, 2.0],
        claim_free_student,
        label="scale of the student's weights",
        scale="log",
        samples=10_000,
    ),
    "derivative": TRUE_GRADIENT.along("derivative", *SAMPLES, claim_derivative, label="training samples"),
    "feedback": FEEDBACK.along(
        "feedback",
        "flips",
        [0, 1, 2, 3],
        [0, 1],
        claim_feedback,
        label="flipped readout synapses",
        samples=2000,
    ),
}

if __name__ == "__main__":
    run_parts("fig11_controls", __doc__, PARTS)

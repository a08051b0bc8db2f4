"""Figure 5 of the paper: tanh networks, and how fast they learn with a flipped readout synapse.

    python studies/fig5_faster.py [--quick] [--workers N] [--parts errors samples …] [--out FOLDER]

Ten hidden units learn from a teacher of the same architecture and 100 inputs; the sign of one of their readout synapses is
flipped. Each part writes a figure, its numbers (.nc) and tables; sweeps may be killed and are resumed by the same command:

- errors   fig5_errors.pdf    Fig. 5b: test error against epochs;
- samples  fig5_samples.pdf   Fig. 5c: epochs until learned, against the number of training samples;
- student  fig5_student.pdf   Fig. 5d: against the scale of the student's weights;
- teacher  fig5_teacher.pdf   Fig. 5e: against the scale of the teacher's weights, the complexity of the task;
- flips    fig5_flips.pdf     Fig. 5f: against the number of flipped synapses;
- factor   fig5_factor.pdf    two points of Fig. 5c with 40 fresh seeds, which the size of the advantage is told from;
- check    fig5_check.pdf     the flow against minibatch descent as the paper runs it, at two points of Fig. 5c;
- check_flips  fig5_check_flips.pdf  and at two points of Fig. 5f.

Cost on one core: errors, samples, flips and both checks 20 minutes, student 9, teacher 50. With `--quick`: 6.
"""

import numpy as np

from shared.parts import run_parts
from shared.races import HORIZON, Comparisons, N, Races, claim_faster, is_faster, verdict_on_races
from shared.verdicts import Claims


def claim_samples(comparisons: Comparisons) -> Claims:
    """From 500 samples on."""
    many = [each for value, each in comparisons.items() if value >= 500]
    return [claim_faster("5c: faster from 500 samples on, p < .01", many)]


def claim_student(comparisons: Comparisons) -> Claims:
    """Over a broad range."""
    faster = [value for value, each in comparisons.items() if is_faster(each)]
    where = f"scales {min(faster):g} to {max(faster):g}; " if faster else ""
    return [claim_faster("5d: robust to a broad range of student scales", list(comparisons.values()), where)]


def claim_teacher(comparisons: Comparisons) -> Claims:
    """The critical scale is that from which on neither rule's median run learns."""
    critical = np.inf
    for value, each in reversed(comparisons.items()):
        if each is not None and np.isfinite(np.median([each.first, each.second], axis=1)).any():
            break
        critical = value
    below, above = (
        [each for value, each in comparisons.items() if (value < critical) == side] for side in (True, False)
    )
    equally = [not is_faster(each) for each in above]
    return [
        claim_faster("5e: below a critical scale faster, p < .01", below, f"below {critical:g} "),
        (
            "5e: above it both are equally poor",
            f"at {sum(equally)} of {len(equally)} points",
            verdict_on_races(equally, list(comparisons.values())),
        ),
    ]


def claim_flips(comparisons: Comparisons) -> Claims:
    """Up to half of them."""
    half = [each for value, each in comparisons.items() if value <= N // 2]
    return [claim_faster("5f: faster with up to 50 % flipped, p < .01", half)]


RACES = Races("fig5", seeds=10)
# The size of an effect is not told from the seeds on which it was found.
FRESH_RACES = Races("fig5", seeds=40, first_seed=10)
PARTS = {
    "errors": RACES.error_curves("5b: a single flipped synapse leads to faster convergence", samples=2000),
    "samples": RACES.along(
        "samples",
        "samples",
        np.linspace(100, 2000, 19).round(-1).tolist(),
        [400, 800],
        claim_samples,
        label="training samples",
    ),
    "student": RACES.along(
        "student",
        "scale",
        [0.01, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0],
        [1.0, 3.0],
        claim_student,
        label="scale of the student's weights",
        scale="log",
        samples=10_000,
    ),
    "teacher": RACES.along(
        "teacher",
        "teacher_scale",
        [0.1, *np.arange(0.25, 4.01, 0.25)],
        [1.0, 3.0],
        claim_teacher,
        label="scale of the teacher's weights",
        horizon=2 * HORIZON,
        samples=10_000,
    ),
    "flips": RACES.along(
        "flips",
        "flips",
        list(range(1, N + 1)),
        [1, 5],
        claim_flips,
        label=f"flipped readout synapses of {N}",
        samples=2000,
    ),
    "factor": FRESH_RACES.along(
        "factor", "samples", [700, 2000], [800], claim_samples, label="training samples, seeds 10 to 49"
    ),
    "check": RACES.check("check", "samples", [1000, 2000], [800], seeds=10, label="samples"),
    "check_flips": RACES.check(
        "check_flips", "flips", [4, 9], [4], seeds=10, label="flipped synapses", samples=2000
    ),
}

if __name__ == "__main__":
    run_parts("fig5_faster", __doc__, PARTS)

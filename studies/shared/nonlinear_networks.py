"""What the paper's simulations of nonlinear networks share: sizes, draws and the rule.

Inputs are N(0, I/2); the activation is at the output too; weights are uniform on ±scale/√fan-in; errors reach the weights
without the output's derivative (the paper's rule); both layers keep their norms; an epoch takes 0.1 units of time.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

import curlflow as cf
from shared.linear_networks import EPOCH, TEST_SAMPLES

# What counts as a low test error: students that fit all of 250 samples have some 10⁻⁴, as these do not tell all.
LOW_ERROR = 1e-3
# Times at which a run looks at its errors, evenly spaced in the logarithm: times are known to 2 percent.
LOOKS = 400


class Network(NamedTuple):
    """A student on its way to a teacher: the flow with its flips, both weights, and the error on test samples."""

    flow: cf.models.StudentFlow
    student: cf.Weights
    teacher: cf.Weights
    test_error: cf.orbits.PredictionError


def draw_network(
    seed: int,
    *,
    N: int,
    M: int,
    samples: int,
    activation: Any = "tanh",
    precision: Any = "float64",
    d1: Any = None,
    d2: Any = None,
    scale: float = 1.0,
    teacher_scale: float = 1.0,
    objective: Any = "matching",
    feedback: bool = False,
) -> Network:
    """A network of the paper, its student drawn on the given scale; signs are +1 unless given."""
    keys = jax.random.split(jax.random.key(seed), 4)
    weights = cf.ensembles.uniform_weights(keys[0], N=N, M=M, scale=teacher_scale)
    teacher = cf.models.Teacher(weights, activation=activation, activate_output=True)
    B = jax.random.uniform(jax.random.fold_in(jax.random.key(seed), 4), (N, 1), minval=-1, maxval=1)
    signs = cf.Weights(np.ones(M) if d1 is None else d1, np.ones(N) if d2 is None else d2)
    flow = cf.models.StudentFlow(
        *teacher.draw(keys[2], samples),
        signs,
        activation=activation,
        activate_output=True,
        objective=objective,
        precision=precision,
        feedback=B / N**0.5 if feedback else None,
    )
    student = cf.ensembles.uniform_weights(keys[1], N=N, M=M, scale=scale)
    return Network(
        flow, student, weights, cf.orbits.PredictionError(*teacher.draw(keys[3], TEST_SAMPLES), network=flow)
    )


def minibatch_descent(flow: cf.models.StudentFlow, seed: int) -> cf.models.MinibatchDescent:
    """The paper's way of learning: batches of ten samples, which divide the data anew in every epoch."""
    return cf.models.MinibatchDescent(flow, learning_rate=EPOCH, batch_size=10, key=jax.random.key(seed))


def looks(horizon: float) -> np.ndarray:
    """Times at which a run looks at its errors: the next one is at most some percent later."""
    return np.append(0.0, np.geomspace(1.0, horizon, LOOKS))


# A function of the module with the flow among its arguments, so that networks of one size share one compilation.


def move(t: Any, W: Any, args: Any) -> Any:
    """The flow's velocity."""
    return args["flow"](t, W)

"""What the paper's simulations of linear networks share: their sizes, draws and rules.

Students and teachers are uniform on ±1/√fan-in; inputs are N(0, I/2), 250 to learn from and 100 to test on; the first ⌊α n⌋
units are flipped; both layers keep their norms; an epoch takes 0.1 units of time.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import curlflow as cf

EPOCH = 0.1
INPUT_DEVIATION = 0.5**0.5
TRAINING_SAMPLES, TEST_SAMPLES = 250, 100
# A run has learned when its loss is below this. Fixed points of a flow are fixed points of every Runge–Kutta method: only the
# way to them is approximate.
LEARNED = 1e-13


class Network(NamedTuple):
    """A student on its way to a teacher: the norm-constrained flow, both weights, and the covariance of the test inputs."""

    flow: cf.NormConstrained
    student: cf.Weights
    teacher: cf.Weights
    test_covariance: Float[Array, "inputs inputs"]

    def test_error(self, y: Any) -> float:
        """½ mean (ŷ − y)² over the test inputs, of weights or of their Gram matrices."""
        full = self.flow.flow
        assert isinstance(full, cf.CurlFlow)
        E = full.S - y.end_to_end
        return float(jnp.trace(E @ self.test_covariance @ E.T)) / 2


def sizes(c: float, total: int) -> tuple[int, int]:
    """Hidden units N and inputs M, about `total` together, with M/N = c."""
    return int(total / (1 + c)), int(total / (1 + 1 / c))


def draw_network(
    c: float, seed: int, total: int, *, alpha_h: float = 0.0, alpha_r: float = 0.0, unit_norms: bool = False
) -> Network:
    """A network of the paper. With `unit_norms` the teacher's layers have the norms √N and 1."""
    (N, M), keys = sizes(c, total), jax.random.split(jax.random.key(seed), 4)
    teacher, student = (cf.ensembles.uniform_weights(key, N=N, M=M) for key in keys[:2])
    if unit_norms:
        norm1, norm2 = jnp.linalg.norm(teacher.W1), jnp.linalg.norm(teacher.W2)
        teacher = cf.Weights(teacher.W1 * N**0.5 / norm1, teacher.W2 / norm2)
    C, test_covariance = (
        cf.ensembles.sample_covariance(key, M=M, samples=samples, standard_deviation=INPUT_DEVIATION)
        for key, samples in zip(keys[2:], (TRAINING_SAMPLES, TEST_SAMPLES), strict=True)
    )
    d1 = cf.ensembles.sign_pattern(M, fraction=alpha_h)
    d2 = cf.ensembles.sign_pattern(N, fraction=alpha_r)
    flow = cf.NormConstrained(cf.CurlFlow(teacher.end_to_end, d1, d2, C))
    return Network(flow, student, teacher, test_covariance)


# A function of the module with the flow as its argument, so that networks of one size share one compilation.


def move(t: Any, y: Any, flow: Any) -> Any:
    """The flow's velocity."""
    return flow(t, y)


def has_learned(t: Any, y: Any, flow: Any) -> Any:
    """Whether the loss is below what counts as learned."""
    return flow.loss(y) < LEARNED


def is_steep(c: float, alpha_h: float) -> bool:
    """Whether a student's way is worth a solver whose steps stability does not limit.

    With few flipped inputs students drift slowly along a valley with steep walls, where stability limits the steps of an
    ordinary method; with many they turn about it. At the smallest ratios and without flips they learn; there an ordinary
    method would hover above the solution as high as its tolerance. The line between the two is measured, for linear and
    for tanh networks: which takes less time.
    """
    return c < 0.5 or alpha_h == 0 or c + 2 * alpha_h < 2


def learn(c: float, seed: int, *, alpha_h: float, total: int, T: float) -> dict[str, Any]:
    """One cell: a random student follows the flow until it has learned, or for the time T."""
    network = draw_network(c, seed, total, alpha_h=alpha_h)
    steep = is_steep(c, alpha_h)
    solver = cf.orbits.RungeKuttaChebyshev(stages=10) if steep else "tsit5"
    flow, y = network.flow, network.student
    # Below c = 1 Gram variables are fewer than weights, and of full rank. Beyond, a solver's errors can drive them out of the
    # positive matrices, and some runs blow up.
    if steep and c < 1:
        flow = cf.GramFlow.from_flow(network.flow)
        y = flow.reduce(network.student)
    run = cf.integrate(move, y, T, args=flow, ts=[T], solver=solver, rtol=1e-4, atol=1e-10, stop=has_learned)
    return {
        "test_error": network.test_error(run.final_state),
        "train_error": float(flow.loss(run.final_state)),
        "steps": run.stats["steps"],
        "outcome": run.outcome,
    }

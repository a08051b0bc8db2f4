"""Spectra of any network's errors on its samples, beside weights that solve its task."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow.models import NormConstrained, StudentFlow
from curlflow.system import State, StateLike

# Directions of the error that are followed at once: enough to fill the processor, few enough for a laptop's memory.
AT_ONCE = 64
# An error of this size, relative to the targets, is taken for rounding; beyond it the weights are no solution.
SOLVED = 1e-6


@result
class ErrorSpectrum:
    """Rates at which errors on samples grow or decay beside a solution, made by `error_spectrum`.

    Attributes
    ----------
    eigenvalues
        In order of descending real part, complex, shape (samples · P,), in units of 1/time.
    tolerance
        Rounding error of the eigenvalues.
    """

    eigenvalues: Complex[np.ndarray, " errors"]
    tolerance: float

    @property
    def leading(self) -> float:
        """The largest real part: the growth rate of the fastest error, or minus the decay rate of the slowest."""
        return float(np.real(self.eigenvalues[0]))

    @property
    def n_growing(self) -> int:
        """How many errors grow, beyond rounding error."""
        return int(np.sum(np.real(self.eigenvalues) > self.tolerance))

    @property
    def stable(self) -> bool:
        """Whether all errors decay, beyond rounding error."""
        return bool(self.leading < -self.tolerance)

    def to_xarray(self) -> "xr.Dataset":
        """Real and imaginary parts along the dimension `mode`."""
        parts = {"real": np.real(self.eigenvalues), "imaginary": np.imag(self.eigenvalues)}
        return xr.Dataset(
            {name: ("mode", part) for name, part in parts.items()}, attrs={"tolerance": self.tolerance}
        )

    def __str__(self) -> str:
        verdict = "stable" if self.stable else f"{self.n_growing} grow"
        return f"ErrorSpectrum: {self.eigenvalues.size} eigenvalues, {verdict}, leading eigenvalue {self.leading:.6g}"


def error_spectrum(flow: StudentFlow | NormConstrained, W: StateLike) -> ErrorSpectrum:
    r"""Rates at which a network's errors on its samples grow or decay beside a solution, without the weights' Jacobian.

    The velocity of a `StudentFlow` depends on its targets y linearly, through the errors e = y − ŷ. Beside weights that solve
    the task, e = 0, the errors therefore obey

    .. math:: \dot e = -\Theta\, e, \qquad \Theta = \frac{\partial \hat y}{\partial W}\, \frac{\partial \dot W}{\partial y},

    and the Jacobian of the flow, whose size is the number of weights, has the nonzero eigenvalues of −Θ, whose size is the
    number of errors; its others are zeros along the manifold of solutions. For gradient flow Θ is the neural tangent
    kernel J Jᵀ / samples. With flips it is J D Jᵀ / samples, D the signs: symmetric too, so that errors never oscillate, and
    solutions are stable as long as it is positive definite, for any activation and depth. The matching loss has an
    output slope more on one side of it, which by Sylvester's law of inertia changes neither statement. Feedback alignment
    and the norm constraint make Θ unsymmetric.

    Parameters
    ----------
    flow
        A `StudentFlow` of any depth and rule, or one that is `NormConstrained`.
    W
        Weights that solve the task. To ask about weights of a network on its way, give the flow their own answers as targets.

    Returns
    -------
    ErrorSpectrum
        One eigenvalue for each sample and output.

    Raises
    ------
    ValueError
        If `flow` is another flow, the weights do not fit it, or they leave an error.

    Notes
    -----
    With more errors than weights, or data that fewer dimensions hold, as for linear networks with more samples than inputs,
    some eigenvalues are 0: combinations of errors that no change of the weights can make. Then `stable` is false.

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, NeurIPS 2018, arXiv:1806.07572 (all signs +1).

    Examples
    --------
    A tanh network beside its teacher, by gradient flow and with half of its inputs flipped:

    >>> import curlflow as cf, jax
    >>> W = cf.ensembles.uniform_weights(jax.random.key(0), N=30, M=20)
    >>> X, y = cf.models.Teacher(W, activation="tanh").draw(jax.random.key(1), 100)
    >>> flow = cf.models.StudentFlow(
    ...     X, y, cf.Weights([-1.0] * 10 + [1.0] * 10, [1.0] * 30), activation="tanh"
    ... )
    >>> print(cf.manifold.error_spectrum(flow.gradient_flow(), W))
    ErrorSpectrum: 100 eigenvalues, stable, leading eigenvalue -3.93502e-05
    >>> cf.manifold.error_spectrum(flow, W).n_growing > 0
    True
    """
    student = _student(flow)
    W = _checks.state_pytree("W", W)
    student.check_state(W)
    _require_solution(student, W)
    kernel = np.asarray(_tangent_kernel(flow, W))
    eigenvalues = np.linalg.eigvals(-kernel).astype(complex)
    eps = float(np.finfo(student.precision).eps)
    return ErrorSpectrum(
        eigenvalues[np.argsort(-np.real(eigenvalues))],
        8 * len(kernel) * eps * float(np.linalg.norm(kernel, 2)),
    )


@eqx.filter_jit
def _tangent_kernel(flow: StudentFlow | NormConstrained, W: State) -> Float[Array, "errors errors"]:
    """Θ, column by column: how errors drive the weights, and how that drives the outputs."""
    student = _student(flow)
    X, shape = student.X.astype(jnp.float64), student.targets.shape

    def velocity(targets: Array) -> State:
        return eqx.tree_at(_targets, flow, targets)(0.0, W)

    _, drive = jax.linearize(velocity, student.targets)
    _, respond = jax.linearize(lambda W: student.output(W, X), W)

    def column(e: Array) -> Array:
        return respond(drive(e.reshape(shape))).ravel()

    return jax.lax.map(column, jnp.eye(student.targets.size, dtype=student.precision), batch_size=AT_ONCE).T


def _targets(flow: StudentFlow | NormConstrained) -> Any:  # inside tree_at a leaf is no array
    return _student(flow).targets


def _student(flow: StudentFlow | NormConstrained) -> StudentFlow:
    student = flow.flow if isinstance(flow, NormConstrained) else flow
    if not isinstance(student, StudentFlow):
        raise ValueError(
            "`flow` must be a StudentFlow, or NormConstrained around one, but is "
            f"{type(flow).__name__}{'' if flow is student else f' around {type(student).__name__}'}."
        )
    return student


def _require_solution(student: StudentFlow, W: State) -> None:
    error = (2 * float(student.error(W))) ** 0.5
    size = float(jnp.sqrt((student.targets.astype(jnp.float64) ** 2).sum(1).mean()))
    if not error <= SOLVED * size:
        raise ValueError(
            f"`W` must solve the task, but leaves errors of {error:.3g} to targets of {size:.3g} (root mean squares). "
            "Integrate the flow to its end, or give it `flow.output(W, X)` as targets."
        )

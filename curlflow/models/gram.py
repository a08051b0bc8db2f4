"""Curl flow in Gram variables: the exact reduction whose size does not depend on the number of hidden units."""

import math
from functools import lru_cache
from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.models.constrained import NormConstrained
from curlflow.models.curl import CurlFlow, Weights
from curlflow.system import Args, Time

# Eigenvalues of a Gram matrix within this fraction of its largest one are rounding error.
RANK_TOLERANCE = 1e-12


@final
class Gram(eqx.Module):
    """The inner products of all columns of a two-layer network's weights, as a pytree.

    One Gram matrix Γ = QᵀQ, Q = [W1 | W2ᵀ], for every group of hidden units whose readout rules have the same sign; the
    groups are the leading axis of every leaf. Symmetric blocks keep the rows of their upper triangle, one after the other.

    Parameters
    ----------
    inputs
        W1ᵀW1 of every group, packed: shape (groups, M (M + 1) / 2).
    cross
        W2 W1 of every group, shape (groups, P, M).
    outputs
        W2 W2ᵀ of every group, packed: shape (groups, P (P + 1) / 2).

    Examples
    --------
    >>> import curlflow as cf
    >>> flow = cf.GramFlow.from_flow(cf.CurlFlow(S=[1.0, 2.0], d1=[1, -1], d2=[1, 1, -1]))
    >>> gram = flow.reduce(cf.Weights(W1=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], W2=[[1.0, 0.0, 0.5]]))
    >>> gram.end_to_end
    Array([[1.5, 0.5]], dtype=float64)
    """

    inputs: Array = eqx.field(converter=jnp.asarray)
    cross: Array = eqx.field(converter=jnp.asarray)
    outputs: Array = eqx.field(converter=jnp.asarray)

    @property
    def end_to_end(self) -> Float[Array, "outputs inputs"]:
        """The linear map W2 W1 from inputs to outputs, shape (P, M)."""
        return self.cross.sum(axis=0)

    @property
    def input_gram(self) -> Float[Array, "inputs inputs"]:
        """W1ᵀW1 of all hidden units together, shape (M, M)."""
        return _unpacked(self.inputs.sum(axis=0))

    @property
    def output_gram(self) -> Float[Array, "outputs outputs"]:
        """W2 W2ᵀ of all hidden units together, shape (P, P)."""
        return _unpacked(self.outputs.sum(axis=0))

    @property
    def matrices(self) -> Float[Array, "groups n n"]:
        """The Gram matrices of the groups, shape (groups, M + P, M + P): inputs first, outputs after them."""
        upper = jnp.concatenate([_unpacked(self.inputs), jnp.swapaxes(self.cross, -1, -2)], axis=-1)
        lower = jnp.concatenate([self.cross, _unpacked(self.outputs)], axis=-1)
        return jnp.concatenate([upper, lower], axis=-2)

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "groups n n"], outputs: int) -> "Gram":
        """The state with the given symmetric matrices, whose last `outputs` rows belong to the outputs."""
        M = matrices.shape[-1] - outputs
        return cls(_packed(matrices[:, :M, :M]), matrices[:, M:, :M], _packed(matrices[:, M:, M:]))


@final
class GramFlow(eqx.Module):
    r"""Curl flow of a two-layer linear network of any width, exactly, in as many numbers as its inputs and outputs need.

    Rotations among hidden units whose readout rules have the same sign σ change nothing. What is left of those units,
    Qσ = [W1 | W2ᵀ], is Γσ = QσᵀQσ, of size n = M + P, and it obeys

    .. math::

        \dot\Gamma_\sigma = \Gamma_\sigma B_\sigma + B_\sigma^\top \Gamma_\sigma, \qquad
        B_\sigma = \begin{pmatrix} -\nu_1 I & \sigma C E^\top \\ E C D_1 & -\nu_2 I \end{pmatrix}, \qquad
        E = S - \sum_\sigma (\Gamma_\sigma)_{21}.

    ν1 = ν2 = 0 for the free flow. Under the norm constraint they are the rates at which the free flow stretches the layers,
    ν1 = tr(E C D1 W1ᵀW2ᵀ)/‖W1‖² and ν2 = tr(E C W1ᵀ D2 W2ᵀ)/‖W2‖², functions of the Γσ alone. The traces that the
    constraint fixes are linear in the state, so that every Runge–Kutta method keeps them to rounding error, whatever its
    step. A velocity costs O(P M²) operations for any number N of hidden units, against O(P N M) in the weights.

    Make it with `GramFlow.from_flow`, or directly to have no particular width.

    Parameters
    ----------
    S
        The teacher's end-to-end map, shape (P, M); shape (M,) means P = 1.
    d1
        Signs of the hidden layer's rule, shape (M,), each +1 or −1.
    signs
        The signs σ of the readout's rule, one per group of hidden units, shape (groups,); [1] if no readout is flipped.
    C
        Input covariance, shape (M, M), symmetric positive semidefinite; None means the identity.
    norm_constrained
        Whether the norms of both layers are held fixed, as by `NormConstrained`.

    Raises
    ------
    ValueError
        If shapes do not fit together, signs are not ±1, C is not symmetric positive semidefinite, a number is not finite,
        or JAX is set to float32.

    References
    ----------
    The flow is arXiv:2510.02765, Eq. 6. The reduction is not in the paper; the documentation derives it ("Gram variables").

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> full, student, _ = cf.ensembles.student_teacher(jax.random.key(0), N=1000, M=3, alpha_h=0.4)
    >>> flow = cf.GramFlow.from_flow(full)
    >>> reduced = cf.integrate(flow, flow.reduce(student), 1e-3)
    >>> exact = cf.integrate(full, student, 1e-3)
    >>> bool(abs(reduced.loss()[-1] / exact.loss()[-1] - 1) < 1e-6)
    True
    """

    S: Float[Array, "outputs inputs"]
    d1: Float[Array, " inputs"]
    signs: Float[Array, " groups"]
    C: Float[Array, "inputs inputs"] | None
    norm_constrained: bool = eqx.field(static=True)
    d2: Float[Array, " hidden"] | None

    def __init__(
        self,
        S: ArrayLike,
        d1: ArrayLike,
        signs: ArrayLike,
        C: ArrayLike | None = None,
        *,
        norm_constrained: bool = False,
    ):
        signs = _checks.float64_array("signs", signs)
        if signs.ndim != 1 or not signs.size:
            raise ValueError(
                f"`signs` must list the sign of every group of hidden units, but has shape {signs.shape}."
            )
        full = CurlFlow(S, d1, signs, C)
        self.S, self.d1, self.signs, self.C = full.S, full.d1, full.d2, full.C
        self.norm_constrained = bool(norm_constrained)
        self.d2 = None

    @classmethod
    def from_flow(cls, flow: "CurlFlow | NormConstrained") -> "GramFlow":
        """The reduction of a `CurlFlow`, or of a `CurlFlow` under a norm constraint; only the signs that occur get a group.

        Raises
        ------
        ValueError
            If `flow` is neither, if its constraint leaves a layer free, or if its signs d2 are not known because it was made
            inside `jax.jit` or `jax.vmap`.
        """
        full = flow.flow if isinstance(flow, NormConstrained) else flow
        if not isinstance(full, CurlFlow):
            raise ValueError(
                f"`flow` must be a CurlFlow or NormConstrained(CurlFlow), but is {type(flow).__name__} of "
                f"{type(full).__name__}: only these are known to reduce to Gram variables."
            )
        if isinstance(flow, NormConstrained) and flow.free is not None:
            raise ValueError(
                "`flow` must hold the norms of both layers, or of none, but leaves one of them free."
            )
        if _checks.is_traced(full.d2):
            raise ValueError(
                "`flow` must have known signs d2, but they are traced: reduce outside jit and vmap."
            )
        signs = np.unique(np.asarray(full.d2))[::-1]
        reduced = cls(
            full.S, full.d1, signs.copy(), full.C, norm_constrained=isinstance(flow, NormConstrained)
        )
        return eqx.tree_at(lambda flow: flow.d2, reduced, full.d2, is_leaf=lambda leaf: leaf is None)

    def __call__(self, t: Time, y: Gram, args: Args = None) -> Gram:
        """The velocity at the Gram matrices y; the flow is autonomous, so `t` and `args` are ignored."""
        self.check_state(y)
        K = self._drive(y)
        moved = self._moved(K, y)
        nu1, nu2 = self._growth_rates(K, y)
        return Gram(
            _packed_sum(moved.inputs) - 2 * nu1 * y.inputs,
            moved.cross + moved.cross_from_inputs - (nu1 + nu2) * y.cross,
            _packed_sum(moved.outputs) - 2 * nu2 * y.outputs,
        )

    def unit_generators(self, y: Gram) -> Float[Array, "groups n n"]:
        """The matrices Bσ that move a hidden unit with weights q = (row of W1, column of W2), q̇ = q Bσ: (groups, n, n)."""
        (P, M), K = self.S.shape, self._drive(y)
        nu1, nu2 = self._growth_rates(K, y)

        def generator(sign: Array) -> Array:
            return jnp.block([[-nu1 * jnp.eye(M), sign * K.T], [K * self.d1, -nu2 * jnp.eye(P)]])

        return jax.vmap(generator)(self.signs)

    def descend(self, y: Gram, step: Float[Array, ""] | float) -> Gram:
        r"""One Euler step of the hidden units' weights, Qσ ← Qσ (I + η Bσ), as their Gram matrices see it.

        It is exact, Γσ ← (I + η Bσ)ᵀ Γσ (I + η Bσ), and not an Euler step of Γσ, which would leave out the term of order η².
        """
        K = self._drive(y)
        moved = self._moved(K, y)
        own1, own2 = 1 - step * self._growth_rates(K, y)
        KD, signed = K * self.d1, self.signs[:, None, None]
        inputs = own1**2 * y.inputs + own1 * step * _packed_sum(moved.inputs)
        cross = own1 * own2 * y.cross + step * (own2 * moved.cross + own1 * moved.cross_from_inputs)
        outputs = own2**2 * y.outputs + own2 * step * _packed_sum(moved.outputs)
        return Gram(
            inputs + step**2 * _packed(jnp.einsum("pi,gpj->gij", KD, moved.cross)),
            cross + step**2 * signed * jnp.einsum("pi,gij->gpj", K, moved.inputs),
            outputs + step**2 * _packed(signed * jnp.einsum("gpi,qi->gpq", moved.cross_from_inputs, K)),
        )

    def rescale(self, y: Gram, like: Gram) -> Gram:
        """The state y with every layer of the network brought to the Frobenius norm that it has in the state `like`."""
        ratio1, ratio2 = jnp.sqrt(self.norms(like) / self.norms(y))
        return Gram(ratio1**2 * y.inputs, ratio1 * ratio2 * y.cross, ratio2**2 * y.outputs)

    def reduce(self, W: Weights) -> Gram:
        """The Gram matrices of the weights W.

        Raises
        ------
        ValueError
            If the flow was made without a width, or W does not have the shapes of the network it was made from.
        """
        _, (P, _) = self._require_width("reduce"), self.S.shape
        W = Weights(*(_checks.float64_array(name, getattr(W, name)) for name in ("W1", "W2")))
        CurlFlow(self.S, self.d1, self.d2, self.C).check_state(W)  # pyright: ignore[reportArgumentType]
        Q = jnp.concatenate([W.W1, W.W2.T], axis=1)
        of_group = self.d2 == self.signs[:, None]
        return Gram.from_matrices(jnp.einsum("gn,ni,nj->gij", of_group.astype(Q.dtype), Q, Q), P)

    def lift(self, y: Gram) -> Weights:
        """Weights with the Gram matrices y: one representative of the many, which differ by rotations among hidden units.

        The hidden units of a group get the directions of its Gram matrix's eigenvectors, the largest first; units beyond its
        rank get zeros.

        Raises
        ------
        ValueError
            If the flow was made without a width, a Gram matrix is not positive semidefinite, or its rank exceeds the
            number of hidden units in its group.
        """
        d2 = np.asarray(self._require_width("lift"))
        self.check_state(y)
        M = self.S.shape[1]
        Q = np.zeros((len(d2), M + self.S.shape[0]))
        for sign, matrix in zip(np.asarray(self.signs), np.asarray(y.matrices), strict=True):
            units = np.flatnonzero(d2 == sign)
            root = _root(matrix, f"of the group with sign {sign:+g}", len(units))
            Q[units[: len(root)]] = root
        return Weights(Q[:, :M], Q[:, M:].T)

    def wide_start(self, norm1: float, norm2: float, alpha_r: float | None = None) -> Gram:
        """The Gram matrices of infinitely many hidden units with independent random weights of mean zero.

        As N grows with the norms of the layers held fixed, the inner products of different columns vanish like 1/√N and
        those of a column with itself become equal. Every group gets its share of them.

        Parameters
        ----------
        norm1, norm2
            Frobenius norms of the layers. For weights of variance σ1²/M and σ2²/N as in `ensembles.gaussian_weights` they are
            σ1 √N and σ2 √P: the size of the first layer says how wide the network is.
        alpha_r
            The fraction of hidden units whose readout rule is flipped, between 0 and 1; needed if there are two groups.

        Raises
        ------
        ValueError
            If a norm is not positive, or the fraction does not fit the flow's groups.
        """
        (P, M), share = self.S.shape, self._shares(alpha_r)[:, None, None]
        variance1 = _checks.positive_number("norm1", norm1) ** 2 / M
        variance2 = _checks.positive_number("norm2", norm2) ** 2 / P
        diagonal = jnp.concatenate([jnp.full(M, variance1), jnp.full(P, variance2)])
        return Gram.from_matrices(share * jnp.diag(diagonal), P)

    def error(self, y: Gram) -> Float[Array, "outputs inputs"]:
        """The error map E = S − W2 W1, shape (P, M)."""
        return self.S - y.end_to_end

    def loss(self, y: Gram) -> Float[Array, ""]:
        """The loss ½ tr(E C Eᵀ): half the mean squared error over inputs of covariance C."""
        return jnp.vdot(self.error(y), self._drive(y)) / 2

    def norms(self, y: Gram) -> Float[Array, " layers"]:
        """The squared Frobenius norms of the two layers, shape (2,)."""
        P, M = self.S.shape
        inputs, outputs = y.inputs[:, _diagonal(M)], y.outputs[:, _diagonal(P)]
        return jnp.stack([inputs.sum(), outputs.sum()])

    def conserved(self, y: Gram) -> Array:
        r"""The conserved quantities: under the norm constraint the two squared norms, else (groups, n) traces of powers.

        The free flow conserves Qσ Jσ Qσᵀ, with Jσ = diag(D1, −σ I) (see `CurlFlow.conserved`), and of this matrix the Gram
        matrices know the nonzero eigenvalues: hence tr (Jσ Γσ)^k for k = 1 … n.
        """
        if self.norm_constrained:
            return self.norms(y)
        signature = jax.vmap(lambda sign: jnp.concatenate([self.d1, jnp.full(self.S.shape[0], -sign)]))(
            self.signs
        )
        product = signature[:, :, None] * y.matrices

        def next_power(power: Array, _: None) -> tuple[Array, Array]:
            return power @ product, jnp.trace(power, axis1=1, axis2=2)

        return jax.lax.scan(next_power, product, length=product.shape[-1])[1].T

    def gradient_flow(self) -> "GramFlow":
        """The same flow with every sign +1, on the same groups: gradient flow on the same loss."""
        every_sign = (jnp.ones_like(self.d1), jnp.ones_like(self.signs))
        return eqx.tree_at(lambda flow: (flow.d1, flow.signs), self, every_sign)

    def check_state(self, y: Gram) -> None:
        """Raise ValueError if y is not a `Gram` of this flow's groups, inputs and outputs."""
        if not isinstance(y, Gram):
            raise ValueError(
                f"The state of a GramFlow must be a Gram, but is {type(y).__name__}: reduce weights with `reduce`."
            )
        groups, (P, M) = len(self.signs), self.S.shape
        _checks.require_shape("inputs", y.inputs, (groups, M * (M + 1) // 2), "(groups, M (M + 1) / 2)")
        _checks.require_shape("cross", y.cross, (groups, P, M), "(groups, P, M)")
        _checks.require_shape("outputs", y.outputs, (groups, P * (P + 1) // 2), "(groups, P (P + 1) / 2)")
        if self.norm_constrained and not _checks.is_traced(y.inputs) and not (self.norms(y) > 0).all():
            raise ValueError(
                "Every layer of a norm-constrained flow must have a nonzero norm, "
                f"but their squares are {np.asarray(self.norms(y))}."
            )

    def _drive(self, y: Gram) -> Float[Array, "outputs inputs"]:
        """What both layers are driven by: the weighted error E C."""
        error = self.error(y)
        return error if self.C is None else error @ self.C

    def _moved(self, K: Float[Array, "outputs inputs"], y: Gram) -> "_Moved":
        """The blocks of Γσ Bσ without the diagonal of Bσ, with K = E C: products with P rows only."""
        signed, KD = self.signs[:, None, None], K * self.d1
        return _Moved(
            inputs=jnp.einsum("gpi,pj->gij", y.cross, KD),
            cross=jnp.einsum("gpq,qj->gpj", _unpacked(y.outputs), KD),
            cross_from_inputs=signed * jnp.einsum("pi,gij->gpj", K, _unpacked(y.inputs)),
            outputs=signed * jnp.einsum("gpi,qi->gpq", y.cross, K),
        )

    def _growth_rates(self, K: Float[Array, "outputs inputs"], y: Gram) -> Float[Array, " layers"]:
        """The rates ν1, ν2 at which the layers would stretch but for the norm constraint; 0 where there is none."""
        if not self.norm_constrained:
            return jnp.zeros(2)
        first = jnp.vdot(K * self.d1, y.end_to_end)
        second = jnp.vdot(K, jnp.einsum("g,gpi->pi", self.signs, y.cross))
        return jnp.stack([first, second]) / self.norms(y)

    def _require_width(self, method: str) -> Float[Array, " hidden"]:
        if self.d2 is None:
            raise ValueError(
                f"A GramFlow must be made by `from_flow`, of a network with hidden units, to `{method}`, "
                "but this one has no particular width."
            )
        return self.d2

    def _shares(self, alpha_r: float | None) -> Float[Array, " groups"]:
        """Which fraction of the hidden units every group has."""
        flipped = _checks.fraction("alpha_r", float(self.signs[0] < 0) if alpha_r is None else alpha_r)
        shares = jnp.where(self.signs < 0, flipped, 1 - flipped)
        if (len(self.signs) > 1 and alpha_r is None) or not np.isclose(float(shares.sum()), 1.0):
            raise ValueError(
                f"`alpha_r` must divide the hidden units among groups of signs {np.asarray(self.signs)}, but is {alpha_r}."
            )
        return shares


class _Moved(NamedTuple):
    """The blocks of Γ B; the upper right one transposed, so that it adds to the lower left one."""

    inputs: Float[Array, "groups inputs inputs"]
    cross: Float[Array, "groups outputs inputs"]
    cross_from_inputs: Float[Array, "groups outputs inputs"]
    outputs: Float[Array, "groups outputs outputs"]


# Packing is indexing with constants, which XLA makes faster here than any storage that would need none.


@lru_cache(maxsize=64)
def _upper_triangle(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(size)


@lru_cache(maxsize=64)
def _places(size: int) -> np.ndarray:
    """Where in the packed vector every entry of the symmetric matrix stands."""
    places = np.zeros((size, size), int)
    places[_upper_triangle(size)] = np.arange(size * (size + 1) // 2)
    return np.maximum(places, places.T)


def _diagonal(size: int) -> np.ndarray:
    return np.diag(_places(size))


def _packed(matrices: Float[Array, "*batch n n"]) -> Float[Array, "*batch packed"]:
    """The upper triangles of symmetric matrices, row by row."""
    return matrices[..., *_upper_triangle(matrices.shape[-1])]


def _packed_sum(matrices: Float[Array, "*batch n n"]) -> Float[Array, "*batch packed"]:
    """Every matrix plus its transpose, packed."""
    return _packed(matrices + jnp.swapaxes(matrices, -1, -2))


def _unpacked(packed: Float[Array, "*batch packed"]) -> Float[Array, "*batch n n"]:
    """Symmetric matrices from their upper triangles."""
    size = math.isqrt(2 * packed.shape[-1])
    return packed[..., _places(size)]


def _root(matrix: np.ndarray, where: str, units: int) -> np.ndarray:
    """Rows Q with QᵀQ = matrix, as many as its rank, which must not exceed the number of units."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    rounding = RANK_TOLERANCE * max(abs(eigenvalues[0]), abs(eigenvalues[-1]))
    if eigenvalues[0] < -rounding:
        raise ValueError(
            f"`y` must hold positive semidefinite Gram matrices, but that {where} has the eigenvalue {eigenvalues[0]:.3g}."
        )
    kept = np.flatnonzero(eigenvalues > rounding)[::-1]
    if len(kept) > units:
        raise ValueError(
            f"`y` must hold Gram matrices of at most the rank of the network's {units} hidden units, but that {where} "
            f"has rank {len(kept)}."
        )
    # All nonnegative eigenvalues that there are units for: those within rounding of zero may be true ones.
    kept = np.arange(len(eigenvalues))[::-1][:units]
    return np.sqrt(np.maximum(eigenvalues[kept], 0.0))[:, None] * vectors[:, kept].T

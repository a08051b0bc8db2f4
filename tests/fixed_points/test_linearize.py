"""Linearisation: Jacobians, spectra, divergence and curl against blocks and eigenvalues written out by hand."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_systems import Linear, henon_heiles, lorenz, lorenz96
from scipy.optimize import linear_sum_assignment

import curlflow as cf
from curlflow.fixed_points import linearize
from curlflow.fixed_points.linearize import LARGEST_DENSE_SYSTEM

N, M = 4, 3  # hidden units, inputs


def real(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, shape, elements=st.floats(-2, 2, width=16))


def signs(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, n, elements=st.sampled_from([-1.0, 1.0]))


@st.composite
def networks(draw: st.DrawFn) -> tuple[cf.CurlFlow, cf.Weights]:
    """One output or two, any signs in both layers, a covariance of any rank, and any weights."""
    P = draw(st.sampled_from([1, 2]))
    X = draw(real(3, M))
    flow = cf.CurlFlow(draw(real(P, M)), draw(signs(M)), draw(signs(N)), X.T @ X)
    return flow, cf.Weights(draw(real(N, M)), draw(real(P, N)))


def gaussian_network(seed: int, *, P: int, N: int = N, M: int = M) -> tuple[cf.CurlFlow, cf.Weights]:
    """A flow with random signs and C ≠ I, and a generic point of its solution manifold."""
    rng = np.random.default_rng(seed)
    W1, W2, X = rng.normal(size=(N, M)), rng.normal(size=(P, N)), rng.normal(size=(2 * M, M))
    flow = cf.CurlFlow(W2 @ W1, rng.choice([-1.0, 1.0], M), rng.choice([-1.0, 1.0], N), X.T @ X / (2 * M))
    return flow, cf.Weights(W1, W2)


def arrays_of(flow: cf.CurlFlow, W: cf.Weights) -> tuple[np.ndarray, ...]:
    assert flow.C is not None
    S, d1, d2, C, W1, W2 = (np.asarray(a) for a in (flow.S, flow.d1, flow.d2, flow.C, W.W1, W.W2))
    return S, np.diag(d1), np.diag(d2), C, W1, W2


def transposition(rows: int, columns: int) -> np.ndarray:
    """The permutation K with vec(Xᵀ) = K vec(X), vec row by row."""
    return np.eye(rows * columns)[np.arange(rows * columns).reshape(rows, columns).T.ravel()]


def jacobian_in_blocks(flow: cf.CurlFlow, W: cf.Weights) -> np.ndarray:
    """From vec(A X B) = (A ⊗ Bᵀ) vec(X), term by term of the product rule."""
    S, D1, D2, C, W1, W2 = arrays_of(flow, W)
    (P, _), EC = S.shape, (S - W2 @ W1) @ C
    hidden_by_hidden = -np.kron(W2.T @ W2, D1 @ C)
    hidden_by_readout = -np.kron(W2.T, (W1 @ C @ D1).T) + np.kron(np.eye(N), (EC @ D1).T) @ transposition(
        P, N
    )
    readout_by_hidden = -np.kron(W2, D2 @ W1 @ C) + np.kron(EC, D2) @ transposition(N, M)
    readout_by_readout = -np.kron(np.eye(P), D2 @ W1 @ C @ W1.T)
    return np.block([[hidden_by_hidden, hidden_by_readout], [readout_by_hidden, readout_by_readout]])


def assert_same_eigenvalues(actual: Any, expected: Any, atol: float) -> None:
    """Equal as sets with repetitions."""
    distances = np.abs(np.asarray(actual)[:, None] - np.asarray(expected)[None, :])
    assert distances.shape[0] == distances.shape[1]
    assert distances[linear_sum_assignment(distances)].max() < atol


def with_zeros(values: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([values, np.zeros(n - len(values))])


# ------------------------------------------------------------------------------------------ Jacobians


@given(networks())
def test_jacobian_of_curl_flow_is_the_product_rule_written_out(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    expected = jacobian_in_blocks(flow, W)
    scale = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(cf.jacobian(flow, W) / scale, expected / scale, rtol=1e-12, atol=1e-12)


@given(networks(), real(2, N * (M + 2)))
def test_operator_multiplies_by_the_jacobian_and_by_its_transpose(
    network: tuple[cf.CurlFlow, cf.Weights], vectors: np.ndarray
):
    flow, W = network
    flat, unravel = jax.flatten_util.ravel_pytree(W)
    J, (v, u) = np.asarray(cf.jacobian(flow, W)), vectors[:, : flat.size]
    Jv, JTu = products(flow, W, unravel(jnp.asarray(v)), unravel(jnp.asarray(u)))
    for product, expected in ((Jv, J @ v), (JTu, J.T @ u)):
        assert isinstance(product, cf.Weights)
        np.testing.assert_allclose(
            jax.flatten_util.ravel_pytree(product)[0], expected, rtol=1e-12, atol=1e-10
        )


@eqx.filter_jit
def products(flow: cf.CurlFlow, W: cf.Weights, v: cf.Weights, u: cf.Weights) -> tuple[Any, Any]:
    operator = cf.jacobian_operator(flow, W)
    return operator.mv(v), operator.transpose().mv(u)


def test_jacobian_of_a_state_of_named_parts_follows_the_order_of_the_pytree():
    y = {"q": jnp.array([0.3, -0.2]), "p": jnp.array([0.1, 0.4])}
    q1, q2 = y["q"]
    # p before q, by name.
    force = [[-1 - 2 * q2, -2 * q1], [-2 * q1, -1 + 2 * q2]]
    expected = np.block([[np.zeros((2, 2)), np.array(force)], [np.eye(2), np.zeros((2, 2))]])
    np.testing.assert_allclose(cf.jacobian(henon_heiles, y), expected, atol=1e-15)


def test_time_and_arguments_reach_the_vector_field():
    def field(t, y, args):
        return t * args["rate"] * y**2

    at = {"t": 2.0, "args": {"rate": 3.0}}
    y = jnp.array([1.0, -0.5])
    expected = np.diag(2 * 2.0 * 3.0 * y)
    np.testing.assert_allclose(cf.jacobian(field, y, **at), expected)
    np.testing.assert_allclose(cf.jacobian_operator(field, y, **at).mv(jnp.ones(2)), expected.sum(1))
    np.testing.assert_allclose(cf.spectrum(field, y, **at).eigenvalues, [12.0, -6.0])
    assert float(cf.fixed_points.divergence(field, y, **at)) == pytest.approx(6.0)
    assert float(cf.curl_fraction(field, y, **at)) == 0.0


def test_jacobian_can_be_taken_inside_transformations():
    ys = jnp.array([[2.0, 1.0], [0.3, -0.4]])
    flow = cf.toy_flow()
    stacked = jax.jit(jax.vmap(lambda y: cf.jacobian(flow, y)))(ys)
    np.testing.assert_allclose(stacked, [cf.jacobian(flow, y) for y in ys], rtol=1e-15)


# -------------------------------------------------------------------------------------------- spectra


@pytest.mark.parametrize("P", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_origin_has_plus_and_minus_the_roots_of_sign_times_teacher_strength(P: int, seed: int):
    flow, W = gaussian_network(seed, P=P)
    S, D1, D2, C, _, _ = arrays_of(flow, W)
    strengths = np.linalg.eigvalsh(S @ C @ D1 @ C @ S.T)
    roots = np.sqrt(np.outer(np.diag(D2), strengths).astype(complex)).ravel()
    found = cf.spectrum(flow, jtu.tree_map(jnp.zeros_like, W)).eigenvalues
    assert_same_eigenvalues(found, with_zeros(np.concatenate([roots, -roots]), N * (M + P)), atol=1e-10)


@pytest.mark.parametrize(("d1", "kind"), [([1, 1, -1], "saddle"), ([-1, -1, 1], "centre")])
def test_a_negative_teacher_strength_swaps_saddles_and_centres(d1: list[int], kind: str):
    """One output, C = I: Σ = Σ_j d1_j s_j², positive in the first case and negative in the second."""
    s = np.array([1.0, 2.0, 1.0])
    sigma = float(d1 @ s**2)
    origin = cf.Weights(np.zeros((2, 3)), np.zeros((1, 2)))
    found = cf.spectrum(cf.CurlFlow(s, d1, [1, 1]), origin).eigenvalues
    root = np.sqrt(complex(sigma))
    assert_same_eigenvalues(found, [root, root, -root, -root, 0, 0, 0, 0], atol=1e-10)
    assert kind == ("saddle" if abs(found[0].real) > 1 else "centre")
    assert cf.classify(cf.CurlFlow(s, d1, [1, 1]), origin).kind == kind


@pytest.mark.parametrize("P", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_solution_manifold_has_the_spectrum_of_small_matrices_and_zeros(P: int, seed: int):
    flow, W = gaussian_network(seed, P=P)
    _, D1, D2, C, W1, W2 = arrays_of(flow, W)
    across = np.concatenate(
        [np.linalg.eigvals(-C @ (W1.T @ D2 @ W1 + g * D1)) for g in np.linalg.eigvalsh(W2 @ W2.T)]
    )
    np.testing.assert_allclose(across.imag, 0.0, atol=1e-12)
    found = cf.spectrum(flow, W)
    assert_same_eigenvalues(found.eigenvalues, with_zeros(across, N * (M + P)), atol=1e-10)


def assert_is_an_eigensystem(found: cf.fixed_points.Spectrum, J: np.ndarray) -> None:
    values, vectors = found.eigenvalues, found.eigenvectors
    assert (np.diff(values.real) <= 1e-12).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), 1.0, rtol=1e-12)
    residuals = np.linalg.norm(J @ vectors - vectors * values, axis=0)
    np.testing.assert_allclose(found.residuals, residuals, atol=1e-12)
    assert residuals.max() < 1e-9


@pytest.fixture
def by_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """In small systems too, leading eigenvalues come from products alone, and nothing else stands in for them."""
    monkeypatch.setattr(linearize, "LARGEST_SMALL_SYSTEM", 0)
    monkeypatch.setattr(linearize, "LARGEST_FALLBACK_SYSTEM", 0)


@pytest.mark.usefixtures("by_products")
def test_leading_eigenvalues_from_products_alone_are_the_dense_ones():
    flow, W = gaussian_network(0, P=2, N=8, M=6)
    W = jtu.tree_map(lambda layer: 0.7 * layer, W)  # off the manifold, where eigenvalues are complex too
    dense, J = cf.spectrum(flow, W), np.asarray(cf.jacobian(flow, W))
    assert np.abs(dense.eigenvalues.imag).max() > 0.1
    assert_is_an_eigensystem(dense, J)
    gaps = np.flatnonzero(np.diff(dense.eigenvalues.real) < -1e-3) + 1  # where no complex pair is cut in two
    for k in map(int, gaps[:3]):
        leading = cf.spectrum(flow, W, k)
        assert leading.outcome.ok
        assert leading.eigenvectors.shape == (8 * (6 + 2), k)
        assert_is_an_eigensystem(leading, J)
        assert_same_eigenvalues(leading.eigenvalues, dense.eigenvalues[:k], atol=1e-9)
    again, other = (cf.spectrum(flow, W, k, key=jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(again.eigenvalues, leading.eigenvalues)
    np.testing.assert_allclose(other.eigenvalues, again.eigenvalues, atol=1e-9)


def test_nearly_all_eigenvalues_come_from_the_dense_matrix():
    flow, W = gaussian_network(0, P=1)
    n = N * (M + 1)
    all_of_them = cf.spectrum(flow, W)
    for k in (n - 1, n):
        np.testing.assert_array_equal(cf.spectrum(flow, W, k).eigenvalues, all_of_them.eigenvalues[:k])


def chain(n: int) -> np.ndarray:
    """Upper triangular, strongly non-normal; its eigenvalues are 0.2 and −0.5, n − 1 times."""
    return np.diag([0.2, *[-0.5] * (n - 1)]) + np.diag(np.full(n - 1, 0.45), 1)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_eigenvalues_that_rounding_moves_are_called_a_pseudospectrum(scale: float):
    """Whatever the unit of time. The matrix is turned, so that a solver cannot read the eigenvalues off its diagonal."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(100, 100)))[0]
    found = cf.spectrum(Linear(jnp.asarray(scale * turn @ chain(100) @ turn.T)), jnp.zeros(100), 5)
    assert found.outcome.ending == "undecided"
    assert "pseudospectrum" in found.outcome.message
    assert (found.residuals < 1e-12 * scale).all()
    assert np.abs(found.eigenvalues[1:].real / scale + 0.5).max() > 0.1


@pytest.mark.usefixtures("by_products")
def test_what_the_iteration_takes_for_an_eigenvalue_is_called_a_pseudospectrum():
    """Of a chain of 28 it converges to −0.38, with residuals like rounding."""
    found = cf.spectrum(Linear(jnp.asarray(chain(28))), jnp.zeros(28), 5)
    assert (found.residuals < 1e-10).all()
    assert found.eigenvalues[1].real > -0.4
    assert found.outcome.ending == "undecided"
    assert "pseudospectrum" in found.outcome.message


@pytest.mark.parametrize("block", [[[0.0, 1.0], [0.0, 0.0]], [[-1.0, 5.0], [0.0, -2.0]]])
def test_a_double_eigenvalue_or_mild_shear_is_no_pseudospectrum(block: list[list[float]]):
    found = cf.spectrum(Linear(jnp.array(block)), jnp.zeros(2))
    assert found.outcome.ending == "completed"
    np.testing.assert_allclose(found.eigenvalues, np.diag(block), atol=1e-12)


def test_where_the_iteration_ends_without_a_result_the_matrix_stands_in(monkeypatch: pytest.MonkeyPatch):
    """Crowded leading eigenvalues, one restart: found all the same."""
    monkeypatch.setattr(linearize, "MOST_RESTARTS", 1)
    n = linearize.LARGEST_SMALL_SYSTEM + 1
    rates = jnp.linspace(-1e-3, 0.0, n)
    found = cf.spectrum(Linear(jnp.diag(rates)), jnp.zeros(n), 3)
    assert found.outcome.ending == "completed"
    np.testing.assert_allclose(found.eigenvalues, rates[:-4:-1], atol=1e-15)


@pytest.mark.usefixtures("by_products")
def test_what_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch):
    n = 200
    monkeypatch.setattr(linearize, "MOST_RESTARTS", 1)
    found = cf.spectrum(Linear(jnp.diag(jnp.linspace(0.0, 1e-3, n))), jnp.zeros(n), 3)
    assert found.outcome.ending == "not converged"
    assert len(found.eigenvalues) < 3
    assert f"Only {len(found.eigenvalues)} of 3 eigenvalues converged in 1 restarts" in f"{found}"
    assert "pseudospectrum" in found.outcome.message
    assert found.to_xarray().sizes["mode"] == len(found.eigenvalues)


@pytest.mark.usefixtures("by_products")
def test_residuals_measure_what_the_iteration_returned(monkeypatch: pytest.MonkeyPatch):
    def inexact(*a: Any, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = eigs(*a, **options)
        return values + 0.1j, vectors

    n, eigs = 20, scipy.sparse.linalg.eigs
    monkeypatch.setattr(scipy.sparse.linalg, "eigs", inexact)
    found = cf.spectrum(Linear(jnp.diag(jnp.linspace(0.0, 3.0, n))), jnp.zeros(n), 3)
    np.testing.assert_allclose(found.residuals, 0.1, rtol=1e-9)


@pytest.mark.usefixtures("by_products")
def test_an_iteration_that_cannot_start_says_so():
    found = cf.spectrum(lambda t, y, args: y**3, jnp.zeros(40), 3)
    assert found.outcome.ending == "not converged"
    assert (found.eigenvalues.shape, found.eigenvectors.shape, found.residuals.shape) == ((0,), (40, 0), (0,))
    assert "Ask for all eigenvalues" in str(found)


def test_a_spectrum_converts_and_prints():
    found = cf.spectrum(cf.toy_flow(), jnp.array([2.0, 0.5]))
    dataset = found.to_xarray()
    assert dict(dataset.sizes) == {"mode": 2, "state": 2}
    np.testing.assert_array_equal(dataset["real"] + 1j * dataset["imaginary"], found.eigenvalues)
    vectors = dataset["eigenvector_real"] + 1j * dataset["eigenvector_imaginary"]
    np.testing.assert_array_equal(vectors.transpose("state", "mode"), found.eigenvectors)
    assert str(found).startswith("Spectrum: 2 of 2 eigenvalues, leading eigenvalue 3.75+0j, largest residual")


# ------------------------------------------------------------------------------- divergence and curl


@given(networks())
def test_divergence_of_curl_flow(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    _, D1, D2, C, W1, W2 = arrays_of(flow, W)
    expected = -np.sum(W2**2) * np.trace(C @ D1) - len(W2) * np.trace(D2 @ W1 @ C @ W1.T)
    scale = np.sum(W2**2) * np.trace(C) + len(W2) * np.trace(W1 @ C @ W1.T)
    np.testing.assert_allclose(
        cf.fixed_points.divergence(flow, W), expected, rtol=1e-12, atol=1e-12 * max(scale, 1.0)
    )


@pytest.mark.parametrize(("system", "n", "expected"), [(lorenz, 3, -41 / 3), (lorenz96, 130, -130.0)])
def test_divergence_of_flows_that_contract_everywhere_alike(system: Any, n: int, expected: float):
    y = jax.random.normal(jax.random.key(0), (n,), jnp.float64)
    assert float(cf.fixed_points.divergence(system, y)) == pytest.approx(expected, rel=1e-13)


@given(networks())
def test_gradient_flow_has_no_curl(network: tuple[cf.CurlFlow, cf.Weights]):
    flow, W = network
    assert float(cf.curl_fraction(flow.gradient_flow(), W)) < 1e-14


@given(st.floats(0.1, 3), st.floats(-3, 3), st.floats(0.1, 3))
def test_curl_fraction_of_the_toy_model(w1: float, w2: float, s: float):
    expected = np.sqrt(2) * abs(s - 2 * w1 * w2) / np.hypot(w1**2, w2**2)
    found = cf.curl_fraction(cf.toy_flow(s, flip="readout"), jnp.array([w1, w2]))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_curl_fraction_at_its_ends():
    rotation = Linear(jnp.array([[0.0, 1.0], [-1.0, 0.0]]))
    assert float(cf.curl_fraction(rotation, jnp.ones(2))) == np.inf
    assert float(cf.curl_fraction(Linear(jnp.array([[0.0, 1.0], [0.0, 0.0]])), jnp.ones(2))) == 1.0
    assert float(cf.curl_fraction(Linear(jnp.zeros((2, 2))), jnp.ones(2))) == 0.0


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("question", [cf.jacobian, cf.spectrum, cf.fixed_points.divergence, cf.curl_fraction])
@pytest.mark.parametrize(
    ("system", "y", "sentence"),
    [
        (3.0, jnp.zeros(2), "`system` must be a vector field called as"),
        (
            cf.toy_flow(),
            [0.0, jnp.nan],
            r"`y` must be finite, but has nan at index 1",
        ),
        (lorenz, np.zeros(3, np.float32), "`y` must be float64, but its dtype is float32"),
        (lorenz, np.zeros(3, complex), "`y` must be real"),
        (lorenz, {}, "`y` must hold at least one number"),
        (
            lambda t, y, args: y[:1],
            jnp.zeros(2),
            r"`system` must return float64\[2\] at y, but returned float64\[1\]",
        ),
        (lambda t, y, args: (y, y), jnp.zeros(2), "`system` must return one array like its state"),
        (cf.toy_flow, jnp.zeros(2), "`system` must be a function of 3 arguments, .* but toy_flow takes"),
        (
            lambda t, y, args: jnp.sqrt(y),
            jnp.zeros(2),
            "f at y` must be finite, but has|f at y` must be finite, but is",
        ),
    ],
)
def test_bad_points_are_refused_in_a_sentence(question: Any, system: Any, y: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        question(system, y)


@pytest.mark.parametrize(
    ("k", "sentence"),
    [
        (0, "`k` must be at least 1, but is 0"),
        (4, "`k` must lie between 1 and the state's size 3, but is 4"),
        (1.5, "`k` must be a whole number, but is 1.5"),
        (True, "`k` must be a whole number"),
    ],
)
def test_an_impossible_number_of_eigenvalues_is_refused(k: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cf.spectrum(lorenz, jnp.ones(3), k)


def test_other_bad_questions_are_refused():
    with pytest.raises(ValueError, match="`t` must be finite, but is nan"):
        cf.jacobian(lorenz, jnp.ones(3), t=np.nan)
    n = LARGEST_DENSE_SYSTEM + 1
    with pytest.raises(
        ValueError, match=f"`k` must be given for states of more than 8192 numbers, but y has {n}"
    ):
        cf.spectrum(lambda t, y, args: -y, jnp.zeros(n))
    with pytest.raises(ValueError, match="times a vector` must be finite"):
        cf.spectrum(lambda t, y, args: jnp.sqrt(y), jnp.zeros(linearize.LARGEST_SMALL_SYSTEM + 1), 2)

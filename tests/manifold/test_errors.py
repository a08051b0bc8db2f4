"""The spectrum of errors on samples against the Jacobian of all weights, by autodiff, and against closed forms."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import curlflow as cf

SAMPLES = 11


def network(activation="tanh", sizes=(4, 6, 2), seed=0, per_synapse=False, **options):
    """A flow, and weights that solve its task: its teacher's."""
    rng = np.random.default_rng(seed)
    shapes = [(n_out, n_in) for n_in, n_out in pairwise(sizes)]
    W = tuple(jnp.asarray(rng.normal(size=shape) / shape[1] ** 0.5) for shape in shapes)
    signs = tuple(rng.choice([-1.0, 1.0], shape if per_synapse else shape[1]) for shape in shapes)
    activate_output = options.get("activate_output", False)
    teacher = cf.models.Teacher(W, activation=activation, activate_output=activate_output)
    return cf.models.StudentFlow(
        *teacher.draw(jax.random.key(seed), SAMPLES), signs, activation=activation, **options
    ), W


def nonzero(eigenvalues):
    """Those of the Jacobian that are no zeros along the manifold, by real and then by imaginary part."""
    eigenvalues = eigenvalues[np.abs(eigenvalues) > 1e-10]
    return eigenvalues[np.lexsort((np.round(eigenvalues.imag, 9), np.round(eigenvalues.real, 9)))]


@pytest.mark.parametrize("constrained", [False, True], ids=["free", "constrained"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sizes": (5, 7, 6, 1), "activation": "erf"},
        {"activate_output": True, "objective": "matching"},
        {"feedback": np.random.default_rng(9).normal(size=(6, 2))},
        pytest.param({"per_synapse": True}, marks=pytest.mark.slow),
        pytest.param({"activation": "relu"}, marks=pytest.mark.slow),
        pytest.param({"activation": "linear"}, marks=pytest.mark.slow),
        pytest.param({"activate_output": True}, marks=pytest.mark.slow),
    ],
    ids=["tanh", "deep", "matching", "feedback", "synapses", "relu", "linear", "output"],
)
def test_nonzero_eigenvalues_are_those_of_the_jacobian(options, constrained):
    student, W = network(**options)
    flow = cf.NormConstrained(student) if constrained else student
    spectrum = cf.manifold.error_spectrum(flow, W)
    full = np.linalg.eigvals(np.asarray(cf.jacobian(flow, W)))
    np.testing.assert_allclose(nonzero(spectrum.eigenvalues), nonzero(full), atol=1e-8)
    assert len(spectrum.eigenvalues) == student.targets.size
    assert np.all(np.diff(spectrum.eigenvalues.real) <= 0)


def test_linear_networks_have_the_transverse_spectrum():
    flow, W = network("linear", sizes=(4, 6, 1))
    across = cf.manifold.transverse_spectrum(flow.curl_flow(), cf.Weights(*W)).eigenvalues.ravel()
    np.testing.assert_allclose(
        np.sort(nonzero(cf.manifold.error_spectrum(flow, W).eigenvalues).real), np.sort(across), rtol=1e-9
    )


@pytest.mark.parametrize("objective", ["squared error", "matching"])
@pytest.mark.parametrize("seed", range(3))
def test_without_constraint_and_feedback_errors_do_not_oscillate(seed, objective):
    flow, W = network(seed=seed, per_synapse=True, activate_output=True, objective=objective)
    spectrum = cf.manifold.error_spectrum(flow, W)
    np.testing.assert_allclose(spectrum.eigenvalues.imag, 0, atol=spectrum.tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_does_not_change_how_many_errors_grow(seed):
    counts = set()
    for objective in ("squared error", "matching"):
        flow, W = network(seed=seed, sizes=(4, 9, 1), activate_output=True, objective=objective)
        counts.add(cf.manifold.error_spectrum(flow, W).n_growing)
    assert len(counts) == 1


def test_gradient_flow_contracts_and_gradient_ascent_expands():
    flow, W = network(sizes=(4, 9, 2))
    descent = cf.manifold.error_spectrum(flow.gradient_flow(), W)
    ascent = cf.manifold.error_spectrum(
        cf.models.StudentFlow(
            flow.X, flow.targets, tuple(-jnp.ones_like(s) for s in flow.signs), activation="tanh"
        ),
        W,
    )
    assert descent.stable
    assert descent.n_growing == 0
    assert ascent.n_growing == flow.targets.size
    assert not ascent.stable
    np.testing.assert_allclose(ascent.eigenvalues, -descent.eigenvalues[::-1], rtol=1e-9)


def test_errors_that_no_weights_can_make_are_neither_stable_nor_unstable():
    flow, W = network("linear", sizes=(4, 6, 1))  # 11 samples of four inputs
    spectrum = cf.manifold.error_spectrum(flow.gradient_flow(), W)
    assert spectrum.n_growing == 0
    assert not spectrum.stable
    assert np.sum(np.abs(spectrum.eigenvalues) < spectrum.tolerance) == 7


def test_single_precision_sums_are_reflected_in_the_tolerance():
    double, W = network()
    single, _ = network(precision="float32")
    expected, answer = cf.manifold.error_spectrum(double, W), cf.manifold.error_spectrum(single, W)
    assert answer.tolerance > 1e5 * expected.tolerance
    np.testing.assert_allclose(answer.eigenvalues.real, expected.eigenvalues.real, atol=answer.tolerance)


def test_the_result_says_what_it_is():
    flow, W = network(sizes=(4, 9, 2))
    spectrum = cf.manifold.error_spectrum(flow.gradient_flow(), W)
    assert (
        str(spectrum) == f"ErrorSpectrum: 22 eigenvalues, stable, leading eigenvalue {spectrum.leading:.6g}"
    )
    data = spectrum.to_xarray()
    np.testing.assert_array_equal(data["real"] + 1j * data["imaginary"], spectrum.eigenvalues)
    assert data["real"].dims == ("mode",)


def test_bad_input():
    flow, W = network()
    with pytest.raises(
        ValueError, match="must be a StudentFlow, or NormConstrained around one, but is CurlFlow"
    ):
        cf.manifold.error_spectrum(cf.CurlFlow([1.0], [1], [1]), W)
    with pytest.raises(ValueError, match="but is NormConstrained around ToyFlow"):
        cf.manifold.error_spectrum(cf.NormConstrained(cf.toy_flow()), W)
    with pytest.raises(ValueError, match="must solve the task, but leaves errors of"):
        cf.manifold.error_spectrum(flow, tuple(2 * layer for layer in W))
    with pytest.raises(ValueError, match="must be a pytree like the signs"):
        cf.manifold.error_spectrum(flow, cf.Weights(*W))

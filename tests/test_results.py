"""A contract for all results: frozen, comparable, printed in one line, and labelled datasets that go to disk and back."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
import xarray as xr

import curlflow as cf
from curlflow import random_matrix
from curlflow._results import in_words, pytree_result, result

# What a plot drew is of the one make too, but holds artists and no numbers: tests/plot looks at it.
ARTISTS = {"plot.Portrait", "plot.SpectrumPlot", "plot.HelmholtzPanels"}

TOY = cf.toy_flow(s=1.0, flip="readout")
FRACTIONS = ([0.2, 0.0], 0.1)


def weights() -> cf.Weights:
    return cf.ensembles.gaussian_weights(jax.random.key(0), N=3, M=2)


def points(count: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (count, 2), jnp.float64)


def error_spectrum() -> cf.manifold.ErrorSpectrum:
    X = jnp.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -0.7]])
    signs = cf.Weights([1.0, -1.0], [1.0, 1.0, 1.0])
    flow = cf.models.StudentFlow(X, X @ weights().end_to_end.T, signs, activation="linear")
    return cf.manifold.error_spectrum(flow, weights())


def compared() -> cf.races.TimesComparison:
    return cf.races.compare_times([1.0, 2.0, 3.0], [2.0, 5.0, np.inf], horizon=9.0, resamples=99)


@cache
def surveyed() -> cf.plane.Survey:
    return cf.plane.survey(TOY, (-2, 2), (-2, 2), resolution=5)


def metric() -> cf.gradient.ConstantMetric:
    found = cf.is_gradient(TOY, points(3)).constant_metric
    assert found is not None
    return found


@cache
def spectrum() -> cf.LyapunovSpectrum:
    return cf.lyapunov_spectrum(TOY, jnp.array([0.5, 2.0]), T=60.0)


@cache
def judged() -> cf.chaos.Verdict:
    return cf.verdict(TOY, jnp.array([0.5, 0.0]), T=30.0)


def network_spectrum() -> cf.manifold.NetworkSpectrum:
    flow = cf.GramFlow.from_flow(cf.CurlFlow([1.0, 2.0], d1=[1, 1], d2=[1, 1, 1]))
    return cf.manifold.network_spectrum(cf.lyapunov_spectrum(flow, flow.reduce(weights()), T=20.0))


EXAMPLES: dict[str, Callable[[], Any]] = {
    "orbits.Trajectory": lambda: cf.iterate(cf.DescentMap(TOY, 0.1), jnp.array([0.5, 0.0]), 5),
    "orbits.Passages": lambda: cf.integrate(
        TOY, jnp.array([0.5, 0.0]), 9.0, events=lambda t, y, args: y[1]
    ).events["events"],
    "orbits.PrincipalComponents": lambda: cf.orbits.principal_components(points(5)),
    "fixed_points.Spectrum": lambda: cf.spectrum(TOY, jnp.zeros(2)),
    "fixed_points.FixedPoint": lambda: cf.classify(TOY, jnp.zeros(2)),
    "fixed_points.FixedPoints": lambda: cf.find_fixed_points(TOY, jnp.array([[0.1, 0.0], [0.4, 2.0]])),
    "gradient.GradientTest": lambda: cf.is_gradient(TOY, points(3)),
    "gradient.ConstantMetric": metric,
    "gradient.HelmholtzSplit": lambda: cf.gradient.helmholtz_split(
        TOY, (-1, 1), (-1, 1), degree=4, resolution=5
    ),
    "manifold.TransverseSpectrum": lambda: cf.manifold.transverse_spectrum(
        cf.CurlFlow(weights().end_to_end, d1=[-1, 1], d2=[1, 1, 1]), weights()
    ),
    "manifold.OriginSpectrum": lambda: cf.manifold.origin_spectrum(
        cf.CurlFlow([1.0, 2.0], d1=[1, -1], d2=[1, 1, 1])
    ),
    "manifold.StabilitySample": lambda: cf.manifold.sample_stability(
        jax.random.key(0), N=4, M=3, alpha_h=0.5, samples=5
    ),
    "manifold.ErrorSpectrum": error_spectrum,
    "random_matrix.Atoms": lambda: random_matrix.spectral_atoms([2.0, 3.0, 4.0], *FRACTIONS[1:], 0.1),
    "random_matrix.Outlier": lambda: random_matrix.lowest_outlier([0.1, 0.5], alpha_r=0.0),
    "random_matrix.FiniteSizeMargin": lambda: random_matrix.finite_size_margin(40, 10, *FRACTIONS),
    "random_matrix.InstabilityWindow": lambda: random_matrix.instability_window(*FRACTIONS),
    "manifold.NetworkSpectrum": network_spectrum,
    "chaos.LyapunovSpectrum": spectrum,
    "chaos.LyapunovEnsemble": lambda: cf.lyapunov_spectrum(TOY, points(3), T=5.0, batch="states"),
    "chaos.Zeros": lambda: spectrum().zeros(),
    "chaos.Growth": lambda: cf.chaos.tangent_growth(spectrum()),
    "chaos.SeriesExponent": lambda: cf.chaos.exponent_of_series(np.cos(np.arange(300.0) ** 1.5)),
    "chaos.Verdict": judged,
    "chaos.Evidence": lambda: judged().evidence[0],
    "plane.Survey": surveyed,
    "plane.FixedCurve": lambda: surveyed().curves[0],
    "races.SurvivalCurve": lambda: cf.races.survival_curve([2.0, 3.0, np.inf], horizon=9.0),
    "races.TimesComparison": compared,
}


def is_of_the_make(kind: type) -> bool:
    return kind.__repr__ is Sample.__repr__


def public_results() -> dict[str, type]:
    """All public classes of all rooms that hold what was computed: dataclasses and named tuples, but no systems."""
    found = {}
    for room_name in cf.__all__:
        room = getattr(cf, room_name)
        if not inspect.ismodule(room):
            continue
        for name in getattr(room, "__all__", vars(room)):
            kind = getattr(room, name)
            if not inspect.isclass(kind) or not kind.__module__.startswith(room.__name__):
                continue
            holds = dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")
            if holds and not name.startswith("_") and not issubclass(kind, eqx.Module):
                found[f"{room_name}.{name}"] = kind
    return found


@cache
def example(name: str) -> Any:
    made = EXAMPLES[name]()
    assert type(made) is public_results()[name]
    return made


every_result = pytest.mark.parametrize("name", EXAMPLES)
every_pytree = pytest.mark.parametrize(
    "name", [name for name in EXAMPLES if name.startswith("random_matrix.")]
)


@result
class Sample:
    numbers: Any
    label: str = dataclasses.field(default="a", compare=False)

    def __str__(self) -> str:
        return f"Sample: {in_words(self.numbers)}\nand a second line"


@pytree_result
class Pair:
    first: Any
    second: Any

    def __str__(self) -> str:
        return f"Pair: {in_words(self.first)}, {in_words(self.second)}"


# ------------------------------------------------------------------------------------------------- the contract


def test_every_public_result_has_an_example_and_is_of_the_one_make():
    found = public_results()
    assert set(EXAMPLES) | ARTISTS == set(found)
    assert [name for name, kind in found.items() if not is_of_the_make(kind)] == []


@every_result
def test_it_is_frozen(name: str):
    made = example(name)
    for each in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, each.name, getattr(made, each.name))


@every_result
def test_it_equals_itself_made_again_and_nothing_that_differs_in_a_field(name: str):
    made = example(name)
    assert made == dataclasses.replace(made)
    for each in dataclasses.fields(made):
        if each.compare:
            other = dataclasses.replace(made, **{each.name: changed(getattr(made, each.name))})
            assert (made == other) is False, each.name
            assert (other == made) is False, each.name


@every_result
def test_it_can_be_compared_with_anything(name: str):
    made = example(name)
    strangers = [None, "text", 1.0, (), object(), *(example(other) for other in EXAMPLES if other != name)]
    for other in strangers:
        assert (made == other) is False
        assert (other == made) is False


@every_result
def test_its_representation_is_one_line_that_begins_with_its_name(name: str):
    made = example(name)
    assert repr(made) == f"{made}".splitlines()[0]
    assert max(map(len, str(made).splitlines())) < 80
    assert str(made).split() == f"{made}".split()
    assert repr(made).startswith((f"{type(made).__name__}: ", f"{type(made).__name__} of "))
    assert 15 < len(repr(made)) < 250


@every_result
def test_its_dataset_goes_to_disk_and_back(name: str, tmp_path: Path):
    made = example(name)
    if not holds_arrays(made):
        return
    data = made.to_xarray()
    assert isinstance(data, xr.Dataset)
    assert data.variables
    data.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "result.nc", engine="h5netcdf") as read:
        xr.testing.assert_equal(read, data)
        assert set(read.attrs) == set(data.attrs)
        for key, value in data.attrs.items():
            np.testing.assert_array_equal(read.attrs[key], value)


@every_result
def test_its_dataset_has_the_dimensions_that_the_docstring_names(name: str):
    made = example(name)
    if holds_arrays(made):
        text = inspect.getdoc(type(made).to_xarray) or ""
        own = {dimension for dimension in made.to_xarray().dims if "_axis" not in str(dimension)}
        assert {dimension for dimension in own if f"`{dimension}`" not in text} == set()


@every_pytree
def test_transformations_take_and_return_it(name: str):
    made = example(name)
    doubled = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), made)
    assert jtu.all_leaves(jax.tree.leaves(made))
    assert jax.jit(lambda each: each)(made) == made
    assert jax.vmap(lambda each: each)(doubled) == doubled
    assert type(jax.eval_shape(lambda each: each, made)) is type(made)
    assert repr(jax.eval_shape(lambda each: each, made)).startswith(type(made).__name__)


def changed(value: Any) -> Any:
    """Something else of the same kind."""
    match value:
        case bool():
            return not value
        case str():
            return f"{value}?"
        case int() | float():
            return value + 1 if np.isfinite(value) else 0.0
        case tuple():
            return (*value, 0)
        case dict():
            return {**value, "more": 0}
        case None:
            return 0.0
        case cf.Outcome():
            return dataclasses.replace(value, message="Otherwise.")
        case _ if is_of_the_make(type(value)):
            return None
    return jax.tree.map(lambda leaf: ~leaf if leaf.dtype == bool else jnp.where(leaf == 0, 1.0, 0.0), value)


def holds_arrays(value: Any) -> bool:
    if is_of_the_make(type(value)):
        return any(holds_arrays(getattr(value, each.name)) for each in dataclasses.fields(value))
    leaves = jtu.tree_leaves(value, is_leaf=lambda leaf: is_of_the_make(type(leaf)))
    return any(
        hasattr(leaf, "shape") or (is_of_the_make(type(leaf)) and holds_arrays(leaf)) for leaf in leaves
    )


# ------------------------------------------------------------------------------------------------- the make itself


def test_equality_is_number_by_number_and_not_a_number_equals_itself():
    numbers = np.array([1.0, np.nan])
    assert Sample({"W1": numbers, "W2": 1.0}) == Sample({"W1": numbers.copy(), "W2": 1.0})
    assert Sample(float("nan")) == Sample(float("nan"))
    assert Sample(jnp.ones(2)) == Sample(np.ones(2))
    assert Sample(np.ones(2)) != Sample(np.ones(3))
    assert Sample(np.ones(2)) != Sample(1.0)
    assert Sample([np.ones(2)]) != Sample((np.ones(2),))
    assert Sample(np.array(["a", "b"])) != Sample(np.array(["a", "c"]))
    assert Sample(Sample(numbers)) == Sample(Sample(numbers.copy()))


def test_a_field_that_is_not_to_be_compared_is_not():
    assert Sample(1.0, "a") == Sample(1.0, "b")


def test_only_the_first_line_represents():
    assert repr(Sample(1.0)) == "Sample: 1"
    assert str([Sample(1.0)]) == "[Sample: 1]"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (2 / 3, "0.666667"),
        (jnp.array(np.inf), "inf"),
        (np.True_, "True"),
        ([1, 2.5], "[1, 2.5]"),
        ([True, False], "[True, False]"),
        (np.arange(7.0), "[0 … 6, shape (7,)]"),
        (np.eye(2), "[0 … 1, shape (2, 2)]"),
        (np.zeros((0, 2)), "[shape (0, 2)]"),
    ],
)
def test_numbers_in_words(values: Any, words: str):
    assert in_words(values) == words


def test_a_traced_number_is_printed_without_its_value():
    seen = []

    @jax.jit
    def show(x: jax.Array) -> jax.Array:
        seen.append(repr(Pair(x, 2.0 * x)))
        return x

    show(jnp.ones(2))
    assert "float64[2]" in seen[0]


def test_a_law_in_a_transformation_gives_a_result():
    ratios = jnp.array([0.5, 2.0])
    together = jax.jit(jax.vmap(lambda c: random_matrix.lowest_outlier(c, alpha_r=0.1)))(ratios)
    one_by_one = [random_matrix.lowest_outlier(c, alpha_r=0.1) for c in ratios]
    np.testing.assert_allclose(together.position, [each.position for each in one_by_one], rtol=1e-12)
    slope = jax.grad(lambda c: random_matrix.lowest_outlier(c, alpha_r=0.1).position)(0.5)
    assert slope < 0  # of −1 + 2/(3c), but for the readout's flips


def test_an_outcome_is_a_result_that_can_be_hashed():
    blown = cf.Outcome(cf.Ending.BLEW_UP, float("nan"), "It passed 1e6.")
    again = cf.Outcome(cf.Ending.BLEW_UP, float("nan"), "It passed 1e6.")
    assert is_of_the_make(cf.Outcome)
    assert blown == again
    assert blown != dataclasses.replace(blown, time=1.0)
    assert repr(blown) == str(blown) == "blew up: It passed 1e6."
    timed = dataclasses.replace(blown, time=1.0)
    assert {timed, dataclasses.replace(timed)} == {timed}

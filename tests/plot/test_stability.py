"""The artists of stability diagrams and spectra hold the numbers they were given."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import curlflow as cf


@pytest.mark.parametrize(("layer", "symbol"), [("hidden", "alpha_h"), ("readout", "alpha_r")])
def test_the_boundary_drawn_is_the_closed_form(layer, symbol):
    c, alpha = np.linspace(0.05, 1.0, 200), np.linspace(0.05, 1.0, 200)
    fractions = (alpha[:, None], 0.0) if layer == "hidden" else (0.0, alpha[:, None])
    boundary = cf.plot.stability_diagram(
        c, alpha, cf.random_matrix.stability_margin(c, *fractions), layer=layer
    )
    line = np.concatenate([path.vertices for path in boundary.get_paths()])
    exact = cf.stability_boundary(**{symbol: line[:, 1]})
    inside = (exact > 0.06) & (exact < 0.99)
    assert inside.sum() > 50
    np.testing.assert_allclose(line[inside, 0], exact[inside], atol=1e-3)
    assert f"\\{symbol}" in boundary.axes.get_ylabel()
    assert boundary.axes.get_xlim() == (0.05, 1.0)


def test_the_stable_side_is_the_shaded_one():
    c, alpha = np.linspace(0.1, 1.0, 50), np.linspace(0.05, 1.0, 50)
    boundary = cf.plot.stability_diagram(
        c, alpha, cf.random_matrix.stability_margin(c, alpha[:, None], 0.0), layer="hidden"
    )
    shading = next(artist for artist in boundary.axes.collections if artist is not boundary)
    (region,) = shading.get_paths()
    assert region.contains_point((0.2, 0.5))
    assert not region.contains_point((0.5, 0.5))


def test_histogram_curve_and_atoms_share_one_scale():
    eigenvalues = np.concatenate([np.full(50, 1.0), np.random.default_rng(0).uniform(2.0, 4.0, 150)])
    x = np.array([1.0, 1.5, np.nan, 2.0, 4.0])
    density = np.array([0.0, 0.0, np.nan, 0.375, 0.375])
    atoms = cf.random_matrix.Atoms(jnp.array([-1.0, 1.0]), jnp.array([0.0, 0.25]))
    drawn = cf.plot.spectrum(eigenvalues, x, density, atoms=atoms, bins=6)
    areas = [bar.get_width() * bar.get_height() for bar in drawn.bars]
    assert sum(areas) == pytest.approx(0.75)
    assert areas[:2] == [0, 0]
    np.testing.assert_array_equal(drawn.curve.get_xdata(), x)
    np.testing.assert_array_equal(drawn.curve.get_ydata(), density)
    (stem,) = drawn.atoms
    ax = drawn.curve.axes
    np.testing.assert_array_equal(stem.get_xdata(), [1.0, 1.0])
    assert stem.get_ydata()[1] == pytest.approx(0.25 * ax.get_ylim()[1])
    assert [text.get_text() for text in ax.texts] == ["25 %"]
    assert max(bar.get_height() for bar in drawn.bars) < ax.get_ylim()[1]


def test_they_draw_on_the_axes_given():
    _, (left, right) = plt.subplots(1, 2)
    boundary = cf.plot.stability_diagram(
        [0.1, 1.0], [0.0, 1.0], [[1.0, 1.0], [1.0, -1.0]], layer="hidden", ax=left
    )
    drawn = cf.plot.spectrum([1.0, 2.0], [1.0, 2.0], [0.5, 0.5], ax=right)
    assert boundary.axes is left
    assert drawn.curve.axes is right
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: cf.plot.stability_diagram([0.1, 0.2], [0.1], [[1.0], [2.0]], layer="hidden"),
            r"`margin` must have shape \(alpha.size, c.size\) = \(1, 2\), but",
        ),
        (
            lambda: cf.plot.stability_diagram([0.1], [0.1], [[np.inf]], layer="hidden"),
            r"`margin` must be finite, but",
        ),
        (lambda: cf.plot.stability_diagram([0.1], [0.1], [[1.0]], layer="both"), r"`layer` must be one of"),
        (
            lambda: cf.plot.spectrum([], [0.0], [0.0]),
            r"`eigenvalues` must hold at least one number, but is empty\.",
        ),
        (
            lambda: cf.plot.spectrum([1.0], [0.0, 1.0], [0.0]),
            r"`density` must have the shape of `x`, \(2,\), but",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()

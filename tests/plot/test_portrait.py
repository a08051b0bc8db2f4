"""Figures: the artists' data against the results they draw, widths, fonts, and that nothing is ever shown."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

import curlflow as cf
from curlflow.fixed_points import Kind

WINDOW = (-2.0, 2.0)
CURL, GRADIENT = cf.toy_flow(1.0, flip="readout"), cf.toy_flow(1.0, flip=None)


@pytest.fixture(autouse=True)
def _nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(*_: Any, **__: Any) -> None:
        raise AssertionError("a plot called show()")

    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(Figure, "show", show)


@pytest.fixture(scope="module")
def curl() -> cf.plane.Survey:
    return cf.plane.survey(CURL, WINDOW, WINDOW, resolution=24)


@pytest.fixture(scope="module")
def gradient() -> cf.plane.Survey:
    return cf.plane.survey(GRADIENT, WINDOW, WINDOW, resolution=24)


def regridded(seen: cf.plane.Survey, resolution: int) -> cf.plane.Survey:
    """The toy model's survey on another grid."""
    x = np.linspace(*WINDOW, resolution)
    w1, w2 = np.meshgrid(x, x)
    error = 1 - w1 * w2
    velocity = np.stack([w2 * error, -w1 * error])
    return replace(seen, x=x, y=x, velocity=velocity, out_of_plane=0 * w1, loss=error**2 / 2)


def orbit(flow: cf.models.ToyFlow = CURL, w0: Any = (-1.5, 0.5), t1: float = 8.0) -> cf.Trajectory:
    """An exact orbit."""
    ts = np.linspace(0.0, t1, 101)
    ys = flow.solution(jnp.asarray(ts), jnp.asarray(w0))
    return cf.Trajectory(ts, ys, cf.Outcome(cf.Ending.COMPLETED, t1, "Exact."), {}, ys[-1], flow)


def draw(seen: cf.plane.Survey, **options: Any) -> cf.plot.Portrait:
    return cf.plot.survey(seen, ax=plt.figure().add_subplot(), **({"velocity": None} | options))


def legend_of(figure: Any) -> list[str]:
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def width_in_mm(figure: Any) -> float:
    return 25.4 * figure.get_size_inches()[0]


# ------------------------------------------------------------------------------------ solution manifold


def test_the_manifold_is_solid_where_it_attracts_and_dashed_elsewhere(curl: cf.plane.Survey):
    lines = draw(curl).manifold
    assert sorted(line.get_linestyle() for line in lines) == ["-", "-", "--", "--"]
    for line in lines:
        w1, w2 = np.array(line.get_data())
        np.testing.assert_allclose(w1 * w2, 1.0, rtol=1e-9)
        attracts = np.abs(w2[:-1]) > np.abs(w1[:-1])  # the last point may be the first of the next stretch
        assert attracts.all() if line.get_linestyle() == "-" else not attracts.any()
    for branch in (1.0, -1.0):
        weights = np.concatenate([line.get_xydata() for line in lines if line.get_xdata()[0] * branch > 0])
        assert np.abs(weights).max(axis=0) == pytest.approx([2.0, 2.0], abs=0.03)
        # The two stretches meet: their points together leave no gap.
        along = np.sort(np.abs(weights[:, 0]))
        assert np.diff(along).max() < 0.02


def test_the_gradient_flows_manifold_is_solid_everywhere(gradient: cf.plane.Survey):
    assert [line.get_linestyle() for line in draw(gradient).manifold] == ["-", "-"]


# ------------------------------------------------------------------------------------------- nullclines


@pytest.fixture(scope="module")
def with_nullclines() -> cf.plane.Survey:
    return cf.plane.survey(CURL, WINDOW, WINDOW, resolution=24, nullclines=True)


def test_nullclines_are_the_surveys(with_nullclines: cf.plane.Survey):
    portrait = draw(with_nullclines)
    assert with_nullclines.nullclines is not None
    for lines, curves in zip(portrait.nullclines, with_nullclines.nullclines, strict=True):
        for path, curve in zip(lines.get_paths(), curves, strict=True):
            np.testing.assert_array_equal(path.vertices, curve)
    assert portrait.nullclines[0].get_linestyle() != portrait.nullclines[1].get_linestyle()
    assert {"$w_1$ nullcline", "$w_2$ nullcline"} <= set(legend_of(plt.gcf()))


def test_a_window_without_nullclines_is_drawn_without_a_word(curl: cf.plane.Survey):
    portrait = draw(replace(curl, nullclines=((), ())), trajectories={"curl flow": orbit()})
    assert portrait.nullclines == (None, None)
    assert draw(curl).nullclines == ()
    assert not any("nullcline" in entry for entry in legend_of(portrait.ax.figure))


# ------------------------------------------------------------------------------- fixed points, separatrices


def test_fixed_points_are_marked_where_they_are(curl: cf.plane.Survey, gradient: cf.plane.Survey):
    marks = {
        tuple(np.round(mark.get_xydata()[0], 3) + 0.0): mark.get_label() for mark in draw(curl).fixed_points
    }
    assert marks == {
        (0.0, 0.0): "centre",
        (1.0, 1.0): "change of stability",
        (-1.0, -1.0): "change of stability",
    }
    (saddle,) = draw(gradient).fixed_points
    assert saddle.get_label() == "saddle"
    np.testing.assert_allclose(saddle.get_xydata(), [[0.0, 0.0]], atol=1e-9)


def fixed_point(kind: Kind, place: Any) -> cf.FixedPoint:
    return cf.FixedPoint(jnp.asarray(place), kind, np.zeros(2, complex), 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)


def test_every_kind_has_a_mark_of_its_own(gradient: cf.plane.Survey):
    further = [fixed_point(kind, [0.1 * i, 1.0]) for i, kind in enumerate(Kind)]
    marks = draw(gradient, fixed_points=further).fixed_points[1:]
    assert [mark.get_label() for mark in marks] == [kind.value for kind in Kind]
    looks = {
        (str(mark.get_marker()), str(mark.get_markerfacecolor()), mark.get_fillstyle()) for mark in marks
    }
    assert len(looks) == len(Kind)
    # Apart in grey print too: everything is black and white.
    assert {mark.get_markeredgecolor() for mark in marks} == {"black"}
    assert {mark.get_markerfacecolor() for mark in marks} == {"black", "white"}
    filled = {mark.get_label() for mark in marks if mark.get_markerfacecolor() == "black"}
    assert {"stable node", "stable focus"} <= filled
    assert not {"unstable node", "unstable focus", "saddle"} & filled


def test_a_neutral_stretch_of_fixed_points_is_neither_stable_nor_unstable(curl: cf.plane.Survey):
    x = np.linspace(-1, 1, 41)
    curve = cf.plane.FixedCurve(np.stack([x, x], 1), np.where(np.abs(x) < 0.3, 0.0, x))
    one_point = cf.plane.FixedCurve(np.stack([x, -x], 1), x)  # exactly 0 in its middle
    lines = draw(
        replace(curl, curves=(curve, one_point), separatrices=(), separatrix_kinds=(), fixed_points=())
    ).manifold
    assert [line.get_label().removeprefix("fixed points, ") for line in lines] == [
        "stable",
        "neutral",
        "unstable",
        "stable",
        "unstable",
    ]
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 3
    assert "fixed points, neutral" in legend_of(plt.gcf())


def test_marks_on_the_edge_of_the_window_are_seen_whole(gradient: cf.plane.Survey):
    edge, outside = fixed_point(Kind.SADDLE, [2.0, 0.5]), fixed_point(Kind.SADDLE, [2.1, 0.5])
    _, on_edge, beyond = draw(gradient, fixed_points=[edge, outside]).fixed_points
    assert (on_edge.get_clip_on(), beyond.get_clip_on()) == (False, True)


def test_the_manifolds_of_saddles_tell_apart(gradient: cf.plane.Survey):
    lines = draw(gradient).separatrices
    looks = {(line.get_label(), line.get_linestyle()) for line in lines}
    assert looks == {("stable manifold", "-"), ("unstable manifold", "--")}
    assert {"stable manifold", "unstable manifold"} < set(legend_of(plt.gcf()))


def test_separatrices_are_the_surveys(curl: cf.plane.Survey):
    lines = draw(curl).separatrices
    assert len(lines) == len(curl.separatrices) > 0
    for line, orbit in zip(lines, curl.separatrices, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), orbit)


# ----------------------------------------------------------------------------------------- trajectories


def test_trajectories_are_their_states_with_an_arrowhead_halfway(curl: cf.plane.Survey):
    runs = {"curl flow": orbit(), "gradient flow": orbit(GRADIENT), "another": orbit(w0=(0.7, 0.0))}
    portrait = draw(curl, trajectories=runs)
    assert [line.get_label() for line in portrait.trajectories] == list(runs)
    assert len({line.get_color() for line in portrait.trajectories}) == 3
    heads = [patch for patch in portrait.ax.patches if isinstance(patch, FancyArrowPatch)]
    assert len(heads) == 3
    for line, head, run in zip(portrait.trajectories, heads, runs.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), run.ys)
        assert to_rgba(line.get_color()) == head.get_facecolor()
        # It points along the orbit, in the direction of time.
        nearest = int(np.argmin(np.linalg.norm(run.ys - np.array(head._posA_posB[1]), axis=1)))
        heading = np.diff(np.array(head._posA_posB), axis=0)[0]
        step = np.asarray(run.ys[nearest + 1] - run.ys[nearest - 1])
        assert heading @ step / np.linalg.norm(heading) / np.linalg.norm(step) > 0.95
        lengths = np.linalg.norm(np.diff(run.ys, axis=0), axis=1)
        assert lengths[:nearest].sum() == pytest.approx(lengths.sum() / 2, abs=lengths.max())
    assert legend_of(portrait.ax.figure)[:3] == list(runs)
    starts = [line.get_xydata()[0] for line in portrait.ax.lines if line.get_markersize() == 3]
    np.testing.assert_array_equal(starts, [run.ys[0] for run in runs.values()])


def test_orbits_are_curves_however_few_times_were_saved(curl: cf.plane.Survey):
    start = jnp.array([0.7, 0.0])
    runs = [cf.integrate(CURL, start, float(CURL.period(start)), ts=ts) for ts in ([0.0], [0.0, 1.0, 4.0])]
    for line in draw(curl, trajectories=runs).trajectories:
        points = line.get_xydata()
        assert len(points) > 60
        np.testing.assert_allclose(np.hypot(*points.T), 0.7, atol=1e-6)
        steps = np.diff(points, axis=0)
        angles = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        assert np.abs(np.diff(angles)).max() < 0.2


def test_any_number_of_trajectories_tell_apart(curl: cf.plane.Survey):
    runs = {"curl flow": orbit(t1=1.0), **{f"start {i}": orbit(w0=(0.1 * i, 0.0), t1=1.0) for i in range(30)}}
    lines = draw(curl, trajectories=runs).trajectories
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}
    assert len(looks) == len(runs)


def test_trajectories_without_labels_are_not_in_the_legend(curl: cf.plane.Survey):
    portrait = draw(curl, trajectories=[orbit(), orbit(w0=(0.7, 0.0))])
    assert len(portrait.trajectories) == 2
    assert legend_of(portrait.ax.figure) == [
        "fixed points, stable",
        "fixed points, unstable",
        "separatrix",
        "centre",
        "change of stability",
        "high loss",
    ]


def test_a_trajectory_at_rest_has_no_arrowhead(curl: cf.plane.Survey):
    portrait = draw(curl, trajectories=[orbit(w0=(0.5, 2.0))])
    np.testing.assert_allclose(portrait.trajectories[0].get_xydata(), [[0.5, 2.0]] * 101)
    assert not portrait.ax.patches


def test_no_legend_if_none_is_wanted(curl: cf.plane.Survey):
    assert draw(curl, legend=False, trajectories={"curl flow": orbit()}).ax.get_legend() is None


# ----------------------------------------------------------------------------- background and velocity


def test_the_background_is_the_loss_over_five_decades_or_the_speed(curl: cf.plane.Survey):
    w = regridded(curl, 20)
    assert w.loss is not None
    for background, values in (("loss", w.loss), ("speed", np.hypot(*w.velocity))):
        portrait = draw(w, background=background)
        image = portrait.background
        assert image is not None
        assert isinstance(image.norm, LogNorm)
        assert tuple(image.get_extent()) == (*WINDOW, *WINDOW)
        assert image.origin == "lower"
        low, high = image.norm.vmin, image.norm.vmax
        np.testing.assert_allclose(image.get_array(), np.maximum(values, low))
        if background == "loss":
            assert (low, high) == pytest.approx((1e-5 * values.max(), values.max()))
            assert to_rgba(portrait.legend_handles()["high loss"].get_facecolor()) == image.cmap(1.0)
        else:
            # Its colours are spread over what there is: on five decades most of the window would be dark.
            assert np.mean((values >= low) & (values <= high)) == pytest.approx(0.99, abs=0.01)
    assert draw(w, background=None).background is None
    assert draw(replace(w, loss=None)).background is None


def test_what_is_zero_everywhere_is_no_background(curl: cf.plane.Survey):
    """It has no logarithm: the speed of a field of zeros, and the loss on a line of solutions."""
    assert (
        draw(replace(curl, velocity=0 * curl.velocity), background="speed", velocity=None).background is None
    )
    assert draw(replace(curl, loss=0 * curl.loss), background="loss").background is None


def test_where_the_loss_is_infinite_there_is_no_background(curl: cf.plane.Survey):
    assert curl.loss is not None
    loss = curl.loss.copy()
    loss[3, 4], loss[5, 6] = np.inf, np.nan
    image = draw(replace(curl, loss=loss)).background
    assert image is not None
    assert image.norm.vmax == curl.loss.max()
    assert np.argwhere(np.isnan(image.get_array().filled(np.nan))).tolist() == [[3, 4], [5, 6]]


def test_arrows_have_equal_length_and_the_velocitys_direction(curl: cf.plane.Survey):
    arrows = draw(curl, velocity="arrows").velocity
    u, v = np.asarray(arrows.U), np.asarray(arrows.V)
    np.testing.assert_allclose(np.hypot(u, v), 1.0, rtol=1e-12)
    expected = np.stack([CURL(0.0, jnp.asarray(w)) for w in arrows.XY])
    np.testing.assert_allclose(
        np.stack([u, v], 1), expected / np.linalg.norm(expected, axis=1)[:, None], atol=1e-12
    )


def test_arrows_point_along_the_flow_on_the_page_too(curl: cf.plane.Survey):
    """Where the axes have different scales, the angle of an arrow is that of a short piece of orbit as it is drawn."""
    turn = replace(curl, velocity=np.stack([100 * curl.velocity[0], curl.velocity[1] / 100]))
    for aspect in ("auto", 1e4, "equal"):
        portrait = draw(turn, velocity="arrows", aspect=aspect)
        arrows, ax = portrait.velocity, portrait.ax
        ax.figure.canvas.draw()
        to_page, along = ax.transData.transform, 1e-6 * np.stack([arrows.U, arrows.V], 1)
        expected = to_page(arrows.XY + along) - to_page(arrows.XY)
        outline = arrows.get_paths()
        tips = np.stack([path.vertices[3] - path.vertices[[0, 6]].mean(axis=0) for path in outline])
        cosine = np.sum(tips * expected, 1) / np.linalg.norm(tips, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > 0.999


def test_streamlines_follow_the_velocity(curl: cf.plane.Survey):
    lines = draw(curl, velocity="streamlines").velocity.lines
    segments = [np.asarray(segment) for segment in lines.get_segments()]
    middle = np.concatenate([(segment[1:] + segment[:-1]) / 2 for segment in segments])
    step = np.concatenate([np.diff(segment, axis=0) for segment in segments])
    velocity = np.stack([middle[:, 1], -middle[:, 0]], 1) * (1 - middle.prod(axis=1))[:, None]
    speed, length = np.linalg.norm(velocity, axis=1), np.linalg.norm(step, axis=1)
    # Away from the fixed points, where the direction turns within a grid cell.
    chosen = (speed > 0.5) & (length > 1e-3)
    assert chosen.sum() > 100
    assert (np.sum(velocity * step, axis=1)[chosen] / (speed * length)[chosen]).min() > 0.9


# ------------------------------------------------------------------------------------- whole portraits


def test_a_portrait_alone_has_a_columns_width():
    portrait = cf.phase_portrait(CURL, WINDOW, WINDOW, resolution=24, trajectories=[orbit()])
    ax = portrait.ax
    assert width_in_mm(ax.figure) == pytest.approx(85.0)
    assert (ax.get_xlim(), ax.get_ylim()) == (WINDOW, WINDOW)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$w_1$", "$w_2$")
    assert ax.get_aspect() == 1.0
    assert (len(portrait.manifold), len(portrait.fixed_points), len(portrait.trajectories)) == (4, 3, 1)
    assert portrait.background is not None
    assert portrait.velocity is not None
    assert portrait.nullclines == ()


@pytest.mark.parametrize(
    ("ylim", "expected"),
    [((-2, 2), 1.0), ((-0.6, 0.6), 1.0), ((-0.4, 0.4), "auto"), ((-7, 7), 1.0), ((0, 1e3), "auto")],
)
def test_a_figure_of_its_own_fits_a_window_of_any_shape(curl: cf.plane.Survey, ylim: Any, expected: Any):
    portrait = cf.plot.survey(replace(curl, ylim=ylim))
    ax, figure = portrait.ax, portrait.ax.figure
    figure.canvas.draw()
    assert ax.get_aspect() == expected
    box, legend, label = (part.get_window_extent() for part in (ax, ax.get_legend(), ax.xaxis.label))
    assert not legend.overlaps(label)
    assert legend.y0 >= 0
    # Hardly any of the figure is empty.
    above, below = figure.bbox.height - ax.get_tightbbox().y1, legend.y0
    assert above + below < 0.2 * figure.dpi
    assert min(box.width, box.height) > 0.2 * figure.bbox.width
    assert min(portrait.ax.get_position().extents) >= 0


def test_the_scales_of_the_axes_may_be_chosen(curl: cf.plane.Survey):
    assert draw(curl, aspect="auto").ax.get_aspect() == "auto"
    assert draw(curl, aspect=2).ax.get_aspect() == 2.0
    for wrong in ("square", -1.0, float("nan")):
        with pytest.raises(ValueError, match="`aspect` must be"):
            draw(curl, aspect=wrong)


def test_the_given_axes_are_drawn_on(curl: cf.plane.Survey):
    figure, axes = plt.subplots(1, 2)
    assert cf.plot.survey(curl, ax=axes[1]).ax is axes[1]
    assert cf.plot.loss({"curl flow": orbit()}, ax=axes[0])[0].axes is axes[0]
    assert plt.get_fignums() == [figure.number]
    np.testing.assert_allclose(figure.get_size_inches(), plt.rcParams["figure.figsize"])


def test_portraits_side_by_side_have_two_columns_width_and_one_legend():
    runs = {"one": {"gradient flow": orbit(GRADIENT)}, "other": {"curl flow": orbit()}}
    panels = cf.plot.compare_portraits(
        {"one": GRADIENT, "other": CURL}, WINDOW, WINDOW, resolution=24, velocity=None, trajectories=runs
    )
    assert list(panels) == ["one", "other"]
    figure = panels["one"].ax.figure
    assert panels["other"].ax.figure is figure
    assert width_in_mm(figure) == pytest.approx(178.0)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["one", "other"]
    assert [len(panel.trajectories) for panel in panels.values()] == [1, 1]
    entries = legend_of(figure)
    assert len(entries) == len(set(entries))
    assert {"gradient flow", "curl flow", "saddle", "centre", "separatrix", "stable manifold"} <= set(entries)


def test_portraits_to_compare_may_be_drawn_on_axes_of_ones_own():
    figure, axes = plt.subplots(2, 2)
    systems = {"a": GRADIENT, "b": CURL, "c": CURL, "d": GRADIENT}
    panels = cf.plot.compare_portraits(
        systems, WINDOW, WINDOW, resolution=12, velocity=None, axes=axes, trajectories={"b": [orbit()]}
    )
    assert [panel.ax for panel in panels.values()] == list(axes.flat)
    assert [len(panel.trajectories) for panel in panels.values()] == [0, 1, 0, 0]
    assert plt.get_fignums() == [figure.number]
    assert legend_of(figure) == []
    with pytest.raises(ValueError, match="`axes` must be 2 axes, one for every system, but are 4"):
        cf.plot.compare_portraits({"a": CURL, "b": CURL}, WINDOW, WINDOW, axes=axes)


def test_a_plane_of_a_larger_flow_shows_how_much_leads_out():
    flow = cf.CurlFlow([1.0, 2.0], d1=[1, 1], d2=[1, -1])
    origin = cf.Weights(np.zeros((2, 2)), np.zeros((1, 2)))
    portrait = cf.phase_portrait(
        flow,
        WINDOW,
        WINDOW,
        plane=cf.plane.coordinate_plane(
            cf.Weights(np.ones((2, 2)), np.ones((1, 2))), ("W1", 0, 0), ("W2", 0, 1)
        ),
        background="out of plane",
        fixed_points=[cf.classify(flow, origin)],
        resolution=6,
    )
    ax = portrait.ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("W1[0, 0]", "W2[0, 1]")
    assert portrait.background is not None
    assert (portrait.background.norm.vmin, portrait.background.norm.vmax) == (0.0, 1.0)
    assert [other.get_ylabel() for other in ax.child_axes] == ["share of speed out of plane"]
    assert (portrait.manifold, portrait.separatrices) == ((), ())
    assert [mark.get_label() for mark in portrait.fixed_points] == ["saddle-centre"]
    np.testing.assert_allclose(portrait.fixed_points[0].get_xydata(), [[0.0, 0.0]])


# ---------------------------------------------------------------------------------------- loss curves


def test_loss_curves_are_the_losses_down_to_the_floor():
    runs = {"curl flow": orbit(), "gradient flow": orbit(GRADIENT, (-1.5, 1.0), 30.0)}
    lines = cf.plot.loss(runs, floor=1e-10)
    assert [line.get_label() for line in lines] == list(runs)
    for line, run in zip(lines, runs.values(), strict=True):
        loss = np.asarray(run.loss())
        np.testing.assert_array_equal(line.get_xdata(), run.ts)
        np.testing.assert_allclose(line.get_ydata(), np.where(loss >= 1e-10, loss, np.nan), rtol=1e-12)
    assert np.isnan(lines[1].get_ydata()).any()
    ax = lines[0].axes
    assert (ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "time $t$", "loss $L$")
    assert ax.child_axes == []
    assert width_in_mm(ax.figure) == pytest.approx(85.0)
    assert legend_of(ax.figure) == list(runs)
    # Apart in grey print too.
    assert lines[0].get_linestyle() != lines[1].get_linestyle()


def test_a_loss_is_drawn_no_further_than_the_tolerance_lets_it_be_known():
    """What is left of it then goes up and down with the solver's steps."""
    run = cf.integrate(CURL, jnp.array([-1.5, 0.5]), 60.0, rtol=1e-5, atol=1e-7)
    (line,) = cf.plot.loss([run])
    drawn = line.get_ydata()[np.isfinite(line.get_ydata())]
    assert 1e-10 < drawn.min() < 1e-8
    assert (np.diff(drawn[drawn < 1e-4]) < 0).all()
    assert line.axes.get_legend() is None


def test_a_loss_that_was_saved_twice_is_a_curve():
    run = cf.integrate(CURL, jnp.array([-1.5, 0.5]), 8.0, ts=[0.0, 8.0])
    (line,) = cf.plot.loss({"curl flow": run})
    times, values = line.get_data()
    expected = [CURL.loss(CURL.solution(jnp.asarray(t), jnp.array([-1.5, 0.5]))) for t in times[::20]]
    seen = np.isfinite(values[::20])
    assert len(times) > 50
    assert seen.sum() > 3
    np.testing.assert_allclose(values[::20][seen], np.array(expected)[seen], rtol=1e-2, atol=1e-13)


def test_the_inset_shows_the_same_losses_on_a_linear_scale():
    run = orbit()
    (line,) = cf.plot.loss({"curl flow": run}, inset=(1.0, 3.0))
    (small,) = line.axes.child_axes
    assert (small.get_yscale(), small.get_xlim()) == ("linear", (1.0, 3.0))
    loss = np.asarray(run.loss())
    np.testing.assert_allclose(small.lines[0].get_ydata(), loss, rtol=1e-12, atol=1e-15)
    top = loss[(run.ts >= 1) & (run.ts <= 3)].max()
    assert small.get_ylim() == pytest.approx((0.0, 1.08 * top))


# ------------------------------------------------------------------------------------------- style, files


@pytest.mark.parametrize(("columns", "width"), [(1, 85.0), (2, 178.0)])
def test_paper_style_sets_journal_widths_and_nothing_outside(columns: int, width: float):
    before = dict(plt.rcParams)
    with cf.plot.paper_style(columns=columns, aspect=0.5):
        figure = plt.figure()
        assert plt.rcParams["pdf.fonttype"] == 42
        assert 7 <= plt.rcParams["font.size"] <= 9
    assert width_in_mm(figure) == pytest.approx(width)
    assert 25.4 * figure.get_size_inches()[1] == pytest.approx(width / 2)
    assert dict(plt.rcParams) == before


def test_a_notebooks_first_figure_may_stand_inside_the_style():
    """Its backend is loaded with the first figure, and switches interactivity on: without it later figures do not show."""
    assert not plt.isinteractive()
    with cf.plot.paper_style():
        plt.ion()
    stayed_on = plt.isinteractive()
    with cf.plot.paper_style():
        plt.ioff()
    assert stayed_on
    assert not plt.isinteractive()


@pytest.fixture(scope="module")
def pdf(curl: cf.plane.Survey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with cf.plot.paper_style():
        portrait = cf.plot.survey(
            replace(curl, nullclines=(curl.separatrices, ())),
            trajectories={"": orbit()},
        )
    path = cf.plot.save_figure(portrait.ax.figure, tmp_path_factory.mktemp("figures") / "portrait.pdf")
    plt.close(portrait.ax.figure)
    return path


def test_a_pdf_embeds_truetype_fonts(pdf: Path):
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/Type3" not in content
    assert b"/CIDFontType2" in content or b"/TrueType" in content
    assert b"/FontFile2" in content


def test_a_pdf_keeps_its_lines_as_vectors_at_the_columns_width(pdf: Path):
    found = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", pdf.read_bytes())
    assert found is not None
    assert float(found[1]) / 72 * 25.4 == pytest.approx(85.0, abs=0.1)
    # Only the background is an image.
    assert pdf.read_bytes().count(b"/Subtype /Image") <= 2


@pytest.mark.parametrize("suffix", [".pdf", ".png", ".svg"])
def test_the_same_figure_gives_the_same_file(tmp_path: Path, suffix: str):
    contents = []
    for name in ("first", "second"):
        lines = cf.plot.loss({"curl flow": orbit()}, inset=(0.0, 2.0))
        path = cf.plot.save_figure(lines[0].axes.figure, tmp_path / (name + suffix))
        assert path == tmp_path / (name + suffix)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert len(contents[0]) > 1000


# ---------------------------------------------------------------------------------------------- errors


def test_files_that_cannot_be_written_are_refused(tmp_path: Path):
    figure = plt.figure()
    with pytest.raises(ValueError, match="`path` must lie in an existing folder, but"):
        cf.plot.save_figure(figure, tmp_path / "missing" / "figure.pdf")
    with pytest.raises(ValueError, match=r"`path` must be a file, but .* is a folder"):
        cf.plot.save_figure(figure, tmp_path)
    with pytest.raises(ValueError, match=r"`path's suffix` must be one of .*, but is 'docx'"):
        cf.plot.save_figure(figure, tmp_path / "figure.docx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"background": "losses"}, "`background` must be one of 'loss', 'speed', 'out of plane', None"),
        ({"velocity": "lines"}, "`velocity` must be one of 'streamlines', 'arrows', None, but is 'lines'"),
        ({"trajectories": orbit()}, "`trajectories` must be a list or a mapping from labels"),
        ({"trajectories": [replace(orbit(), ys=jnp.zeros((101, 3, 2)))]}, "states of 2 numbers"),
    ],
)
def test_bad_portraits_are_refused_in_a_sentence(
    curl: cf.plane.Survey, options: dict[str, Any], sentence: str
):
    with pytest.raises(ValueError, match=sentence):
        draw(curl, **options)


def test_other_bad_figures_are_refused_in_a_sentence():
    for count in (1, 4):
        with pytest.raises(
            ValueError, match=f"`systems` must hold two or three vector fields, but holds {count}"
        ):
            cf.plot.compare_portraits({str(i): CURL for i in range(count)}, WINDOW, WINDOW)
    with (
        pytest.raises(ValueError, match="`columns` must be 1 or 2, but is 3"),
        cf.plot.paper_style(columns=3),
    ):
        pass
    with (
        pytest.raises(ValueError, match="`aspect` must be positive, but is -1"),
        cf.plot.paper_style(aspect=-1),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"trajectories": {}}, "`trajectories` must hold at least one trajectory"),
        ({"trajectories": {"a": replace(orbit(), outcome=(orbit().outcome,))}}, "no batch"),
        ({"trajectories": {"a": replace(orbit(), system=lambda t, y, args: y)}}, "must have a method `loss`"),
        ({"floor": 0.0}, "`floor` must be positive, but is 0.0"),
        ({"inset": (3.0, 1.0)}, r"`inset` must be a pair of times \(from, to\), but is \(3.0, 1.0\)"),
        ({"inset": (100.0, 200.0)}, "`inset` must hold times at which the trajectories were saved, but is"),
    ],
)
def test_bad_loss_plots_are_refused_in_a_sentence(arguments: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        cf.plot.loss(**({"trajectories": {"curl flow": orbit()}} | arguments))

"""The velocity of a flow in a plane, split into the part that a gradient explains and the part that turns.

Both potentials are polynomials, found by projection: no grid, and for polynomial flows no error but that of their corners.
"""

import numpy as np
import scipy
from jaxtyping import Float
from numpy.polynomial import legendre

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow.plane.planes import Limits, Plane, checked_plane, velocity_in_plane, window_limits
from curlflow.system import Args, Flow


@result
class HelmholtzSplit:
    """A velocity field on a window of a plane, split in two; made by `helmholtz_split`.

    Attributes
    ----------
    plane, xlim, ylim
        The window.
    x, y
        Grid coordinates, shape (resolution,), for drawing.
    velocity
        The velocity in the plane on the grid, shape (2, resolution, resolution): component, y, x.
    gradient, rotational
        Its two parts, of the same shape: −∇ of the potential, and (−∂/∂y, ∂/∂x) of the stream function.
    harmonic
        The part of `gradient` that has neither divergence nor curl, of the same shape.
    potential, stream_function
        Shape (resolution, resolution): y, x. The gradient part runs downhill on the one, the rotational part along the
        levels of the other, anticlockwise round its lows.
    gradient_share, rotational_share
        The shares of the two parts in the mean square of the velocity over the window.
    harmonic_share
        The share of the harmonic part, included in `gradient_share`. It is due to what lies outside the window, and as
        well the curl of something as the gradient of something: with other conditions at the boundary it counts as
        rotational.
    residual
        The share that polynomials of the degree used leave unexplained.
    """

    plane: Plane
    xlim: Limits
    ylim: Limits
    x: Float[np.ndarray, " x"]
    y: Float[np.ndarray, " y"]
    velocity: Float[np.ndarray, "2 y x"]
    gradient: Float[np.ndarray, "2 y x"]
    rotational: Float[np.ndarray, "2 y x"]
    harmonic: Float[np.ndarray, "2 y x"]
    potential: Float[np.ndarray, "y x"]
    stream_function: Float[np.ndarray, "y x"]
    gradient_share: float
    rotational_share: float
    harmonic_share: float
    residual: float

    def to_xarray(self) -> "xr.Dataset":
        """Fields along `component`, `y` and `x`; the shares as attributes."""
        parts = {name: getattr(self, name) for name in ("velocity", "gradient", "rotational", "harmonic")}
        return xr.Dataset(
            {name: (("component", "y", "x"), part) for name, part in parts.items()}
            | {name: (("y", "x"), getattr(self, name)) for name in ("potential", "stream_function")},
            coords={"x": self.x, "y": self.y},
            attrs={
                name: getattr(self, name)
                for name in ("gradient_share", "rotational_share", "harmonic_share", "residual")
            },
        )

    def __str__(self) -> str:
        return (
            f"HelmholtzSplit: {self.gradient_share:.1%} gradient ({self.harmonic_share:.1%} harmonic), "
            f"{self.rotational_share:.1%} rotational, residual {self.residual:.1e}"
        )


def helmholtz_split(
    system: Flow,
    xlim: Limits,
    ylim: Limits,
    *,
    plane: Plane | None = None,
    degree: int = 32,
    resolution: int = 101,
    t: float = 0.0,
    args: Args = None,
) -> HelmholtzSplit:
    r"""Split a flow's velocity in a window of a plane into a gradient part and a rotational part.

    .. math::  v = -\nabla U + \nabla^\perp \psi, \qquad \psi = 0 \text{ on the boundary},

    with :math:`\nabla^\perp = (-\partial_y, \partial_x)`. The condition makes the two parts orthogonal over the window and
    the split unique: −∇U is the gradient nearest to v in mean square, and the rotational part, which vanishes if and only if
    v is a gradient in the window, is what no gradient explains. Within the gradient part, what is left by the gradients of
    functions that vanish on the boundary has neither divergence nor curl: the harmonic part. Had the condition been put on U
    instead, that part would have counted as rotational.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    xlim, ylim
        The window, (low, high) along each axis of the plane.
    plane
        Which plane of the state space (see `coordinate_plane`, `eigenplane`, `principal_plane`); None if the state is an
        array of two numbers. Only the velocity's component in the plane is split. The other coordinates are held fixed.
    degree
        Of the polynomials, in each coordinate.
    resolution
        Grid points along each axis, for drawing.
    t, args
        Time and arguments at which the vector field is taken.

    Returns
    -------
    HelmholtzSplit
        The parts, their potentials and their shares.

    Raises
    ------
    ValueError
        If the flow is not planar and no plane is given, if the limits are not (low, high), if the degree or the resolution
        is below 2, or if the velocity is not finite somewhere in the window.

    References
    ----------
    H. Bhatia, G. Norgard, V. Pascucci, P.-T. Bremer, IEEE Trans. Vis. Comput. Graph. 19, 1386 (2013). J. Shen, SIAM J. Sci.
    Comput. 15, 1489 (1994), for the polynomials.

    Examples
    --------
    Near its centre curl flow turns. In a square a sixth of a plain rotation is harmonic: what would have to cross the sides.

    >>> import curlflow as cf
    >>> flow = cf.toy_flow(s=1.0, flip="readout")
    >>> print(cf.gradient.helmholtz_split(flow, (-0.5, 0.5), (-0.5, 0.5)))
    HelmholtzSplit: 16.3% gradient (16.3% harmonic), 83.7% rotational, residual ...
    >>> cf.gradient.helmholtz_split(flow.gradient_flow(), (-2, 2), (-2, 2)).rotational_share < 1e-20
    True
    """
    xlim, ylim = window_limits("xlim", xlim), window_limits("ylim", ylim)
    for name, value in (("degree", degree), ("resolution", resolution)):
        if _checks.positive_integer(name, value) < 2:
            raise ValueError(f"`{name}` must be at least 2, but is 1.")
    plane = checked_plane(system, plane, t, args)
    nodes, weights = legendre.leggauss(2 * degree)
    at_nodes = _Polynomials(nodes, degree, xlim, ylim)
    v = _velocity(system, plane, at_nodes.x, at_nodes.y, t, args)
    U, psi, U_inside = _potentials(v, weights, at_nodes)
    x, y = np.linspace(*xlim, resolution), np.linspace(*ylim, resolution)
    on_grid = _Polynomials(np.linspace(-1, 1, resolution), degree, xlim, ylim)

    def share(part: np.ndarray) -> float:
        total = _mean_square(v, weights)
        return _mean_square(part, weights) / total if total > 0 else 0.0

    gradient, rotational = -at_nodes.slope(U), _turned(at_nodes.slope(psi))
    return HelmholtzSplit(
        plane=plane,
        xlim=xlim,
        ylim=ylim,
        x=x,
        y=y,
        velocity=_velocity(system, plane, x, y, t, args),
        gradient=-on_grid.slope(U),
        rotational=_turned(on_grid.slope(psi)),
        harmonic=on_grid.slope(U_inside - U),
        potential=on_grid.value(U),
        stream_function=on_grid.value(psi),
        gradient_share=share(gradient),
        rotational_share=share(rotational),
        harmonic_share=share(at_nodes.slope(U_inside - U)),
        residual=share(v - gradient - rotational),
    )


class _Polynomials:
    """Products of orthonormal Legendre polynomials on the window, and their slopes, at the points of a grid.

    Coefficients stand as matrices: row for the degree in x, column for the degree in y. Fields stand as (component, y, x).
    """

    def __init__(self, points: Float[np.ndarray, " points"], degree: int, xlim: Limits, ylim: Limits):
        scale = np.sqrt(np.arange(degree + 1) + 0.5)
        self.values = legendre.legvander(points, degree) * scale
        self.slopes = legendre.legval(points, legendre.legder(np.diag(scale))).T
        self.half_widths = ((xlim[1] - xlim[0]) / 2, (ylim[1] - ylim[0]) / 2)
        self.x = np.mean(xlim) + self.half_widths[0] * points
        self.y = np.mean(ylim) + self.half_widths[1] * points

    def value(self, c: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "y x"]:
        return self.values @ c.T @ self.values.T

    def slope(self, c: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "2 y x"]:
        along_x = self.values @ c.T @ self.slopes.T / self.half_widths[0]
        along_y = self.slopes @ c.T @ self.values.T / self.half_widths[1]
        return np.stack([along_x, along_y])

    def products_with_slopes(
        self, field: Float[np.ndarray, "2 y x"], weights: Float[np.ndarray, " points"]
    ) -> Float[np.ndarray, "m n"]:
        """The integrals of the field times the slope of every product of polynomials, over [−1, 1]²."""
        first, second = field * weights * weights[:, None]
        along_x = self.slopes.T @ first.T @ self.values / self.half_widths[0]
        return along_x + self.values.T @ second.T @ self.slopes / self.half_widths[1]


def _potentials(
    v: Float[np.ndarray, "2 y x"], weights: Float[np.ndarray, " points"], at: _Polynomials
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of U, of ψ, and of the U that vanishes on the boundary: three projections of v."""
    stiffness = at.slopes.T @ (weights[:, None] * at.slopes)
    everywhere = np.linalg.eigh(stiffness)
    vanishing = _vanishing_modes(stiffness)
    along = at.products_with_slopes(v, weights)
    across = at.products_with_slopes(np.stack([v[1], -v[0]]), weights)
    return (
        -_solve(along, *everywhere, at.half_widths),
        _solve(across, *vanishing, at.half_widths),
        -_solve(along, *vanishing, at.half_widths),
    )


def _vanishing_modes(stiffness: Float[np.ndarray, "m m"]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and orthonormal modes of −d²/dx² among polynomials that vanish at ±1, P_{k+2} − P_k."""
    m = len(stiffness)
    scale = np.sqrt(np.arange(m) + 0.5)
    basis = (np.eye(m, m - 2, -2) - np.eye(m, m - 2)) / scale[:, None]
    eigenvalues, modes = scipy.linalg.eigh(basis.T @ stiffness @ basis, basis.T @ basis)
    return eigenvalues, basis @ modes


def _solve(
    right: Float[np.ndarray, "m n"],
    eigenvalues: Float[np.ndarray, " k"],
    modes: Float[np.ndarray, "m k"],
    half_widths: tuple[float, float],
) -> Float[np.ndarray, "m n"]:
    """Poisson's equation in the eigenmodes of its two directions; the constant, if it is among them, is left out."""
    sums = eigenvalues[:, None] / half_widths[0] ** 2 + eigenvalues / half_widths[1] ** 2
    in_modes = modes.T @ right @ modes
    solved = np.divide(in_modes, sums, out=np.zeros_like(sums), where=sums > 1e-9 * sums.max())
    return modes @ solved @ modes.T


def _turned(slope: Float[np.ndarray, "2 y x"]) -> Float[np.ndarray, "2 y x"]:
    return np.stack([-slope[1], slope[0]])


def _mean_square(field: Float[np.ndarray, "2 y x"], weights: Float[np.ndarray, " points"]) -> float:
    return float(weights @ (field**2).sum(0) @ weights) / 4


def _velocity(
    system: Flow, plane: Plane, x: np.ndarray, y: np.ndarray, t: float, args: Args
) -> Float[np.ndarray, "2 y x"]:
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    velocity, _ = velocity_in_plane(system, plane, grid, t, args)
    _checks.require_finite("velocity in the window", velocity)
    return np.asarray(velocity).T.reshape(2, len(y), len(x))

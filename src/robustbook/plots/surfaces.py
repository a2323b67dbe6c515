"""Draws surfaces in input space: `contour` from above, `relief` in three dimensions,
`profile` along one direction.

All three draw a `DrawnSurface`, as `measure.surfaces` makes them, on axes that the
caller made. The line S = 0 is the decision boundary; the path of an attack is given as
its points (alpha, beta).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize

Array = npt.NDArray[np.float64]
Quantity = Literal["decision", "cross_entropy"]
BOUNDARY, PATH = "#111111", "#D55E00"
AXIS: dict[Quantity, str] = {
    "decision": "decision value S (logit units)",
    "cross_entropy": "cross-entropy (nats)",
}
_COLOURS: dict[Quantity, str] = {"decision": "RdBu", "cross_entropy": "BuPu"}
ALPHA_LABEL = "adversarial direction α"
BETA_LABEL = "random direction β"


class DrawnSurface(Protocol):
    """What is drawn: `decision` and `cross_entropy` (A, B) over `alphas` (A,) and
    `betas` (B,).
    """

    @property
    def alphas(self) -> Array:
        """Coordinates along the first direction."""

    @property
    def betas(self) -> Array:
        """Coordinates along the second direction."""

    @property
    def decision(self) -> Array:
        """Decision values (logit units)."""

    @property
    def cross_entropy(self) -> Array:
        """Cross-entropies (nats)."""


def limits(surfaces: list[DrawnSurface], quantity: Quantity) -> tuple[float, float]:
    """Lowest and highest value to colour, for surfaces that share a scale; symmetric
    around 0 for decision values.
    """
    values = np.concatenate(
        [getattr(surface, quantity).ravel() for surface in surfaces]
    )
    if quantity == "decision":
        far = float(np.abs(values).max()) or 1.0
        return -far, far
    return 0.0, float(values.max()) or 1.0


def _norm(
    surface: DrawnSurface, quantity: Quantity, scale: tuple[float, float] | None
) -> Normalize:
    from matplotlib.colors import Normalize

    low, high = scale or limits([surface], quantity)
    return Normalize(low, high)


def contour(
    ax: Axes,
    surface: DrawnSurface,
    quantity: Quantity = "decision",
    *,
    path: npt.ArrayLike | None = None,
    scale: tuple[float, float] | None = None,
) -> QuadMesh:
    """Colour the plane by `quantity`, with the decision boundary and an attack's `path`
    (P, 2) drawn in.

    `scale` fixes the colours' range (see `limits`). Returns the coloured mesh, for a
    colour bar.

    Raises ValueError if the surface is only a line.
    """
    if min(surface.decision.shape) < 2:
        raise ValueError(
            f"a contour needs a plane, got a surface of shape {surface.decision.shape}"
        )
    mesh = ax.pcolormesh(
        surface.alphas,
        surface.betas,
        getattr(surface, quantity).T,
        cmap=_COLOURS[quantity],
        norm=_norm(surface, quantity, scale),
        shading="nearest",
        rasterized=True,
    )
    if surface.decision.min() < 0 < surface.decision.max():
        ax.contour(
            surface.alphas,
            surface.betas,
            surface.decision.T,
            levels=[0],
            colors=BOUNDARY,
            linewidths=1.8,
        )
    _mark(ax, path)
    ax.grid(False)
    ax.set(xlabel=ALPHA_LABEL, ylabel=BETA_LABEL)
    return mesh


def _mark(ax: Axes, path: npt.ArrayLike | None) -> None:
    """The image as a dot at the origin, the attack's path as a line that ends in a
    cross.
    """
    outline: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 1}
    if path is not None:
        points = np.asarray(path, dtype=np.float64)
        ax.plot(points[:, 0], points[:, 1], color="white", linewidth=3.2)
        ax.plot(points[:, 0], points[:, 1], color=PATH, linewidth=1.8)
        ax.plot(*points[-1], marker="X", markersize=9, color=PATH, **outline)
    ax.plot(0, 0, marker="o", markersize=8, color=BOUNDARY, **outline)


def relief(
    ax: Any,
    surface: DrawnSurface,
    quantity: Quantity = "decision",
    *,
    path: npt.ArrayLike | None = None,
    scale: tuple[float, float] | None = None,
) -> None:
    """Draw `quantity` as a relief on 3-D axes, with the decision boundary and an
    attack's `path` (P, 2) on it.

    Raises ValueError if the surface is only a line.
    """
    if min(surface.decision.shape) < 2:
        raise ValueError(
            f"a relief needs a plane, got a surface of shape {surface.decision.shape}"
        )
    alphas, betas = np.meshgrid(surface.alphas, surface.betas, indexing="ij")
    heights = getattr(surface, quantity)
    ax.computed_zorder = False
    ax.plot_surface(
        alphas,
        betas,
        heights,
        cmap=_COLOURS[quantity],
        norm=_norm(surface, quantity, scale),
        rcount=51,
        ccount=51,
        linewidth=0.15,
        edgecolor="#00000030",
        rasterized=True,
        zorder=1,
    )
    for line in boundary_lines(surface):
        ax.plot(
            line[:, 0],
            line[:, 1],
            _height(surface, heights, line),
            color=BOUNDARY,
            linewidth=2,
            zorder=3,
        )
    if path is not None:
        points = _dense(np.asarray(path, dtype=np.float64))
        ax.plot(
            points[:, 0],
            points[:, 1],
            _height(surface, heights, points),
            color=PATH,
            linewidth=2.2,
            zorder=4,
        )
    low, high = scale or limits([surface], quantity)
    ax.set(xlabel="α", ylabel="β", zlim=(low, high))
    ax.set_zlabel(AXIS[quantity], labelpad=1)
    ax.tick_params(pad=0)
    ax.locator_params(nbins=4)
    ax.view_init(elev=28, azim=-55)
    ax.set_box_aspect(None, zoom=0.78)


def boundary_lines(surface: DrawnSurface) -> list[npt.NDArray[np.float64]]:
    """The decision boundary S = 0 as lines of points (alpha, beta), interpolated
    between cells.
    """
    from contourpy import contour_generator

    lines = contour_generator(surface.alphas, surface.betas, surface.decision.T).lines(
        0.0
    )
    return [np.asarray(line, dtype=np.float64) for line in lines]


def _height(
    surface: DrawnSurface,
    heights: npt.NDArray[np.float64],
    points: npt.NDArray[np.float64],
) -> Any:
    """The surface's value at points (P, 2) of the plane, NaN outside it."""
    from scipy.interpolate import RegularGridInterpolator

    grid = (surface.alphas, surface.betas)
    return RegularGridInterpolator(
        grid, heights, bounds_error=False, fill_value=np.nan
    )(points)


def _dense(points: npt.NDArray[np.float64], each: int = 20) -> npt.NDArray[np.float64]:
    """The same path with `each` points a step, so that it lies on a curved surface."""
    position = np.linspace(0, len(points) - 1, (len(points) - 1) * each + 1)
    steps = np.arange(len(points))
    return np.column_stack(
        [np.interp(position, steps, points[:, axis]) for axis in (0, 1)]
    )


def profile(
    ax: Axes, surface: DrawnSurface, quantity: Quantity = "decision", **style: Any
) -> None:
    """Draw `quantity` along alpha (at the beta nearest to 0) as a line; `style` goes to
    Matplotlib's `plot`.
    """
    across = int(np.abs(surface.betas).argmin())
    ax.plot(surface.alphas, getattr(surface, quantity)[:, across], **style)
    if quantity == "decision":
        ax.axhline(0, color=BOUNDARY, linewidth=1, zorder=1)
    ax.set(xlabel=ALPHA_LABEL, ylabel=AXIS[quantity])

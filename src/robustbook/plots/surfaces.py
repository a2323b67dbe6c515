"""Draws surfaces in input space: `contour`, a plane seen from above.

It draws a `DrawnSurface`, as `measure.surfaces` makes them, on axes that the caller
made. The line S = 0 is the decision boundary; the path of an attack is given as its
points (alpha, beta).
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

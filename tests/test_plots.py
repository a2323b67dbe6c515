"""The look of methods, and figures that draw what they are given: boundaries,
intervals, brackets, ranks.
"""

import matplotlib as mpl

mpl.use("agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors, pyplot

from robustbook.measure.surfaces import Surface
from robustbook.plots import ranking, style, surfaces

TRAININGS = ("natural", "fgsm", "gradient-regularised", "minmax", "distilled")
POSTERIORS = (
    "deterministic",
    "mean-field vi",
    "mc dropout",
    "ensemble",
    "laplace",
    "hmc",
    "weight noise",
)
CRITERIA = (
    "oracle",
    "taylor-fo",
    "taylor-fo-fg",
    "taylor-so",
    "obd",
    "weight-norm",
    "bn-scale",
    "random",
)
GENERATORS = (
    "rise",
    "occlusion",
    "gradient",
    "integrated gradients",
    "gradient x input",
    "grad-cam",
    "random",
)


@pytest.fixture(autouse=True)
def _tidy():
    style.use_style()
    yield
    pyplot.close("all")


@pytest.mark.parametrize("family", [TRAININGS, POSTERIORS, CRITERIA, GENERATORS])
def test_methods_that_meet_in_a_figure_differ_in_colour_and_in_marker(family):
    assert len({style.colour(name) for name in family}) == len(family)
    assert len({style.marker(name) for name in family}) == len(family)


def test_a_method_has_one_look_however_it_is_written():
    assert style.look("MinMax") == style.look(" minmax ") == style.METHODS["minmax"]
    assert style.colour("gradient_regularised") == style.colour("gradient-regularised")
    assert style.label("minmax") == "MinMax (PGD-7)"


def test_an_unknown_method_gets_the_nearest_name():
    with pytest.raises(KeyError, match="did you mean 'natural'"):
        style.colour("naturel")


def test_no_text_is_too_small_for_a_phone():
    """On a phone of 390 pixels a page-wide figure is shown 342 pixels wide."""
    names = (
        "font.size",
        "axes.labelsize",
        "xtick.labelsize",
        "ytick.labelsize",
        "legend.fontsize",
    )
    shrunk = 342 / (72 * style.FIGURE_WIDTH)
    assert min(mpl.rcParams[name] for name in names) * shrunk >= 9


def tilted():
    """S = 1 - 10 alpha: right below alpha = 0.1, wrong above."""
    alphas, betas = np.linspace(-0.2, 0.3, 11), np.linspace(-0.2, 0.2, 5)
    decision = np.repeat(1 - 10 * alphas[:, None], len(betas), axis=1)
    predicted = np.where(decision > 0, 3, 5)
    return Surface(alphas, betas, np.log1p(np.exp(-decision)), decision, predicted, 3)


def test_the_boundary_is_where_s_is_zero():
    _, ax = pyplot.subplots()
    surfaces.contour(ax, tilted())
    line = ax.collections[-1].get_paths()[0].vertices
    np.testing.assert_allclose(line[:, 0], 0.1, atol=1e-12)
    assert sorted(line[[0, -1], 1]) == pytest.approx([-0.2, 0.2])


def test_alpha_runs_to_the_right_and_beta_upwards():
    surface = tilted()
    _, ax = pyplot.subplots()
    mesh = surfaces.contour(ax, surface)
    values = mesh.get_array().reshape(len(surface.betas), len(surface.alphas))
    np.testing.assert_allclose(values[2], surface.decision[:, 2])
    assert ax.get_xlabel() == surfaces.ALPHA_LABEL
    assert ax.get_ylabel() == surfaces.BETA_LABEL


def test_right_and_wrong_differ_in_hue_and_zero_is_pale():
    _, ax = pyplot.subplots()
    mesh = surfaces.contour(ax, tilted())
    right, zero, wrong = (mesh.cmap(mesh.norm(value)) for value in (2.0, 0.0, -2.0))
    assert right[2] > right[0]
    assert wrong[0] > wrong[2]
    assert min(zero[:3]) > 0.9


def test_the_attack_starts_at_the_image_and_ends_where_it_ended():
    _, ax = pyplot.subplots()
    surfaces.contour(
        ax, tilted(), "cross_entropy", path=[[0, 0], [0.05, 0.1], [0.2, 0.1]]
    )
    ends = [line.get_xydata()[-1].tolist() for line in ax.lines]
    assert [0.2, 0.1] in ends
    assert [0.0, 0.0] in ends


def test_surfaces_can_share_a_scale():
    low, high = surfaces.limits([tilted()], "decision")
    assert low == -high == pytest.approx(-3)
    assert surfaces.limits([tilted()], "cross_entropy")[0] == 0


def test_a_line_has_no_contour():
    plane = tilted()
    line = Surface(
        plane.alphas,
        np.zeros(1),
        plane.cross_entropy[:, :1],
        plane.decision[:, :1],
        plane.predicted[:, :1],
        3,
    )
    _, ax = pyplot.subplots()
    with pytest.raises(ValueError, match="plane"):
        surfaces.contour(ax, line)


def table():
    return pd.DataFrame(
        {
            "network": ["MLP", "MLP", "LeNet", "LeNet"],
            "training": ["natural", "minmax"] * 2,
            "value": [0.1, 0.5, 0.2, 0.7],
            "low": [0.05, 0.4, 0.1, 0.6],
            "high": [0.2, 0.6, 0.3, 0.8],
        }
    )


def test_a_forest_has_the_intervals_in_the_methods_colours():
    _, ax = pyplot.subplots()
    ranking.forest(
        ax,
        table(),
        label="network",
        hue="training",
        axis_label="robust accuracy (share)",
    )
    spans = {
        tuple(line.get_xdata()): line.get_color()
        for line in ax.lines
        if len(line.get_xdata()) == 2
    }
    assert spans[(0.4, 0.6)] == style.colour("minmax")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["MLP", "LeNet"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "natural",
        "MinMax (PGD-7)",
    ]
    assert ax.get_xlabel() == "robust accuracy (share)"
    assert ax.yaxis_inverted()


def test_rows_do_not_cover_each_other():
    heights = ranking._positions(table(), "network", "training")
    assert len(set(heights)) == 4
    assert np.all(np.abs(heights - np.array([0, 0, 1, 1])) < 0.5)


def test_a_forest_takes_rows_without_an_interval():
    rows = table().astype({"low": object, "high": object})
    rows.loc[0, ["low", "high"]] = None
    _, ax = pyplot.subplots()
    ranking.forest(ax, rows, label="network", axis_label="share")
    assert sum(line.get_marker() == "o" for line in ax.lines) == 4


def test_a_bracket_spans_from_the_sound_to_the_attained_end():
    _, ax = pyplot.subplots()
    ranking.brackets(
        ax, table(), label="network", hue="training", axis_label="psi (1/nats)"
    )
    walls = sorted(line.get_xdata()[0] for line in ax.lines if line.get_marker() == "|")
    assert walls == [0.05, 0.1, 0.4, 0.6]


def test_a_bracket_that_is_upside_down_is_refused():
    _, ax = pyplot.subplots()
    with pytest.raises(ValueError, match="low end"):
        ranking.brackets(
            ax, table(), label="network", axis_label="psi", low="high", high="low"
        )


@pytest.mark.parametrize("ground", ["#ffffff", "#14181e"])
def test_data_colours_are_readable_on_a_light_and_on_a_dark_page(ground):
    for look in style.METHODS.values():
        if look.colour != style.INK:
            assert contrast(look.colour, ground) >= 3, look


def contrast(first, second):
    """Contrast ratio of two colours as WCAG 2 defines it."""
    values = [np.array(colors.to_rgb(each)) for each in (first, second)]
    linear = [
        np.where(each <= 0.04045, each / 12.92, ((each + 0.055) / 1.055) ** 2.4)
        for each in values
    ]
    low, high = sorted(float(each @ [0.2126, 0.7152, 0.0722]) for each in linear)
    return (high + 0.05) / (low + 0.05)

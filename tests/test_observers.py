"""ROC, KS and their clustered intervals; contrast to noise and model observers."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, norm
from sklearn.metrics import roc_auc_score

from robustbook import stats
from robustbook.checks import ArgumentError
from robustbook.measure.observers import (
    auc_of,
    channelised_hotelling,
    contrast_to_noise,
    detectability,
    difference_of_gaussians,
    rounding_variance,
)
from robustbook.perturb.lowpass import transfer

RNG = np.random.default_rng(0)


@given(seed=st.integers(0, 1000), digits=st.integers(0, 3))
def test_auc_and_ks_equal_scikit_learns_and_scipys(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    positive, scores = rng.random(50) < 0.3, np.round(rng.normal(size=50), digits)
    positive[:2] = True, False
    assert stats.auc(positive, scores) == pytest.approx(roc_auc_score(positive, scores))
    assert stats.ks(positive, scores) == pytest.approx(
        ks_2samp(scores[positive], scores[~positive]).statistic
    )


def test_weights_count_rows_as_often_as_they_say() -> None:
    positive, scores = RNG.random(40) < 0.4, np.round(RNG.normal(size=40), 1)
    weights = RNG.integers(0, 3, size=(5, 40)).astype(float)
    weights[:, :2], positive[:2] = 1, (True, False)
    for row, area, gap in zip(
        weights,
        stats.auc(positive, scores, weights),
        stats.ks(positive, scores, weights),
        strict=True,
    ):
        repeated = np.repeat(np.arange(40), row.astype(int))
        assert area == pytest.approx(
            roc_auc_score(positive[repeated], scores[repeated])
        )
        assert gap == pytest.approx(stats.ks(positive[repeated], scores[repeated]))


def test_clustered_interval_covers_the_truth_and_a_naive_one_does_not() -> None:
    """Breasts of a woman agree: intervals that draw women cover 95 %, those that draw
    breasts as if independent do not.
    """
    truth, women = auc_of(1.0), 60
    covered = {"women": 0, "breasts": 0}
    for trial in range(120):
        rng = np.random.default_rng(trial)
        positive = np.repeat(rng.random(women) < 0.4, 6)
        scores = (
            positive * 1.0
            + np.repeat(rng.normal(size=women), 6) * 0.95
            + rng.normal(size=6 * women) * np.sqrt(1 - 0.95**2)
        )
        for name, groups in (
            ("women", np.repeat(np.arange(women), 6)),
            ("breasts", np.arange(6 * women)),
        ):
            drawn = stats.crossed(
                partial(stats.auc, positive, scores),
                *stats.draw(groups, seed=0, resamples=200, positive=positive),
            )
            low, high = drawn.interval().bounds
            covered[name] += low <= truth <= high
    assert covered["women"] / 120 > 0.87
    assert covered["breasts"] / 120 < 0.75


def test_differences_of_statistics_are_paired() -> None:
    positive = RNG.random(80) < 0.4
    scores = RNG.normal(size=(3, 80)) + positive
    draws = stats.draw(3, 80, seed=1, resamples=100, positive=positive)
    first, same = (
        stats.mean_over_seeds(partial(stats.auc, positive), table, *draws)
        for table in (scores, 3 * scores + 1)
    )
    assert (first - same).interval().bounds == (0, 0)
    assert first.n == 3


def test_impossible_rankings_are_refused() -> None:
    with pytest.raises(ValueError, match="both classes"):
        stats.auc(np.zeros(4), np.arange(4))
    with pytest.raises(ValueError, match="finite"):
        stats.auc([1, 0], [np.nan, 0])
    with pytest.raises(ValueError, match="one length"):
        stats.auc([1, 0], [1, 2, 3])
    with pytest.raises(ValueError, match="two independent units"):
        stats.draw([3, 3], seed=0, resamples=10, positive=[1, 0])


# Observers
# --------------------------------------------------------------------------------------


def blob(side: int = 24) -> np.ndarray:
    place = np.arange(side) - side / 2
    return 3 * np.exp(-(place[:, None] ** 2 + place[None] ** 2) / 18)


def test_in_white_noise_both_observers_have_the_signals_norm() -> None:
    signal = blob()
    expected = np.linalg.norm(signal) / 2
    for observer in ("hotelling", "non-prewhitening"):
        assert detectability(
            signal, np.full(signal.shape, 4.0), observer=observer
        ) == pytest.approx(expected)


def coloured(side: int = 24) -> np.ndarray:
    axis = np.fft.fftfreq(side)
    return 1 / np.maximum(np.hypot(axis[:, None], axis[None]), 1 / side) ** 2


def test_a_filter_alone_costs_the_hotelling_observer_nothing() -> None:
    signal, power = blob() - blob().mean(), coloured()
    axis = np.fft.fftfreq(24, 0.2)
    gain = transfer(np.hypot(axis[:, None], axis[None]), 1.0)
    before = detectability(signal, power, observer="hotelling")
    assert detectability(
        signal, power, gain=gain, observer="hotelling"
    ) == pytest.approx(before)
    assert (
        detectability(signal, power, gain=gain, later_noise=0.5, observer="hotelling")
        < before
    )
    assert detectability(signal, power, gain=gain, observer="non-prewhitening") < before


@given(later=st.floats(0.01, 10), strength=st.floats(0.3, 4))
def test_more_filter_or_more_later_noise_never_helps_the_hotelling_observer(
    later: float, strength: float
) -> None:
    signal, power = blob() - blob().mean(), coloured()
    axis = np.fft.fftfreq(24, 0.2)
    gains = [
        transfer(np.hypot(axis[:, None], axis[None]), each)
        for each in (strength, 1.5 * strength)
    ]
    mild, strong = (
        detectability(signal, power, gain=g, later_noise=later, observer="hotelling")
        for g in gains
    )
    assert strong <= mild + 1e-9
    assert (
        detectability(
            signal, power, gain=gains[0], later_noise=2 * later, observer="hotelling"
        )
        <= mild + 1e-9
    )
    assert (
        detectability(
            signal, power, gain=gains[0], later_noise=later, observer="non-prewhitening"
        )
        <= mild + 1e-9
    )


def test_the_hotelling_index_is_what_a_simulated_observer_reaches() -> None:
    rng, side = np.random.default_rng(1), 16
    signal, power = 0.4 * blob(side), coloured(side)
    white = np.fft.fft2(rng.normal(size=(8000, side, side)), norm="ortho")
    noise = np.fft.ifft2(white * np.sqrt(power), norm="ortho").real
    template = np.fft.ifft2(
        np.fft.fft2(signal, norm="ortho") / power, norm="ortho"
    ).real
    answers = [
        (patches * template).sum(axis=(1, 2))
        for patches in (noise[:4000] + signal, noise[4000:])
    ]
    expected = auc_of(detectability(signal, power, observer="hotelling"))
    area = stats.auc(np.repeat([1, 0], 4000), np.concatenate(answers))
    assert area == pytest.approx(expected, abs=0.015)


def test_the_channelised_observer_nears_the_hotelling_one_in_white_noise() -> None:
    rng, side = np.random.default_rng(2), 20
    # A signal that the channels span: the channelised observer loses nothing.
    channels = difference_of_gaussians(side, 4)
    signal = (channels.T @ np.array([1.0, 0.6, 0.3, 0.1])).reshape(side, side)
    present, absent = (
        rng.normal(size=(3000, side, side)) + part for part in (signal, 0)
    )
    exact = np.linalg.norm(signal)
    assert channelised_hotelling(present, absent, channels) == pytest.approx(
        exact, rel=0.08
    )
    noisy = channelised_hotelling(present, absent, channels, later_variance=3.0)
    assert noisy == pytest.approx(exact / 2, rel=0.08)


def test_contrast_to_noise_of_a_known_disc() -> None:
    rng, image = np.random.default_rng(0), np.zeros((40, 40))
    region = np.zeros((40, 40), bool)
    region[15:25, 15:25] = True
    image[region] = 2
    found = contrast_to_noise(
        image + 0.5 * rng.normal(size=image.shape), region, ~region
    )
    assert found == pytest.approx(4, rel=0.1)
    with pytest.raises(ArgumentError, match="region"):
        contrast_to_noise(image, np.zeros((40, 40), bool), ~region)
    with pytest.raises(ArgumentError, match="region"):
        contrast_to_noise(image, region[:20], ~region)


def test_rounding_variance_is_that_of_a_rounded_sample() -> None:
    sample = np.random.default_rng(0).normal(scale=50, size=200000)
    assert np.var(np.round(sample / 4) * 4 - sample) == pytest.approx(
        rounding_variance(4.0), rel=0.02
    )


def test_index_and_area_agree() -> None:
    assert auc_of(0.0) == 0.5
    assert auc_of(2.0) == pytest.approx(norm.cdf(np.sqrt(2)))


def test_observers_refuse_what_does_not_fit() -> None:
    with pytest.raises(ArgumentError, match="shape"):
        detectability(blob(8), np.ones((9, 9)), observer="hotelling")
    with pytest.raises(ArgumentError, match="positive"):
        detectability(blob(8), np.zeros((8, 8)), observer="hotelling")
    with pytest.raises(ArgumentError, match="patches"):
        channelised_hotelling(
            np.ones((5, 8, 8)), np.ones((5, 8, 8)), difference_of_gaussians(8)
        )

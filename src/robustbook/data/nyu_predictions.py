"""Published answers of ten radiologists and two networks on 720 filtered exams (Makino
et al. 2022), read from their pickles.

Read `load_predictions` (everything), then `read_arrays` (one pickle, nothing but arrays
allowed). The files are licensed AGPL-3.0 and belong to their authors' repository;
nothing of them is copied into this one.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbook.data.pickles import load_arrays
from robustbook.data.store import DataError, data_root

NAME = "nyu-predictions"
TITLE = "Predictions of radiologists and networks (Makino et al. 2022)"
LICENCE = (
    "AGPL-3.0 (nyukat/perception_comparison); not copied, numbers and curves shown"
)
SEVERITIES = (0.0, 0.17, 0.22, 0.33, 0.5, 0.67, 1.0, 2.0, 4.0)
NETWORKS = ("dmv", "gmic")
FOLDER = "nyu_perception_comparison"
_STUDY = "observed_predictions/perturbation_study"
_REGIONS = "observed_predictions/annotation_study"
DIGESTS = {
    "exam_info.csv": "15359712f1cf358289e546082e780666e2af0b83ff9fe303d378ef21305ef78a",
    "annotation_study_idxs.pkl": "822f0be2d71c664020d29ad203fd0b56b52fe55b4a8c7a5d30b7c89c62af6337",
    f"{_REGIONS}/dmv/roi_exterior.pkl": "46335d290c8ffef5975d6dfddee53475dbd380b6eb2bbd8f9ec3b5970f191356",
    f"{_REGIONS}/dmv/roi_interior.pkl": "0a4937a99fecc137f8da1183efd4a3adaef3df12a33cd5dd4f37000145baa196",
    f"{_REGIONS}/gmic/roi_exterior.pkl": "807e8c91f1d8e609de5217a8c090370a4957e46ca0679c63d3357569f74f12f6",
    f"{_REGIONS}/gmic/roi_interior.pkl": "05e0dce619a19575ed6a9c4b7e69a20b66d7251264203b66bd1d3e4f2378df93",
    f"{_STUDY}/dnns/dmv/filtered.pkl": "6087dec58dfe308b10970dd54d603bf0b4838568c52aab78881151d77c2aed81",
    f"{_STUDY}/dnns/dmv/unperturbed.pkl": "c26f8403be9e110706302337f63d5823ea6fa07a8c6f467e2c3ee8a90b1b90c9",
    f"{_STUDY}/dnns/gmic/filtered.pkl": "fde3f65cb6b7356c1bfa4ad9149442a052f6720c14f4a5c7f6907aa3f099df11",
    f"{_STUDY}/dnns/gmic/unperturbed.pkl": "504674d31f0841d09818f723dbb4d93ee01c7dd9a55e2755835433d99b6b237a",
    f"{_STUDY}/radiologists.pkl": "f669311eda6fb634cec146a0dd8f5090dac8e561b15d3dbb8fd5b8637ae8ac35",
}
_ARRAY_KINDS = "biuf"


@dataclass(frozen=True)
class Predictions:
    """What was published, breasts side by side: `outcome` and `subgroup` (1440,) of
    each breast, left and right of an exam.

    `networks[name, training]` (5 seeds, 9 severities, 1440) with training "unperturbed"
    or "filtered"; `regions[name, where]` (35 = 7 annotators x 5 seeds, 9, 240) for the
    breasts `region_breasts` (240,); `readers` (10, 9, 1440) yes or no, NaN where a
    reader was not asked.
    """

    outcome: NDArray[np.str_]
    subgroup: NDArray[np.str_]
    networks: dict[tuple[str, str], NDArray[np.float64]]
    regions: dict[tuple[str, str], NDArray[np.float64]]
    region_breasts: NDArray[np.int64]
    readers: NDArray[np.float64]
    title: str = TITLE
    split: str = "all"
    digest: str = ""

    @property
    def exams(self) -> NDArray[np.int64]:
        """Exam, and so the woman, of each breast (1440,)."""
        return np.arange(len(self.outcome)) // 2

    def task(self, subgroup: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Malignant breasts of a subgroup ("all" for every one) among them and all
        non-malignant ones: (chosen, positive).
        """
        malignant = self.outcome == "malignant"
        positive = (
            malignant if subgroup == "all" else malignant & (self.subgroup == subgroup)
        )
        return ~malignant | positive, positive


def read_arrays(content: bytes, name: str = "predictions") -> tuple[NDArray[Any], ...]:
    """The arrays that a pickle holds: one array, several in a tuple or list, or a list
    of whole numbers.

    Raises DataError, and runs nothing, if the pickle names anything but arrays of
    numbers.
    """
    try:
        found = load_arrays(content)
    except Exception as failure:  # damaged pickles raise errors of every kind
        raise DataError(f"{name} is refused: {failure}") from failure
    if isinstance(found, list) and found and all(type(entry) is int for entry in found):
        found = np.array(found)
    arrays = tuple(found) if isinstance(found, tuple | list) else (found,)
    if not arrays or not all(
        isinstance(array, np.ndarray) and array.dtype.kind in _ARRAY_KINDS
        for array in arrays
    ):
        raise DataError(
            f"{name} is refused: it holds something other than arrays of numbers"
        )
    return arrays


def present() -> bool:
    """Whether all files lie below the data root."""
    return all((data_root() / FOLDER / name).is_file() for name in DIGESTS)


def load_predictions(
    root: Path | None = None, digests: dict[str, str] | None = None
) -> Predictions:
    """The published predictions below `root` (the data root), each file checked against
    its pinned digest first.

    Raises DataError if a file is missing, damaged, of unexpected shape, or holds
    anything but arrays.
    """
    pins = digests or DIGESTS
    folder = (root or data_root()) / FOLDER
    files = {name: _verified(folder / name, pin) for name, pin in pins.items()}
    outcome, subgroup = _read_exams(files["exam_info.csv"])
    networks = {
        (network, training): _masked(files, f"{_STUDY}/dnns/{network}/{training}.pkl")
        for network in NETWORKS
        for training in ("unperturbed", "filtered")
    }
    exams = read_arrays(
        files["annotation_study_idxs.pkl"], "annotation_study_idxs.pkl"
    )[0].astype(np.int64)
    regions = {
        (network, where): _regions(files, f"{_REGIONS}/{network}/roi_{where}.pkl")
        for network in NETWORKS
        for where in ("interior", "exterior")
    }
    readers = _masked(files, f"{_STUDY}/radiologists.pkl")
    if any(table.shape[-1] != len(outcome) for table in (*networks.values(), readers)):
        raise DataError(
            f"{TITLE}: the predictions do not fit the {len(outcome)} breasts of "
            "exam_info.csv"
        )
    return Predictions(
        outcome,
        subgroup,
        networks,
        regions,
        (2 * exams[:, None] + np.arange(2)).ravel(),
        readers,
        digest=hashlib.sha256("".join(pins.values()).encode()).hexdigest(),
    )


def _verified(path: Path, pin: str) -> bytes:
    if not path.is_file():
        raise DataError(
            f"{TITLE} is not in the data root ({path.name} is missing); `robustbook "
            f"data get {NAME}` downloads it, or set ROBUSTBOOK_DATA to the folder that "
            "holds it"
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != pin:
        raise DataError(
            f"{TITLE} is damaged: {path.name} does not have its pinned digest; get "
            "it again"
        )
    return content


def _read_exams(content: bytes) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Outcome and subgroup of every breast (2 * exams,), left before right."""
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    try:
        outcome = [row[f"y_{side}"] for row in rows for side in "lr"]
        subgroup = [row[f"subgroup_{side}"] for row in rows for side in "lr"]
    except KeyError as missing:
        raise DataError(f"exam_info.csv has no column {missing}") from missing
    return np.array(outcome), np.array(subgroup)


def _masked(files: dict[str, bytes], name: str) -> NDArray[np.float64]:
    """Predictions (raters, severities, breasts) with NaN where the mask says that none
    was given.
    """
    arrays = read_arrays(files[name], name)
    if (
        len(arrays) != 2
        or arrays[0].ndim != 4
        or arrays[1].shape != arrays[0].shape[:3]
    ):
        raise DataError(
            f"{name} is refused: predictions (raters, severities, exams, 2) and "
            "their mask are expected"
        )
    given = np.where(arrays[1][..., None] > 0, arrays[0].astype(float), np.nan)
    return given.reshape(*given.shape[:2], -1)


def _regions(files: dict[str, bytes], name: str) -> NDArray[np.float64]:
    (array,) = read_arrays(files[name], name)
    if array.ndim != 5:
        raise DataError(
            f"{name} is refused: (annotators, seeds, severities, exams, 2) is "
            f"expected, got {array.shape}"
        )
    return array.reshape(-1, array.shape[2], array.shape[3] * array.shape[4]).astype(
        float
    )

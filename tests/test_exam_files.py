"""A reader's own exam: drawn files are read as they were drawn, and every fault is one
line that names it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustbook.data.exam_files import ExamError, read_exam
from robustbook.data.phantoms import VIEWS, WHITE, generate
from robustbook.studies.mammogram_perturbations.measure import own_exam

NAMES = ("l_cc", "RIGHT-CC", "lmlo_2", "R MLO")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    exam = generate(1, seed=3).images[0]
    for name, view in zip(NAMES, exam, strict=True):
        Image.fromarray(view).save(tmp_path / f"{name}.png")
    return tmp_path


def test_four_views_are_read_as_they_were_drawn(folder: Path) -> None:
    views = read_exam(folder, 0.2)
    drawn = generate(1, seed=3).images[0]
    assert tuple(view.name for view in views) == VIEWS
    for view, grey in zip(views, drawn, strict=True):
        assert (view.pitch, view.bits, view.mask) == (0.2, 12, None)
        assert np.allclose(view.image, grey / WHITE, atol=1e-6)


def test_tiff_with_a_mask_gives_the_similarity_inside_the_lesion(folder: Path) -> None:
    grey = np.asarray(Image.open(folder / "l_cc.png"))
    (folder / "l_cc.png").unlink()
    Image.fromarray(grey).save(folder / "L-CC.tif")
    mask = np.zeros(grey.shape, np.uint8)
    mask[28:36, 10:18] = 255
    Image.fromarray(mask).save(folder / "L-CC-mask.png")
    views = read_exam(folder, 0.2)
    assert views[0].mask is not None
    assert (views[0].mask == (mask > 0)).all()
    found = own_exam.table(views).set_index(["perturbation", "severity"])
    low = found.loc["low-pass"]
    assert (np.diff(low["inside the lesion"]) < 0).all()
    assert low.loc[4.0, "inside the lesion"] < 0.999
    assert {"noise", "adversarial", "universal"} <= set(found.index.get_level_values(0))


def test_perturbations_have_the_stated_size_and_universal_ones_are_one(
    folder: Path,
) -> None:
    views = read_exam(folder, 0.2)
    step = 0.5 / WHITE + 1e-6
    patterns = []
    for view in views[:2]:
        for name in ("adversarial", "universal"):
            change = own_exam.perturbed_view(view, name, 0.01)[0, 0] - view.image
            inside = (view.image > 0.02) & (view.image < 0.98)
            assert abs(change[inside].abs() - 0.01).max() <= step
        patterns.append(own_exam.perturbed_view(view, "universal", 0.01)[0, 0] > 0.01)
    assert own_exam.hash_of("L-CC") != own_exam.hash_of("R-CC")
    blurred = own_exam.perturbed_view(views[0], "low-pass", 4.0)
    assert blurred.std() < views[0].image.std()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "l_cc.png").unlink(), "L-CC missing"),
        (
            lambda folder: (folder / "l_cc.png").rename(folder / "one.png"),
            "says no side and view",
        ),
        (
            lambda folder: Image.new("I;16", (64, 64)).save(folder / "LCC.png"),
            "two files are L-CC",
        ),
        (
            lambda folder: Image.new("RGB", (64, 64)).save(folder / "l_cc.png"),
            "not grey",
        ),
        (lambda folder: Image.new("1", (64, 64)).save(folder / "l_cc.png"), "1 bit"),
        (
            lambda folder: Image.new("L", (16, 64)).save(folder / "l_cc.png"),
            "too small",
        ),
        (lambda folder: (folder / "l_cc.png").write_bytes(b"x"), "cannot be read"),
        (
            lambda folder: Image.new("L", (8, 8), 1).save(folder / "lcc-mask.png"),
            "not as large",
        ),
    ],
)
def test_a_fault_is_one_line_that_names_it(folder: Path, spoil, said: str) -> None:
    spoil(folder)
    with pytest.raises(ExamError, match=said) as caught:
        read_exam(folder, 0.2)
    assert "\n" not in str(caught.value)


def test_an_unknown_pitch_and_a_missing_folder_say_what_to_do(folder: Path) -> None:
    with pytest.raises(ExamError, match="exam_pitch"):
        read_exam(folder)
    with pytest.raises(ExamError, match="no folder"):
        read_exam(folder / "nowhere", 0.2)


def test_dicom_without_pydicom_says_how_to_get_it(folder: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (folder / "l_cc.png").rename(folder / "l_cc.dcm")
    with pytest.raises(ExamError, match=r"robustbook\[dicom\]"):
        read_exam(folder, 0.2)


def written(path: Path, grey: np.ndarray, **tags: object) -> None:
    """A DICOM file with these tags, uncompressed unless `syntax` says otherwise."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    data = Dataset()
    data.file_meta = FileMetaDataset()
    syntax = tags.pop("syntax", ExplicitVRLittleEndian)
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.3"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.Rows, data.Columns = grey.shape
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = grey.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def test_dicom_tags_say_side_view_pitch_and_polarity(folder: Path) -> None:
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    grey = generate(1, seed=3).images[0, 0]
    (folder / "l_cc.png").unlink()
    tags = {"ImageLaterality": "L", "ViewPosition": "CC"}
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    written(
        folder / "a.dcm",
        WHITE - grey,
        ImagerPixelSpacing=[0.1, 0.1],
        **tags,
        **inverted,
    )
    view = read_exam(folder, 0.2)[0]
    assert (view.name, view.pitch, view.bits) == ("L-CC", 0.1, 12)
    assert np.allclose(view.image, grey / WHITE, atol=1e-6)
    jpeg = "1.2.840.10008.1.2.4.70"  # JPEG lossless, whose bytes these are not
    written(folder / "a.dcm", grey, **tags)
    from pydicom import dcmread

    data = dcmread(folder / "a.dcm")
    from pydicom.encaps import encapsulate

    data.PixelData = encapsulate([b"\xff\xd8 no picture"])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = jpeg
    data.save_as(folder / "a.dcm")
    with pytest.raises(ExamError, match=r"cannot be decoded .*JPEG"):
        read_exam(folder, 0.2)

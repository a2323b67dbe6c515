"""Images of one's own: read as they were written, and every fault is one line that
names it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from robustbook import files
from robustbook.data import own
from robustbook.data.own import Format, load_own
from robustbook.data.store import DataError

RED, GREY = (255, 0, 0), 64


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def flat(value: object, side: int = 8, kind: str = "u1") -> np.ndarray:
    shape = (side, side) if np.isscalar(value) else (side, side, 3)
    return np.full(shape, value, np.dtype(kind))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three grey pictures of each of two classes."""
    for place, name in enumerate(("cat", "dog")):
        for number in range(3):
            save(tmp_path / name / f"{number}.png", flat(40 * number + 10 * place))
    return tmp_path


def read(folder: Path, count: int = 6, **options: object) -> own.Own:
    return load_own(f"folder:{folder}", count=count, **options)


def test_a_folder_is_read_as_it_was_written(folder: Path) -> None:
    found = read(folder).images
    assert found.class_names == ("cat", "dog")
    assert found.image_shape == (1, 8, 8)
    seen = found.images[:, 0, 0, 0].tolist()
    pairs = sorted(zip(found.labels.tolist(), seen, strict=True))
    grey = [(place, (40 * n + 10 * place) / 255) for place in (0, 1) for n in range(3)]
    assert pairs == [(label, pytest.approx(value)) for label, value in grey]


def test_classes_take_turns_and_a_seed_gives_the_same(folder: Path) -> None:
    two = read(folder, 2).images
    assert sorted(two.labels.tolist()) == [0, 1]
    again, other = read(folder, 4, seed=1).images, read(folder, 4, seed=1).images
    assert torch.equal(again.images, other.images)
    assert again.digest == other.digest


def test_the_digest_is_that_of_the_content(folder: Path) -> None:
    before = read(folder).images.digest
    save(folder / "cat" / "0.png", flat(1))
    assert read(folder).images.digest != before


def test_every_depth_and_colour_is_read(tmp_path: Path) -> None:
    save(tmp_path / "a" / "8bit.png", flat(GREY))
    save(tmp_path / "a" / "16bit.png", flat(GREY * 257, kind="u2"))
    save(tmp_path / "a" / "16bit.tif", flat(GREY * 257, kind="u2"))
    save(tmp_path / "a" / "photo.jpg", flat(GREY))
    save(tmp_path / "a" / "fraction.tiff", flat(GREY / 255, kind="f4"))
    found = read(tmp_path).images
    assert found.image_shape == (1, 8, 8) and len(found) == 5
    assert torch.allclose(found.images, torch.tensor(GREY / 255), atol=1e-6)


def test_colour_of_sixteen_bits_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    pixels = flat((65535, 257 * GREY, 0), kind="u2")
    tifffile.imwrite(tmp_path / "a" / "deep.tif", pixels, photometric="rgb")
    image = read(tmp_path).images.images[0]
    expected = torch.tensor([1.0, GREY / 255, 0.0])
    assert torch.allclose(image[:, 3, 3], expected, atol=1e-6)


def test_grey_and_colour_together_are_of_one_kind(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", flat(RED))
    save(tmp_path / "a" / "2.png", flat(RED))
    save(tmp_path / "a" / "3.png", flat(GREY))
    both = read(tmp_path).images
    assert both.image_shape == (3, 8, 8)
    grey = [image for image in both.images if image[0, 0, 0] == image[1, 0, 0]]
    assert len(grey) == 1
    one = read(tmp_path, form=Format(channels=1)).images.images
    assert sorted({round(float(v), 3) for v in one.flatten()}) == [0.251, 0.299]


def test_white_says_what_is_white(tmp_path: Path) -> None:
    save(tmp_path / "a" / "12bit.png", flat(4095, kind="u2"))
    dark = read(tmp_path)
    assert "is white right?" in " ".join(dark.remarks)
    light = read(tmp_path, form=Format(white=4095))
    assert torch.equal(light.images.images, torch.ones(1, 1, 8, 8))
    with pytest.raises(DataError, match=r"0 to 4095, must lie between 0 and 1000"):
        read(tmp_path, form=Format(white=1000))


def test_the_shorter_side_is_resized_and_the_middle_kept(tmp_path: Path) -> None:
    picture = np.zeros((20, 40), np.uint8)
    picture[:, 8:32] = 200
    save(tmp_path / "a" / "wide.png", picture)
    found = read(tmp_path, form=Format(size=10, crop=10)).images
    assert found.image_shape == (1, 10, 10)
    assert torch.allclose(found.images, torch.tensor(200 / 255), atol=0.02)


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    picture = Image.fromarray(np.eye(8, 12, dtype=np.uint8) * 255)
    exif = picture.getexif()
    exif[0x0112] = 6  # Turned by a quarter.
    picture.save(tmp_path / "a" / "turned.png", exif=exif)
    assert read(tmp_path).images.image_shape == (1, 12, 8)


def test_a_table_names_files_and_classes(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\ncat/0.png,7\ndog/1.png,2\n")
    found = read(folder).images
    assert sorted(found.labels.tolist()) == [2, 7]
    assert len(found.class_names) == 8


def test_names_are_looked_up_in_the_networks_classes(folder: Path) -> None:
    found = read(folder, classes=("bird", "Dog", "cat")).images
    assert sorted(set(found.labels.tolist())) == [1, 2]
    with pytest.raises(DataError, match="'dog' is no class of the 2 names"):
        read(folder, classes=("bird", "cat"))
    with pytest.raises(DataError, match="'cat' is two classes"):
        read(folder, classes=("cat", "dog", "Cat"))


def test_classes_come_from_a_file(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "names.txt").write_text("tench\n\ngreat white shark\n")
    monkeypatch.setenv(files.FROM, str(tmp_path))
    assert own.read_classes("names.txt") == ("tench", "great white shark")
    (tmp_path / "names.txt").write_text("tench\ntench\n")
    with pytest.raises(DataError, match="'tench' twice"):
        own.read_classes("names.txt")
    with pytest.raises(DataError, match="cannot be read"):
        own.read_classes("none.txt")
    assert own.read_classes("imagenet")[:2] == ("tench", "goldfish")


def test_unreadable_files_are_named_counted_and_stop_if_many(folder: Path) -> None:
    (folder / "cat" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    whole = (folder / "dog" / "1.png").read_bytes()
    (folder / "dog" / "half.png").write_bytes(whole[: len(whole) // 2])
    found = read(folder, 8, unreadable=0.5)
    assert len(found.images) == 6
    assert sorted(each.partition(":")[0] for each in found.unreadable) == [
        "cat/torn.png",
        "dog/half.png",
    ]
    assert "8 images were asked for, there are 6." in found.remarks
    with pytest.raises(DataError, match=r"2 of 8 files cannot be read.*torn\.png"):
        read(folder, 8, unreadable=0.1)


def test_what_is_no_picture_is_left_out_and_said(folder: Path) -> None:
    (folder / "cat" / "notes.txt").write_text("no picture")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "__MACOSX" / "cat").mkdir(parents=True)
    (folder / "__MACOSX" / "cat" / "._0.png").write_bytes(b"x")
    assert "1 other files are left out (.txt)." in read(folder).remarks


def fake_pydicom(pixels: np.ndarray, **tags: object) -> SimpleNamespace:
    data = SimpleNamespace(pixel_array=pixels, **tags)
    return SimpleNamespace(dcmread=lambda path: data)


def test_dicom_is_read_where_pydicom_is_there(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "view.dcm").write_bytes(b"DICM")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match="DICOM needs pydicom"):
        read(tmp_path)
    pixels = flat(1024, kind="u2")
    tags = {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME2"}
    monkeypatch.setitem(sys.modules, "pydicom", fake_pydicom(pixels, **tags))
    bright = read(tmp_path).images.images
    assert torch.allclose(bright, torch.tensor(1024 / 4095), atol=1e-4)
    tags["PhotometricInterpretation"] = "MONOCHROME1"
    monkeypatch.setitem(sys.modules, "pydicom", fake_pydicom(pixels, **tags))
    assert torch.allclose(read(tmp_path).images.images, 1 - bright, atol=1e-4)
    film = fake_pydicom(np.zeros((4, 8, 8), "u2"), BitsStored=12)
    monkeypatch.setitem(sys.modules, "pydicom", film)
    with pytest.raises(DataError, match="no single grey image"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("shape", "sides"),
    [((4, 6, 5), (1, 6, 5)), ((4, 6, 5, 3), (3, 6, 5)), ((4, 3, 6, 5), (3, 6, 5))],
)
def test_arrays_are_read_in_every_order_of_axes(tmp_path: Path, shape, sides) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype("u1")
    np.savez(tmp_path / "own.npz", x=pixels, y=np.arange(4) % 2)
    found = load_own(f"npz:{tmp_path / 'own.npz'}", count=4).images
    assert found.image_shape == sides
    assert np.isclose(float(found.images.sum()), pixels.sum() / 255, rtol=1e-5)


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"images": np.zeros((2, 8, 8), "u1")}, "needs the arrays images and labels"),
        ({"images": np.zeros((2, 8, 8, 5)), "labels": [0, 1]}, "must have 1 or 3"),
        ({"images": np.zeros((2, 8)), "labels": [0, 1]}, r"got \(2, 8\)"),
        ({"images": np.zeros((2, 8, 8)), "labels": [[0, 1], [1, 0]]}, "one an image"),
        ({"images": np.zeros((2, 8, 8)), "labels": [0, -1]}, "whole numbers from 0"),
        ({"images": np.zeros((2, 8, 8)), "labels": [0.0, 1.0]}, "got float64"),
        ({"images": np.full((2, 8, 8), 200.0), "labels": [0, 1]}, "-p white says"),
        ({"images": np.full((2, 8, 8), -2.0), "labels": [0, 1]}, "before any norm"),
        ({"images": np.full((2, 8, 8), np.nan), "labels": [0, 1]}, "from nan"),
        (
            {"images": np.array([{}, {}], object), "labels": [0, 1]},
            "without pickled objects",
        ),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, arrays, line) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=line):
        load_own(f"npz:{tmp_path / 'own.npz'}", count=2)


def test_labels_beyond_the_named_classes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", images=np.zeros((2, 8, 8)), labels=[0, 5])
    with pytest.raises(DataError, match=r"label 5 of 'own\.npz' is beyond the 2 names"):
        load_own(f"npz:{tmp_path / 'own.npz'}", count=2, classes=("a", "b"))


def test_a_data_set_of_the_book_is_taken_by_name() -> None:
    digits = load_own("digits", count=20, form=Format(size=16, channels=3)).images
    assert digits.image_shape == (3, 16, 16) and digits.classes == 10
    with pytest.raises(DataError, match="did you mean 'digits'"):
        load_own("digit", count=20)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda here: f"folder:{here}/none", "there is no folder"),
        (lambda here: f"npz:{here}/none.npz", "there is no file"),
        (lambda here: f"zip:{here}", "data must be folder:DIR"),
        (lambda here: str(here), "data must be folder:DIR"),
        (lambda here: f"folder:{here / 'empty'}", "no picture"),
        (lambda here: f"folder:{here / 'loose'}", "lies in no sub-folder"),
        (lambda here: f"folder:{here / 'mixed'}", "images differ in size"),
        (lambda here: f"folder:{here / 'upward'}", "outside the folder"),
        (lambda here: f"folder:{here / 'halves'}", "line 1 of labels.csv"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(tmp_path: Path, make, line) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "loose" / "picture.png", flat(1))
    save(tmp_path / "mixed" / "a" / "small.png", flat(1, 8))
    save(tmp_path / "mixed" / "a" / "large.png", flat(1, 9))
    save(tmp_path / "secret.png", flat(1))
    for name, text in (("upward", "../secret.png,1"), ("halves", "only.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=line) as caught:
        load_own(make(tmp_path), count=4)
    assert "\n" not in str(caught.value)


def test_a_crop_that_does_not_fit_is_said(folder: Path) -> None:
    with pytest.raises(DataError, match="crop 9 is larger than an image of 8 x 8"):
        read(folder, form=Format(crop=9))


def test_paths_are_meant_from_where_the_command_was_typed(
    folder: Path, monkeypatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv(files.FROM, str(folder.parent))
    assert len(load_own(f"folder:{folder.name}", count=2).images) == 2

"""Data: shapes and ranges, verified files, one clear line where something is missing or
damaged.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustbook import fetch
from robustbook.data import load, mnist, store
from robustbook.data.cifar10 import read_batch
from robustbook.data.store import DataError, DataFile
from robustbook.errors import ParameterError

ROOT = Path(__file__).parents[1]


def small_mnist(root: Path) -> dict[str, tuple[DataFile, ...]]:
    """Twenty images in MNIST's own format below `root`, and the pins that fit them."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.tile(np.arange(10, dtype=np.uint8), 2)
    pins: dict[str, tuple[DataFile, ...]] = {}
    for split, files in mnist.FILES.items():
        pinned = []
        for file, header, content in zip(files, (16, 8), (pixels, labels), strict=True):
            packed = gzip.compress(b"\0" * header + content.tobytes())
            (root / file.path).write_bytes(packed)
            pinned.append(DataFile(file.path, hashlib.sha256(packed).hexdigest()))
        pins[split] = tuple(pinned)
    return pins


@pytest.fixture
def mnist_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pins = small_mnist(tmp_path)
    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path))
    monkeypatch.setitem(mnist.SOURCES, "mnist", (replace(mnist.SOURCE, files=pins),))
    return tmp_path


def test_digits_are_split_without_overlap() -> None:
    train, test = load("digits", "train"), load("digits", "test")
    assert len(train) + len(test) == 1797
    assert train.images.shape[1:] == (1, 8, 8)
    seen = {image.numpy().tobytes() for image in train.images}
    assert (
        sum(image.numpy().tobytes() in seen for image in test.images) <= 3
    )  # a few digits were drawn twice
    assert train.images.max() == 1
    assert train.digest == test.digest


def test_subset_is_balanced_nested_and_seeded() -> None:
    digits = load("digits", "train")
    first, longer = digits.take(20, seed=1), digits.take(50, seed=1)
    assert torch.equal(longer.images[:20], first.images)
    assert first.labels.bincount(minlength=10).tolist() == [2] * 10
    assert not torch.equal(digits.take(20, seed=2).labels, first.labels)


@pytest.mark.parametrize("count", [0, -1, 10**6])
def test_subset_of_impossible_size_is_refused(count: int) -> None:
    with pytest.raises(ParameterError, match="test images to give"):
        load("digits", "test").take(count)


def test_image_set_refuses_what_is_no_image() -> None:
    digits = load("digits", "test", limit=10)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        replace(digits, images=digits.images * 2)
    with pytest.raises(ValueError, match="float32"):
        replace(digits, images=digits.images.double())
    with pytest.raises(ValueError, match="int64"):
        replace(digits, labels=digits.labels[:5])


def test_mnist_is_read_from_its_packed_files(mnist_root: Path) -> None:
    images = load("mnist", "test")
    raw = gzip.decompress((mnist_root / mnist.FILES["test"][0].path).read_bytes())
    assert images.images.shape == (20, 1, 28, 28)
    assert images.images[0, 0, 0, 0].item() == pytest.approx(raw[16] / 255)
    assert images.labels.tolist() == list(range(10)) * 2


def test_damaged_file_is_named_and_never_read(mnist_root: Path) -> None:
    path = mnist_root / mnist.FILES["test"][0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(
        DataError, match=r"MNIST is damaged: MNIST/raw/t10k-images.*"
    ) as caught:
        load("mnist", "test")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="damaged"):
        store.verify("mnist")


def test_missing_data_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"`robustbook data get mnist` downloads it"):
        load("mnist", "train")
    with pytest.raises(DataError, match="robustbook data get cifar10"):
        load("cifar10", "train")
    assert {entry.name: entry.state for entry in store.inventory()}[
        "mnist"
    ] == "missing"


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(DataError, match="did you mean 'mnist'"):
        load("mnits", "train")
    with pytest.raises(DataError, match="no split 'valid'"):
        load("digits", "valid")


def test_official_batch_is_read_and_hostile_pickles_are_refused() -> None:
    pixels = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)
    images, labels = read_batch(
        pickle.dumps({"data": pixels, "labels": [3, 5]}, protocol=2)
    )
    assert images.shape == (2, 3, 32, 32)
    assert np.array_equal(images.reshape(2, -1), pixels)
    assert labels.tolist() == [3, 5]

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("echo run",)

    with pytest.raises(DataError, match="which is no part of an array"):
        read_batch(pickle.dumps({"data": Hostile(), "labels": []}))


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_batch_reader(content: bytes) -> None:
    with pytest.raises(DataError):
        read_batch(content)


@pytest.mark.data("mnist", "cifar10")
def test_shared_data_root_works_as_it_is(data_root: Path) -> None:
    train, test = load("mnist", "train", limit=100), load("cifar10", "test", limit=100)
    assert train.images.shape == (100, 1, 28, 28)
    assert test.images.shape == (100, 3, 32, 32)
    assert test.title in ("CIFAR-10", "CIFAR-10 (JPEG copy)")
    assert store.verify("mnist") == 4


@pytest.mark.data("mnist")
def test_read_only_root_needs_no_writing(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data_root / "MNIST", tmp_path / "MNIST")
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    assert len(load("mnist", "test")) == 10000
    assert sorted(tmp_path.rglob("*")) == before
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(0o755)


def test_the_names_are_those_that_the_book_lists() -> None:
    text = (ROOT / "book" / "how-to-rerun.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|.*\| (.*) \|$", text.partition("## Data")[2], re.M)
    listed = {
        name: place for names, place in rows for name in re.findall("`(.+?)`", names)
    }
    assert set(fetch.names()) == listed.keys()
    for entry in fetch.inventory():
        embedded = listed[entry.name].endswith(("always there", "drawn by the program"))
        assert (entry.state == "embedded") == embedded


@pytest.mark.parametrize("name", store.names())
def test_every_name_is_loadable_or_says_why(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With an empty data root: what is embedded can be loaded, all else says in one
    line what to do.
    """
    monkeypatch.setenv("ROBUSTBOOK_DATA", str(tmp_path))
    (source, *_) = store._sources()[name]
    for split in source.splits:
        if source.files:
            with pytest.raises(
                DataError,
                match=(
                    rf"is not in the data root .* is missing\); `robustbook data get "
                    rf"{name}` downloads it, or set ROBUSTBOOK_DATA"
                ),
            ):
                load(name, split, limit=10)
            continue
        found = load(name, split, limit=10)
        assert (len(found.images), len(found.labels), found.split) == (10, 10, split)
        assert found.images.dtype == torch.float32
        assert 0 <= float(found.images.min()) < float(found.images.max()) <= 1


@pytest.mark.parametrize("name", store.names())
def test_every_name_that_is_here_gives_images(name: str) -> None:
    (entry,) = [entry for entry in store.inventory() if entry.name == name]
    if entry.state == "missing":
        pytest.skip(
            f"no {name} under {store.data_root()}: set ROBUSTBOOK_DATA or "
            "`robustbook data get`"
        )
    assert len(load(name, "test", limit=10)) == 10


@pytest.mark.data("gtsrb")
def test_any_two_signs_can_be_a_pair(data_root) -> None:
    from robustbook.data import gtsrb43

    parts = {split: store.load("gtsrb-43", split) for split in ("train", "validation")}
    assert len(parts["train"]) + len(parts["validation"]) == 6534
    both = gtsrb43.pair(parts["train"], 14, 3)
    counts = parts["train"].labels.bincount(minlength=43)
    assert both.labels.bincount().tolist() == [int(counts[14]), int(counts[3])]
    assert both.class_names == ("sign 14", "sign 3")
    with pytest.raises(ParameterError, match="two different classes"):
        gtsrb43.pair(parts["train"], 14, 14)

"""Where data files lie, and how they are verified.

The data root is `ROBUSTBOOK_DATA`, else a folder in the user's cache. A file found
there is checked against its pinned digest before it is read; nothing here uses the
network, which is left to `robustbook.fetch`.
"""

from __future__ import annotations

import hashlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from robustbook.errors import UserError, quoted

if TYPE_CHECKING:
    from robustbook.data.image_set import ImageSet


class DataError(UserError):
    """Data that is missing, damaged or unknown; the message is one line and says what
    to do.
    """


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: its path below the data root and its pinned digest.

    The digest is a SHA-256 wherever we could compute one; the official CIFAR-10 batches
    are pinned by their published MD5.
    """

    path: str
    digest: str
    algorithm: str = "sha256"


CONVERTED_FOLDER = "converted"
CONVERTED = {
    "8bcd33f29bc1b11e2c98f389baeb182565118293b1489b744208c2ad74aab260": (
        "307d95528ed6a77613baba9bae0b8f6d74c9b8e385bcdba988961e3f5b97766a"
    ),
    "77729f9bed01ce1fa2c16d8d8262d33ad3d1c5a76cb963749fef288db20ba5fc": (
        "708a383af09fd346e53a0c55900310c81531aa418a0e7c7930ba15eaad67bf8d"
    ),
    "c16d7e10de38662890cc2eb8bc25c483b5fc374014a1854f23446b05ba4da2ce": (
        "be07944c359484c716b3a323b94f1b6227b57876255058af695d226657cd7b39"
    ),
    "f21ba659b327871ec330654ccdc95e0da52b1b39c04c467a581440516466148c": (
        "5b8354b1664ad244e09c6a3b6e94f7706546dd5b7293a6203d1689f5810a6ef1"
    ),
    "011ab18a8ac27c4c6ac83219277e842fe59e050e27e9210a83db6e59ab09efe6": (
        "ccfc371610ca4e05b2928a70c882b3f25d3205614ce2b7e37bd35697f52420bb"
    ),
    "bfa666e7e0de5ec81091e55f45a16c16092f599d399830c3192e3145e27acf71": (
        "22ed7c9be7f4dcce31b0b855174ee5567b41e745ef322669360db527b9504487"
    ),
    "9359a6dd4b15dd1f543d2f208cbd13dfb6c05106bb1e44e945eac72c521136ec": (
        "b6d4617f324e22266c6cfe158312a0df3d782ac8655f492e304ebc7bed9bf38a"
    ),
}
"""Digest of an array file, and of the file with exactly the same arrays that
`robustbook data get` makes from the originals; the latter has the former's path, below
`CONVERTED_FOLDER`.
"""


@dataclass(frozen=True)
class DataSource:
    """One way in which a data set may be present: its files, and how to read a split of
    them.

    `read(paths, split)` gets the verified paths of the split's `files` and gives all
    its images as an `ImageSet`.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    licence: str
    shareable: bool
    splits: tuple[str, ...]
    files: dict[str, tuple[DataFile, ...]]
    read: Callable[[tuple[Path, ...], str], ImageSet]

    @property
    def all_files(self) -> tuple[DataFile, ...]:
        """The files of all splits, each once."""
        return tuple(
            dict.fromkeys(file for part in self.files.values() for file in part)
        )


@dataclass(frozen=True)
class Entry:
    """A line of the inventory: is this data set `embedded`, `present`, `damaged` or
    `missing`, and where.
    """

    name: str
    title: str
    state: str
    place: str
    licence: str


def data_root() -> Path:
    """The folder of data files: `ROBUSTBOOK_DATA`, else `data` in the user's cache
    folder.
    """
    if chosen := os.environ.get("ROBUSTBOOK_DATA"):
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("robustbook") / "data"


def _sources() -> dict[str, tuple[DataSource, ...]]:
    """Every name that a module of this room declares in its `SOURCES`, with the ways in
    which it may be present, best first.

    Modules are found, not listed: a new data set leaves this file, and so the record of
    every study, as it was.
    """
    import robustbook.data as room

    found: dict[str, tuple[DataSource, ...]] = {}
    for module in pkgutil.iter_modules(room.__path__):
        found.update(
            getattr(import_module(f"{room.__name__}.{module.name}"), "SOURCES", {})
        )
    return found


def names() -> tuple[str, ...]:
    """Names that `load` knows."""
    return tuple(_sources())


def sources_of(name: str) -> tuple[DataSource, ...]:
    """The ways in which the data set `name` may be present, best first; DataError for
    an unknown name.
    """
    from difflib import get_close_matches

    sources = _sources()
    if name not in sources:
        near = get_close_matches(name, sources, n=1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sources)}"
        )
        raise DataError(f"unknown data set {quoted(name)}; {hint}")
    return sources[name]


def load(name: str, split: str, *, limit: int | None = None, seed: int = 0) -> ImageSet:
    """The images of a split ("train", "test" ...) of the data set `name`; `limit` takes
    a class-balanced subset.

    The subset depends on `seed` alone (see `ImageSet.take`). Every file is verified
    against its pinned digest first.

    Raises DataError if the name or split is unknown, files are missing (with the
    command that gets them) or damaged, and ParameterError if `limit` is out of range.
    """
    source = source_of(name)
    if split not in source.splits:
        raise DataError(
            f"{name} has no split {quoted(split)}; it has {' and '.join(source.splits)}"
        )
    paths = tuple(
        verified(name, source.title, file) for file in source.files.get(split, ())
    )
    return source.read(paths, split).take(limit, seed)


def source_of(name: str) -> DataSource:
    """The way in which the data set `name` is present, or else should be; DataError for
    an unknown name.
    """
    candidates = sources_of(name)
    return next(
        (each for each in candidates if all(map(is_present, each.all_files))),
        candidates[0],
    )


def is_present(file: DataFile) -> bool:
    """Whether the file, or one of the same arrays, lies below the data root."""
    return (data_root() / _found(file).path).is_file()


def _found(file: DataFile) -> DataFile:
    """The file, or where it is missing the one with the same arrays."""
    if file.digest in CONVERTED and not (data_root() / file.path).is_file():
        return converted(file)
    return file


def converted(file: DataFile) -> DataFile:
    """The file of the same arrays that is made from the originals."""
    return DataFile(f"{CONVERTED_FOLDER}/{file.path}", CONVERTED[file.digest])


def verified(name: str, title: str, file: DataFile) -> Path:
    """Where a file of the set `name` lies, after its digest was compared with the
    pinned one.

    Raises DataError if it is missing, with the command that gets it, or damaged.
    """
    found = _found(file)
    path = data_root() / found.path
    if not path.is_file():
        raise DataError(
            f"{title} is not in the data root ({file.path} is missing); `robustbook "
            f"data get {name}` downloads it, or set ROBUSTBOOK_DATA to the folder that "
            "holds it"
        )
    state = path.stat()
    if _digest(path, found.algorithm, state.st_mtime_ns, state.st_size) != found.digest:
        raise DataError(
            f"{title} is damaged: {found.path} does not have its pinned digest; remove "
            "it and get it again"
        )
    return path


@lru_cache(maxsize=64)
def _digest(path: Path, algorithm: str, _modified: int, _size: int) -> str:
    """Digest of a file; its time and size are part of the key, so that a changed file
    is read again.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def digest_of(files: tuple[DataFile, ...]) -> str:
    """One digest for several pinned files: the SHA-256 of their digests in order."""
    return hashlib.sha256("".join(file.digest for file in files).encode()).hexdigest()


def verify(name: str) -> int:
    """Check every file of the data set and return how many were checked; DataError
    names a missing or damaged one.
    """
    source = source_of(name)
    for file in sorted(source.all_files, key=lambda file: file.path):
        verified(name, source.title, file)
    return len(source.all_files)


def inventory() -> list[Entry]:
    """One entry per name that `load` knows: what is there, where, and under which
    licence.
    """
    sources = {name: source_of(name) for name in names()}
    return [
        entry(name, source.title, source.licence, source.all_files)
        for name, source in sources.items()
    ]


def entry(name: str, title: str, licence: str, files: tuple[DataFile, ...]) -> Entry:
    """The line of the inventory for a set of these files."""
    if not files:
        return Entry(name, title, "embedded", "", licence)
    if not all(map(is_present, files)):
        return Entry(name, title, "missing", "", licence)
    try:
        for file in files:
            verified(name, title, file)
    except DataError:
        return Entry(name, title, "damaged", str(data_root()), licence)
    return Entry(name, title, "present", str(data_root()), licence)

"""Where data files lie, how they are verified, and how they are fetched when the user
asks.

The data root is `ROBUSTBOOK_DATA`, else a folder in the user's cache. A file found
there is checked against its pinned digest before it is read; nothing is downloaded by
`load`, only by `get`.
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


@dataclass(frozen=True)
class DataSource:
    """One way in which a data set may be present: its files, and how to read a split of
    them.

    `read(paths, split)` gets the verified paths of the split's `files` and gives all
    its images as an `ImageSet`. `download(root)` fetches the files of all splits, or is
    None where no public download exists.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    licence: str
    shareable: bool
    splits: tuple[str, ...]
    files: dict[str, tuple[DataFile, ...]]
    read: Callable[[tuple[Path, ...], str], ImageSet]
    download: Callable[[Path], None] | None = None


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


def _find(name: str) -> tuple[DataSource, ...]:
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
    candidates = _find(name)
    source = next((each for each in candidates if _present(each)), candidates[0])
    if split not in source.splits:
        raise DataError(
            f"{name} has no split {quoted(split)}; it has {' and '.join(source.splits)}"
        )
    paths = tuple(_verified(source, file) for file in source.files.get(split, ()))
    return source.read(paths, split).take(limit, seed)


def _present(source: DataSource) -> bool:
    root = data_root()
    return all(
        (root / file.path).is_file()
        for files in source.files.values()
        for file in files
    )


def _verified(source: DataSource, file: DataFile) -> Path:
    path = data_root() / file.path
    if not path.is_file():
        how = (
            f"`robustbook data get {source.name}` downloads it"
            if source.download
            else "set ROBUSTBOOK_DATA to the folder that holds it"
        )
        raise DataError(
            f"{source.title} is not in the data root ({file.path} is missing); {how}"
        )
    state = path.stat()
    if _digest(path, file.algorithm, state.st_mtime_ns, state.st_size) != file.digest:
        raise DataError(
            f"{source.title} is damaged: {file.path} does not have its pinned "
            "digest; remove it and get it again"
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
    candidates = _find(name)
    source = next((each for each in candidates if _present(each)), candidates[0])
    files = {file for files in source.files.values() for file in files}
    for file in sorted(files, key=lambda file: file.path):
        _verified(source, file)
    return len(files)


def get(name: str) -> Path | None:
    """Download the data set into the data root where it is missing, verify it, and
    return the root (None if embedded).

    Raises DataError if there is no public download, the root cannot be written, or the
    network cannot be reached.
    """
    source = _find(name)[0]
    if not source.files:
        return None
    root = data_root()
    if not _present(source):
        if source.download is None:
            raise DataError(
                f"{source.title} has no public download; set ROBUSTBOOK_DATA to a "
                "folder that holds it"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            source.download(root)
        except (OSError, RuntimeError) as failure:
            reason = " ".join(str(failure).split()) or type(failure).__name__
            raise DataError(
                f"could not download {source.title} into {root}: {reason}"
            ) from failure
    for files in source.files.values():
        for file in files:
            _verified(source, file)
    return root


def inventory() -> list[Entry]:
    """One entry per name that `load` knows: what is there, where, and under which
    licence.
    """
    return [_entry(name, candidates) for name, candidates in _sources().items()]


def _entry(name: str, candidates: tuple[DataSource, ...]) -> Entry:
    source = next((each for each in candidates if _present(each)), candidates[0])
    if not source.files:
        return Entry(name, source.title, "embedded", "", source.licence)
    if not _present(source):
        return Entry(name, source.title, "missing", "", source.licence)
    try:
        verify(name)
    except DataError:
        return Entry(name, source.title, "damaged", str(data_root()), source.licence)
    return Entry(name, source.title, "present", str(data_root()), source.licence)

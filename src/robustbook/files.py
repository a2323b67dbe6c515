"""Files that are read and written with care: `given` finds one of the user's, `read`
takes regular files of bounded size alone, `write_whole` writes a file that appears
whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".unfinished-robustbook"
"""Files that are being written end so, beside the file that they will be."""
FROM = "ROBUSTBOOK_FROM"
"""The folder from which relative paths are meant: where a command was typed."""


class NotAFileError(OSError):
    """A folder, device or pipe where a file is wanted, or a file that is too large."""


def given(path: str) -> Path:
    """A path as the user typed it: `~` is the home folder, and what is not absolute is
    meant from where the command was typed (a kernel starts in a folder of its own).
    """
    return Path(os.environ.get(FROM) or os.getcwd()) / Path(path).expanduser()


def read(path: Path, largest: int) -> bytes:
    """The bytes of a regular file, or of a link to one.

    Raises NotAFileError for anything else (a pipe would wait for ever, a device may
    never end) and for more than `largest` bytes, OSError where it cannot be read.
    """
    _check(os.stat(path), largest)  # Opening some devices does something already.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
        _check(os.fstat(stream.fileno()), largest)
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise NotAFileError(f"it has more than {largest:,} bytes")
    return content


def _check(state: os.stat_result, largest: int) -> None:
    if not stat.S_ISREG(state.st_mode):
        kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a device or a pipe"
        raise NotAFileError(f"it is {kind}, not a file")
    if state.st_size > largest:
        raise NotAFileError(f"it has more than {largest:,} bytes")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, first removing what a killed
    process left unfinished in its folder.

    The unfinished file has a name that nobody can guess, and is never a link.
    """
    remove_unfinished(path.parent)
    with unfinished(path, content):
        pass


@contextmanager
def unfinished(path: Path, content: bytes) -> Iterator[None]:
    """The content lies beside `path`; it takes that place where what is inside went
    well, and is gone otherwise.
    """
    handle, near = _unfinished(path)
    try:
        with open(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            yield
            os.replace(near, path)
    finally:
        Path(near).unlink(missing_ok=True)


def _unfinished(path: Path) -> tuple[int, str]:
    """A new file beside `path`, locked as long as it is open; mode as of any new
    file.
    """
    while True:
        handle, near = tempfile.mkstemp(UNFINISHED, f".{path.name[:100]}.", path.parent)
        with suppress(OSError):  # Some file systems know no locks.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(handle, 0o666 & ~umask)
            return handle, near
        os.close(handle)  # Another process took it for a left one before it was locked.


def remove_unfinished(folder: Path) -> None:
    """Remove files that killed processes were writing in a folder: those that nobody
    has locked.
    """
    for left in folder.glob(f".*{UNFINISHED}"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink(missing_ok=True)
            finally:
                os.close(handle)

"""One file from a public host: from a mirror where the first place fails, going on
where a transfer was cut, and with the pinned digest or not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from robustbook.data.store import DataError

Tell = Callable[[int, int], None]
"""Called with the bytes that are here and those that the file will have."""
PART = ".part"
"""What has come of a file so far lies beside its place, with this ending."""
SECONDS = (10, 60)
"""How long a host may take to answer, and to send the next bytes."""
CHUNK = 1 << 16
TRIES = 3
NO_MORE = 416
"""What a host answers that is asked for bytes behind the last."""
BUSY = (429, 500, 502, 503, 504)
"""What a host answers that may give the file a little later."""


@dataclass(frozen=True)
class Remote:
    """A file of a public host: its place below the data root, the addresses where it
    lies (the authors' first, then mirrors), its bytes, and its pinned digest as
    "sha256:..." or "md5:...".

    Without a `digest` what is made of the file is pinned instead, and `size` is about
    what the host sends.
    """

    path: str
    urls: tuple[str, ...]
    size: int
    digest: str | None


class Unreachable(DataError):
    """No host of a file answered: there may be no network at all."""


def fetch(
    remote: Remote,
    root: Path,
    *,
    tell: Tell | None = None,
    tries: int = TRIES,
    pause: float = 1.0,
) -> Path:
    """Where the file lies below `root`, after it was fetched if it was not there.

    Every address is tried in turn, and one whose transfer is cut `tries` times, with
    growing pauses of `pause` seconds and more, going on with the bytes that have come.
    Raises Unreachable if no host answered and DataError if none has the file with its
    digest; what they said is in one line.
    """
    said: list[str] = []
    answered = False
    for url in remote.urls:
        for attempt in range(tries):
            found = _attempt(remote, url, root, tell)
            if isinstance(found, Path):
                return found
            answered = answered or found.answered
            if not found.may_pass or attempt == tries - 1:
                said.append(f"{urlsplit(url).netloc} {found.said}")
                break
            time.sleep(pause * 2**attempt)
    kind = DataError if answered else Unreachable
    raise kind(f"{Path(remote.path).name}: {'; '.join(said)}")


@dataclass(frozen=True)
class _Failure:
    said: str
    answered: bool = True
    may_pass: bool = False


def _attempt(
    remote: Remote, url: str, root: Path, tell: Tell | None
) -> Path | _Failure:
    """The file from one address, or what went wrong."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    place = root / remote.path
    part = place.with_name(place.name + PART)
    before = _size(part)
    try:
        return Path(
            pooch.retrieve(
                url,
                remote.digest,
                fname=place.name,
                path=place.parent,
                downloader=_Resuming(part, remote.size, tell),
            )
        )
    except requests.HTTPError as failure:
        status, *_ = said = str(failure).split(" for url")[0].split()
        return _Failure(f"answers {' '.join(said)}", may_pass=int(status) in BUSY)
    except requests.RequestException:  # It is none that answered with a status.
        if _size(part) > before:
            return _Failure("cuts the connection", may_pass=True)
        return _Failure("cannot be reached", answered=False, may_pass=True)
    except ValueError:  # pooch's word for another digest
        # Bytes of an earlier transfer may be of another file: once more from the start.
        return _Failure("sends a file with another digest", may_pass=before > 0)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that keeps what has come and asks for the rest."""

    part: Path
    size: int
    tell: Tell | None

    def __call__(self, url: str, output_file: Any, _pooch: Any) -> None:
        """Write what lies at `url` to the file of this name."""
        import requests

        from robustbook import __version__

        here = _size(self.part)
        headers = {
            "User-Agent": f"robustbook/{__version__}",
            "Accept-Encoding": "identity",
            **({"Range": f"bytes={here}-"} if here else {}),
        }
        with requests.get(url, headers=headers, stream=True, timeout=SECONDS) as answer:
            if answer.status_code != NO_MORE:
                answer.raise_for_status()
                self._take(answer, here)
        self.part.replace(output_file)

    def _take(self, answer: Any, here: int) -> None:
        """Append what comes, or begin again where the host does not go on."""
        goes_on = answer.status_code == 206
        done = here if goes_on else 0
        rest = int(answer.headers.get("Content-Length", 0))
        with self.part.open("ab" if goes_on else "wb") as stream:
            for piece in answer.iter_content(CHUNK):
                stream.write(piece)
                done += len(piece)
                if self.tell:
                    self.tell(done, max(done, (here if goes_on else 0) + rest))

"""How far a long computation is: one line on standard error, which is never part of a
page.

`counting` is the entry; the runner reads such lines with `last_line` and shows them
beside the section.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
"""Called with how many of how many pieces are done."""

_FORMAT = "{desc}: {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} left"


@contextmanager
def counting(progress: Progress | bool, title: str, total: int) -> Iterator[Progress]:
    """What to call with (done, total): `progress` itself, or where it is True a line of
    tqdm's, or nothing.

    The line is plain text on standard error in notebooks too, rewritten at most once a
    second.
    """
    if not isinstance(progress, bool):
        yield progress
        return
    from tqdm.std import tqdm

    with tqdm(
        total=total,
        desc=title,
        file=sys.stderr,
        disable=not progress,
        bar_format=_FORMAT,
        mininterval=1,
    ) as line:

        def tell(done: int, _: int) -> None:
            line.update(done - line.n)

        yield tell


def last_line(text: str) -> str:
    """The newest of the rewritten lines in `text`, or nothing where it has none."""
    found = [part.strip() for part in text.split("\r")[1:] if part.strip()]
    return found[-1].splitlines()[0] if found else ""

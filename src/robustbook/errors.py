"""Errors that a command tells in a line: `UserError` and its kinds, which users can
mend, and `RunFailedError`; `quoted` is how they repeat what a user gave.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST = 200
"""Messages repeat at most so many characters of what was typed."""


def quoted(given: object) -> str:
    """What a user gave, as a message repeats it: in quotes where it is text, control
    characters escaped, shortened in the middle.
    """
    return shortened(repr(given))


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, without its middle where it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end - 3]}...{text[-end:]}"


def escaped(text: str) -> str:
    """The text, with escapes for characters that a terminal would obey."""
    return "".join(
        each if each.isprintable() else repr(each)[1:-1] for each in str(text)
    )


class UserError(Exception):
    """Something a user can cause and mend; its message is one line that says what to
    do.

    The command line prints that line and exits 2; a notebook shows it in place of a
    traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escaped(" ".join(str(message).split())))

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers send errors home: the message travels, not what it was made from."""
        return _told_again, (type(self), self.args)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of this error: the line alone."""
        return [f"error: {self}"]


def _told_again(kind: type[UserError], args: tuple[object, ...]) -> UserError:
    """An error of that kind with its message as it was."""
    error = kind.__new__(kind)
    error.args = args
    return error


class UnknownNameError(UserError):
    """A name that is not one of those that exist; the message suggests the nearest one
    or lists them all.
    """

    def __init__(self, kind: str, name: str, options: Iterable[str]) -> None:
        known = list(options)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"there is {', '.join(known) or 'none yet'}"
        )
        super().__init__(f"unknown {kind} {quoted(name)}: {hint}")


class ParameterError(UserError):
    """A parameter of the wrong type or outside its range."""


class DamagedFileError(UserError):
    """A file whose content does not fit its digest or its format; it is never used."""


class BusyError(UserError):
    """The same run is going on in another process."""


class RunFailedError(Exception):
    """A run that stopped by itself: the message says where and why, in a block for the
    terminal.
    """

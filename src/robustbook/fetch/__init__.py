"""Data sets and published networks from where their authors keep them: the only part of
the package that uses the network.

Read `holdings` (which sets there are, and `get`), then `transfer` (one file from its
host, or from a mirror), then `convert` (originals to exactly the arrays that the
studies read).
"""

from robustbook.fetch.holdings import (
    HOLDINGS,
    OTHERS,
    get,
    inventory,
    names,
    originals,
    plan,
    verify,
)

__all__ = [
    "HOLDINGS",
    "OTHERS",
    "get",
    "inventory",
    "names",
    "originals",
    "plan",
    "verify",
]

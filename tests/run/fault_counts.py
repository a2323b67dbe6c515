"""Counts of the fault tests: how often each fault was made and how often all was as it
should be.

`make faults` sets ROBUSTBOOK_FAULTS to the file from which the book's page of faults is
made, and ROBUSTBOOK_KILLS to the number of kills; a plain run of the tests makes the
same faults, fewer of them, and writes nothing.
"""

import json
import os
from pathlib import Path

KILLS = int(os.environ.get("ROBUSTBOOK_KILLS", "2"))


def count(fault: str, made: int, held: int, told: str = "") -> None:
    """Note `made` faults of a kind, of which `held` ended as they should; `told` says
    what else was seen.
    """
    place = os.environ.get("ROBUSTBOOK_FAULTS")
    if not place:
        return
    path = Path(place)
    found = json.loads(path.read_text()) if path.exists() else {}
    before = found.get(fault, {"made": 0, "held": 0})
    found[fault] = {
        "made": before["made"] + made,
        "held": before["held"] + held,
        "told": told,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    )

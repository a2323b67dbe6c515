"""How much faster a sweep is with more workers: the same sweep with one and with two,
alternating, nothing cached.

`python -m benchmarks.sweep_workers` measures and writes `book/measured/workers.json`,
which the book's page on sweeps shows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    **{
        "train_images": 300,
        "epochs": 4,
        "seeds": 1,
        "images": 16,
        "queries": 50,
        "grid": 11,
        "slices": 1,
    },
    **{
        "strong_steps": 15,
        "steps": 10,
        "restarts": 2,
        "bound_images": 2,
        "clever_images": 1,
    },
}
REPETITIONS = 3


def seconds(workers: int) -> float:
    """Wall-clock seconds of one sweep of six short runs in a project and with a cache
    of its own.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
        for file in ("_config.yml", "Snakefile"):
            shutil.copy(ROOT / file, folder)
        words = [
            sys.executable,
            "-m",
            "robustbook",
            "sweep",
            "loss_metric",
            "--name",
            "speed",
            "--workers",
            str(workers),
        ]
        words += ["-p", "epsilon", "0.05,0.1,0.15,0.2,0.25,0.3"]
        words += [
            word for key, value in SMALL.items() for word in ("-p", key, str(value))
        ]
        environment = {
            **os.environ,
            "ROBUSTBOOK_CACHE": str(folder / "cache"),
            "PYTHONPATH": str(ROOT / "src"),
        }
        begun = time.perf_counter()
        subprocess.run(
            words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - begun


def main() -> None:
    """Measure, print the ratio of the medians, and write the file."""
    busy = os.getloadavg()[0]
    found: dict[str, list[float]] = {"1": [], "2": []}
    for _ in range(REPETITIONS):
        for workers, times in found.items():
            times.append(seconds(int(workers)))
    one, two = (sorted(times)[REPETITIONS // 2] for times in found.values())
    print(
        f"one worker {one:.1f} s, two workers {two:.1f} s, ratio {one / two:.2f} "
        f"(load before: {busy:.1f})"
    )
    target = ROOT / "book" / "measured" / "workers.json"
    target.parent.mkdir(exist_ok=True)
    content = {"cores": os.cpu_count(), "seconds": found, "load before": busy}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

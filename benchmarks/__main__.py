"""Runs the benchmarks of all studies, or of those that are named: `python -m benchmarks
[STUDY ...]`.

`make benchmark` runs them all and writes `book/measured/benchmark.json`, from which the
book's page on speed is made.
"""

from importlib import import_module

from benchmarks.timing import run

STUDIES = (
    "loss_metric",
    "mammogram_perturbations",
    "bnn_attacks",
    "saliency_baselines",
    "bnn_verification",
    "taylor_pruning",
)

if __name__ == "__main__":
    run({study: import_module(f"benchmarks.{study}").rows for study in STUDIES})

"""Runs every study's benchmark, one after the other: `make benchmark`."""

import runpy

STUDIES = (
    "loss_metric",
    "mammogram_perturbations",
    "bnn_attacks",
    "saliency_baselines",
    "bnn_verification",
    "taylor_pruning",
)

for study in STUDIES:
    print(f"\n{study}", flush=True)
    runpy.run_module(f"benchmarks.{study}", run_name="__main__")

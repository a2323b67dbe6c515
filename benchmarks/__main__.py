"""Runs every study's benchmark, one after the other: `make benchmark`."""

import runpy

for study in ("loss_metric", "bnn_verification", "taylor_pruning", "mammogram_perturbations"):
    print(f"\n{study}", flush=True)
    runpy.run_module(f"benchmarks.{study}", run_name="__main__")

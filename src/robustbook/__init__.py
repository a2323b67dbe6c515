"""Perturb and Measure: six studies of neural-network robustness, reproduced.

Read in the order in which data flows: `data` (images), `models` (networks), `bayes`
(posteriors), `perturb` (what is done to them), `measure` (what is read off), `results`
(rows and claims), `studies` (the six papers), `run` (pages and records).
"""

import os

# Before torch is imported anywhere: OpenMP workers that spin while waiting make two
# busy processes on two cores up to twenty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

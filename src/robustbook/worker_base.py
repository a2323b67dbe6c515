"""What every worker process begins with, imported once by the process that they are
forked from.
"""

import atexit
import gc

import torch

import robustbook.results  # noqa: F401 (pandas and scipy)

# The first optimiser of a process imports torch's compiler, as long a work as torch
# itself.
torch.optim.SGD([torch.zeros(1)])

# A worker's garbage collection would write to every page that it shares with the
# others, and so copy it.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)

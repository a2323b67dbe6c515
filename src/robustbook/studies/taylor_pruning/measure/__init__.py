"""What the study measures: `agreement` (scores and the oracle), `curves` (pruning
without tuning), `tuning` (with it), `removal` and `latency`.
"""

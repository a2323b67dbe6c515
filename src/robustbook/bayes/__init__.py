"""Distributions over networks, behind one protocol: `draw(count, generator)` gives joint samples of all weights.

Read `weights` (many networks run at once), then `protocol` (what a posterior is), then `hmc`,
`mean_field`, `mc_dropout` and `ensemble`.
"""

"""Distributions over networks, behind one protocol: `draw(count, generator)` gives
joint samples of all weights.

Read `weights` (many networks run at once), then `protocol` (what a posterior is), then
the posteriors `hmc`, `mean_field`, `mc_dropout`, `ensemble` and `laplace`, the nulls in
`weight_noise`, `designs` (which layers are stochastic) and `prediction` (many samples
on many images, fast).
"""

"""What is done to a network's input or to its units: read `ascent` (the loop of all
gradient attacks), then `gradient` (the attacks).

Further attacks: `auto_attack` (the strong reference, made of `apgd` and `square`),
`carlini_wagner`, `momentum`, `universal`, and `posterior` (on Bayesian
networks). What is no attack: `interference`, `lowpass`, `masks` with the `baselines`
that they show, and `pruning` (units removed).
"""

"""What is read off a network, one family of modules a question.

How robust: `divergence` (psi), `distance`, `clever`, `surfaces`, and the sound `bounds`
with `box_divergence`. How probable over a posterior: `sequential` and `verification`,
whose oracles are `region_attack`, `certificate` and `branch_and_bound`; how unsure:
`uncertainty`. Which pixels: `saliency`, `windowed_occlusion`, `saliency_metrics` and
`similarity`. Which units: `importance` and `oracle`. How visible, how separable:
`observers`.
"""

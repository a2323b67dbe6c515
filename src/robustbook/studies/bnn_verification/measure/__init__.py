"""What the study measures: `guarantees` (stopping rules), `fits` (mixing, accuracy),
`boxes` (few pixels, exact), `balls` (ten classes and signs, brackets), `proofs` (weight
space and calibration).
"""

"""What the study measures: `guarantees` (stopping rules), `boxes` (few pixels, exact),
`balls` (ten classes and signs, brackets).
"""

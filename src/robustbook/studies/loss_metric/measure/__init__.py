"""What the study measures: `landscape` (surfaces), `evaluation` (one network),
`controls` (what could overturn the claims).
"""

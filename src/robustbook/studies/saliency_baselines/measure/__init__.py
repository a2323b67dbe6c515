"""What the study measures: `maps` (by baseline), `judging` (of their faithfulness),
`settings` (of RISE).
"""

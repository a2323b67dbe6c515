"""What the study measures: `evaluation` (one network under every attack), `series` (one
image under growing budgets).
"""

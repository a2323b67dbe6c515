"""What the study measures: `evaluation` (one network under every attack), `quiet` (an
attack that avoids the alarm).
"""

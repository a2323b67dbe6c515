"""What the study measures: `lenses` (one network under all measures) and `tables` (all
networks, whole and on two halves of the images).
"""

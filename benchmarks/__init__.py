"""Timings of the package against its peers: ratios measured side by side, one after the
other, in one process.
"""

"""What the six lenses measure: `looking` first (how one looks through a lens), then one
module a lens.
"""

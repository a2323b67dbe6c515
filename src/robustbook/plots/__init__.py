"""What more than one page draws: `style` first (one look, one colour a method), then
`surfaces` and `ranking`.
"""

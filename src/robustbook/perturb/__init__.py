"""What is done to a network's input: read `network` (how a network is run) first, then `gradient` (the attacks)."""

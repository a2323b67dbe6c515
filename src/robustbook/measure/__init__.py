"""What is read off a network: `divergence` (psi), `distance` and `clever`, `surfaces`, and the sound `bounds`."""

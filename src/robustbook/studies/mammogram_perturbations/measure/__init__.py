"""What the study measures: `perturbed` (four perturbations), `severity` (low-pass
filtering in depth), `visibility` (observers), `likeness` (phantoms beside patches),
`published` (predictions of others).
"""

"""Genes that a slide did not measure, from single cells, by a diffusion over cells; see README.md."""

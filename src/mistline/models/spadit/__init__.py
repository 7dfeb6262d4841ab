"""Genes that a slide did not measure, from single cells, by a diffusion over genes; see README.md."""

"""A latent diffusion model of cell images, conditioned on a frozen SPATIA run; see README.md."""

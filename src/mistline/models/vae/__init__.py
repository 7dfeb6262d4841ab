"""An autoencoder of cells' images, whose latents generators work on."""

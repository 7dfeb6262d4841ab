"""A frozen image encoder, published or of timm, with weights from a file or at random."""

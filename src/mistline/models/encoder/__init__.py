"""A frozen image encoder of timm, with weights from a file or at random."""

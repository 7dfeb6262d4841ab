"""Training: the loop, checkpoints, distribution."""

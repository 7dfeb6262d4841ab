"""A flow from cell to cell: from the latents of a control cell to those of a matched cell of another state."""

"""What other tools open: SpatialData for viewers, groups for Xenium Explorer, images for the published SPATIA code."""

"""Building the dataset: project, crop, tile, split, meta-cells. numpy only."""

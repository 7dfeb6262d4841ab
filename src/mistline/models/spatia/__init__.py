"""SPATIA: one vector of a cell from its image, its genes and its place, with its niche and its tissue around it."""

"""Which cells or spots are neighbours: sparse, symmetric graphs over one slide."""

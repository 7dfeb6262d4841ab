"""Tables of cells or spots that others made: h5ad files and Visium folders, read into one form."""

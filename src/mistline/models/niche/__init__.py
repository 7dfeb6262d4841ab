"""Classes of cells from what a trained GeST says of their niche, with its weights trained further."""

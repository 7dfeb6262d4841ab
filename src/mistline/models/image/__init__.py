"""PCA of plain image features: the baseline of morphology."""

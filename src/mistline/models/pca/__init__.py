"""PCA of log-normalised counts: the baseline of expression."""

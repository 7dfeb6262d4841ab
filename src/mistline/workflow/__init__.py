"""What the Snakefile imports besides the configuration; no heavy import."""

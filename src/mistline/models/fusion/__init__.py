"""Domain detection: an encoder of genes, a graph of neighbours and a fusion of both, each chosen by name."""

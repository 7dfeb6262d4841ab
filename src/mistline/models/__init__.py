"""The registry of models; listing it imports no torch."""

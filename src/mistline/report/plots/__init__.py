"""One file for every kind of figure; what they share is in `theme`."""

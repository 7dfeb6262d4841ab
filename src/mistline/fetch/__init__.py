"""Fetching bundles: the files that are read, out of a zip on a web server, whole and checked or not at all."""

"""What every other room stands on: errors, logging, files, geometry, seeds, hashing, provenance."""

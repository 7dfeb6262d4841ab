"""What a cell is in one fold of a task."""

from __future__ import annotations

# Trained on; chosen with; tested; left out between training and test; without a label, in the graph only.
PARTS = ("train", "val", "test", "buffer", "unlabelled")
SEEN = ("train", "val")  # whose labels a model may read

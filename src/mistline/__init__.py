"""mistline: from raw 10x Xenium bundles to MIST, to models judged against honest controls."""

__version__ = "0.1.0"

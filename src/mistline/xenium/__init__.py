"""Raw 10x Xenium bundles, in every layout of the instrument's software."""

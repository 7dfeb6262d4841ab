"""What a user may set: strict pydantic models, one file a section. Imports neither torch, dask nor zarr."""

"""The model of `tiny` in the shape of a registered one."""

"""A frozen encoder of counts: a published foundation model with its own weights."""

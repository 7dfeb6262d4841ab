"""Published methods, run in environments of their own; their scripts lie in tasks/peers."""

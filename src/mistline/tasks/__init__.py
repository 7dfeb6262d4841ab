"""What models are judged on; reads files, never models."""

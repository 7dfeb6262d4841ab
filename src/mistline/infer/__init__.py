"""Using trained models: embeddings."""

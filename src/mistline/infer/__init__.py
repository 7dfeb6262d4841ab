"""Using trained models: embeddings, drawn images, edits of genes, and their speed."""

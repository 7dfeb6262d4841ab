"""SpaGE: single cells and the slide are aligned by principal vectors, then genes are borrowed from neighbours."""

"""stPlus: an autoencoder of the slide's cells and the single cells together, then genes borrowed from neighbours."""

"""One page that shows the dataset and every result."""

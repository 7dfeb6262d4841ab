"""Reading the dataset back for training. torch from here on."""

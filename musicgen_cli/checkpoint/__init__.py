"""A model on disk: its name, its files, its configuration, and the hub that it is downloaded from."""

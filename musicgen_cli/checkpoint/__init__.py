"""A model on disk: its names, its files, what its config says, and the hub it comes from."""

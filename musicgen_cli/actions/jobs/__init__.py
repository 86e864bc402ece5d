"""Takes that are made in the background."""

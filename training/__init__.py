"""How the bundled weights are made; not part of the package."""

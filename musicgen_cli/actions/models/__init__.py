"""Models on this machine: pulling, listing, checking and removing them."""

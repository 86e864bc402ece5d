"""Model weights on this machine: fetched, listed, checked, removed."""

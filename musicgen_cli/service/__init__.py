"""The HTTP service: an engine behind a bounded queue, as the contract says."""

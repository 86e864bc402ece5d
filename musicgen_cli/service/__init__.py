"""The HTTP service: an engine behind a bounded queue, following the HTTP contract."""

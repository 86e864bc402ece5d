"""Words in, words out; nobody imports it."""

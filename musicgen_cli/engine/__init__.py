"""Request in, sound out: over HTTP, or with the model in this process."""

"""Decoding: from logits to codes and from samples to PCM, in numpy alone, independent of any runtime."""

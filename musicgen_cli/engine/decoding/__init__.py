"""From logits to codes and from samples to bytes: numpy alone, without a runtime."""

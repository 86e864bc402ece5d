"""The model on PyTorch, for GPUs."""

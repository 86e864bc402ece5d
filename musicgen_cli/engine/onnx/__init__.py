"""The model on ONNX Runtime: its graphs, how they are built, and how they are run."""

"""The model on ONNX Runtime: its graphs, how they are made, and how they are run."""

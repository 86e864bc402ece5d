"""The decoder as one native call a step: the C library of the folder `native`, and what drives it."""

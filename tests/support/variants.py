"""Which of a model's variants is the default on this machine, which may lack the native decoder."""

from __future__ import annotations

from musicgen_cli.engine.native import library
from musicgen_cli.engine.onnx.graph_cache import NATIVE_VARIANT


def int8_variant() -> str:
    """Return the variant (`graph_cache.variant`) of int8 that is used by default."""
    try:
        library.instruction_set()
    except library.UnavailableError:
        return "int8"
    return NATIVE_VARIANT

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")

from pathlib import Path

from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.published import FIGURES
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.sizes import graph_bytes, parameters
from musicgen_cli.engine.onnx.engine import OnnxEngine


def counted(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))


def test_the_parameters_of_nano_are_reckoned_exactly(nano: Checkpoint) -> None:
    """By part, beside the table of positions that transformers saves and nano's file hasn't."""
    shape, shapes = Shape.of(nano.config), nano.tensors().shapes
    reckoned = parameters(shape)
    reckoned["decoder."] -= 2048 * shape.decoder.width

    assert reckoned == {prefix: counted(shapes, prefix) for prefix in reckoned}


@pytest.mark.oracle
@pytest.mark.parametrize("name", FIGURES)
def test_the_parameters_of_published_models_are_those_of_transformers(name: str) -> None:
    """Of a model without memory, made from the published config."""
    torch = pytest.importorskip("torch", reason="the oracle needs torch")
    transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")
    published = FIGURES[name]
    config: Any = published.config
    kind = "MusicgenMelody" if "melody" in name else "Musicgen"
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForConditionalGeneration")(
            getattr(transformers, f"{kind}Config")(
                text_encoder=transformers.T5Config(**config["text_encoder"]).to_dict(),
                audio_encoder=transformers.EncodecConfig(**config["audio_encoder"], target_bandwidths=[2.2]).to_dict(),
                decoder=getattr(transformers, f"{kind}DecoderConfig")(**config["decoder"]).to_dict(),
            )
        )
    shapes = {key: tuple(values.shape) for key, values in model.state_dict().items() if "embed_positions" not in key}
    shapes.pop("text_encoder.encoder.embed_tokens.weight", None)
    reckoned = parameters(Shape.of(config))
    reckoned["decoder."] -= 2048 * published.width

    assert reckoned == {prefix: counted(shapes, prefix) for prefix in reckoned}
    unused = counted(shapes, "audio_encoder.encoder.")
    bytes_each = 2 if name.startswith("stereo") and not published.is_melody else 4
    assert published.weights_bytes == pytest.approx(bytes_each * (sum(reckoned.values()) + unused), rel=0.01)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_size_of_graphs_is_reckoned(nano: Checkpoint, session_cache: Path, precision: str) -> None:
    """Within 5 % for nano, of which positions and scales are a larger part than of other models."""
    OnnxEngine(nano, cache_dir=session_cache, precision=precision, threads=1, slots=1).close()
    actual = prepared_graphs(nano, session_cache)[precision].size_bytes

    assert graph_bytes(Shape.of(nano.config), int8=precision == "int8") == pytest.approx(actual, rel=0.05)

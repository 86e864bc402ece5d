"""A small random melody model for tests without PyTorch: nano's text encoder and codec, and a decoder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint

WIDTH, LAYERS, HEADS, FFN, CODEBOOKS = 64, 2, 4, 128, 4


def write_melody_model(
    folder: Path, nano: Checkpoint, nano_tensors: Mapping[str, Any], *, chroma_length: int = 235
) -> Checkpoint:
    """Write a checkpoint folder; the audio encoder is random, too."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    vocab = nano.config["decoder"]["vocab_size"]
    decoder = nano.config["decoder"] | {
        "model_type": "musicgen_melody_decoder", "hidden_size": WIDTH, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "ffn_dim": FFN, "num_codebooks": CODEBOOKS, "audio_channels": 1,
    }  # fmt: skip
    config = {
        **nano.config, "model_type": "musicgen_melody", "num_chroma": 12, "chroma_length": chroma_length,
        "decoder": decoder,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(nano.directory / "tokenizer.json", folder)
    rng = np.random.default_rng(3)

    def draw(*shape: int, scale: float = 1.0) -> Any:
        return (rng.standard_normal(shape) * scale / np.sqrt(shape[-1])).astype(np.float32)

    tensors = {name: values for name, values in nano_tensors.items() if name.startswith(("text_", "audio_"))}
    for name, shape in nano.tensors().shapes.items():
        if name.startswith("audio_encoder.encoder."):  # an LSTM with large weights would make noise of rounding
            tensors[name] = (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float16)
    tensors |= {
        "enc_to_dec_proj.weight": draw(WIDTH, nano.config["text_encoder"]["d_model"]),
        "enc_to_dec_proj.bias": draw(WIDTH),
        "audio_enc_to_dec_proj.weight": draw(WIDTH, 12, scale=12.0),
        "audio_enc_to_dec_proj.bias": draw(WIDTH),
    }
    for k in range(CODEBOOKS):
        tensors[f"decoder.model.decoder.embed_tokens.{k}.weight"] = draw(vocab + 1, WIDTH, scale=4.0)
        tensors[f"decoder.lm_heads.{k}.weight"] = draw(vocab, WIDTH, scale=3.0)
    for i in range(LAYERS):
        layer = f"decoder.model.decoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors[f"{layer}.self_attn.{part}.weight"] = draw(WIDTH, WIDTH, scale=2.0)
        tensors[f"{layer}.fc1.weight"], tensors[f"{layer}.fc2.weight"] = draw(FFN, WIDTH), draw(WIDTH, FFN)
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            tensors |= _norm(f"{layer}.{norm}")
    save_file(tensors | _norm("decoder.model.decoder.layer_norm"), folder / "model.safetensors")
    return find_checkpoint(str(folder), folder)


def _norm(name: str) -> dict[str, Any]:
    return {f"{name}.weight": np.ones(WIDTH, np.float32), f"{name}.bias": np.zeros(WIDTH, np.float32)}

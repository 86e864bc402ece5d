"""
Random decoders of musicgen-small's width, with what trained ones have and random ones lack: outliers and heavy tails.

The text encoder and the codec are those of nano, so that only the decoder is large.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEADS, FFN, VOCAB, CODEBOOKS = 1024, 16, 4096, 2048, 4
OUTLIERS = 8  # channels of each kind

Tensors = dict[str, Any]

_NORMS = {
    "self_attn_layer_norm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "encoder_attn_layer_norm": ("encoder_attn.q_proj",),
    "final_layer_norm": ("fc1",),
}
_WRITERS = ("self_attn.out_proj", "encoder_attn.out_proj", "fc2")  # of the residual stream


def random_decoder(layers: int, *, freedom: float | None = None, seed: int = 0) -> Tensors:
    """
    Draw the weights of a decoder as transformers does, but the output heads five times wider.

    Logits are then spread as those of a trained model.

    Args:
        freedom: Degrees of freedom of Student's t, from which the layers' weights are drawn; None: they are normal.
    """
    rng = np.random.default_rng(seed)

    def draw(rows: int, columns: int, *, tails: bool = True) -> Any:
        if freedom is None or not tails:
            return rng.standard_normal((rows, columns), np.float32) * np.float32(0.02)
        values = rng.standard_t(freedom, (rows, columns)) / np.sqrt(freedom / (freedom - 2))
        return (values * 0.02).astype(np.float32)

    tensors: Tensors = {}
    for k in range(CODEBOOKS):
        tensors[f"decoder.model.decoder.embed_tokens.{k}.weight"] = draw(VOCAB + 1, WIDTH, tails=False)
        tensors[f"decoder.lm_heads.{k}.weight"] = draw(VOCAB, WIDTH, tails=False) * 5
    for i in range(layers):
        layer = f"decoder.model.decoder.layers.{i}"
        for attention in ("self_attn", "encoder_attn"):
            for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                tensors[f"{layer}.{attention}.{part}.weight"] = draw(WIDTH, WIDTH)
        tensors[f"{layer}.fc1.weight"] = draw(FFN, WIDTH)
        tensors[f"{layer}.fc2.weight"] = draw(WIDTH, FFN)
        for norm in _NORMS:
            tensors[f"{layer}.{norm}.weight"] = np.ones(WIDTH, np.float32)
            tensors[f"{layer}.{norm}.bias"] = np.zeros(WIDTH, np.float32)
    tensors["decoder.model.decoder.layer_norm.weight"] = np.ones(WIDTH, np.float32)
    tensors["decoder.model.decoder.layer_norm.bias"] = np.zeros(WIDTH, np.float32)
    tensors["enc_to_dec_proj.weight"] = draw(WIDTH, 128, tails=False) * 5
    tensors["enc_to_dec_proj.bias"] = np.zeros(WIDTH, np.float32)
    return tensors


def enlarge(
    tensors: Tensors,
    layers: int,
    *,
    norms: float = 1,
    residual: float = 1,
    values: float = 1,
    hidden: float = 1,
    seed: int = 1,
) -> None:
    """
    Enlarge a few channels.

    Args:
        norms: Of what each norm gives, while the columns that read it shrink: the function stays the same.
        residual: Of the residual stream.
        values: Of self-attention's values, while the columns that read them shrink.
        hidden: Of the feed-forward, before the activation.
    """
    rng = np.random.default_rng(seed)

    def channels(number: int = WIDTH) -> Any:
        return rng.choice(number, OUTLIERS, replace=False)

    chosen = channels()
    for k in range(CODEBOOKS):
        tensors[f"decoder.model.decoder.embed_tokens.{k}.weight"][:, chosen] *= np.float32(residual)
    for i in range(layers):
        layer = f"decoder.model.decoder.layers.{i}"
        for writer in _WRITERS:
            tensors[f"{layer}.{writer}.weight"][chosen] *= np.float32(residual)
        for norm, readers in _NORMS.items():
            some = channels()
            tensors[f"{layer}.{norm}.weight"][some] *= np.float32(norms)
            for reader in readers:
                tensors[f"{layer}.{reader}.weight"][:, some] /= np.float32(norms)
        some = channels()
        tensors[f"{layer}.self_attn.v_proj.weight"][some] *= np.float32(values)
        tensors[f"{layer}.self_attn.out_proj.weight"][:, some] /= np.float32(values)
        tensors[f"{layer}.fc1.weight"][channels(FFN)] *= np.float32(hidden)


def write_config(folder: Path, layers: int, nano: Path) -> None:
    """Write config and tokenizer of a checkpoint of such a decoder and of nano's other parts."""
    config = json.loads((nano / "config.json").read_text())
    config["decoder"] |= {
        "hidden_size": WIDTH, "num_hidden_layers": layers, "num_attention_heads": HEADS, "ffn_dim": FFN,
        "vocab_size": VOCAB, "num_codebooks": CODEBOOKS, "pad_token_id": VOCAB, "bos_token_id": VOCAB,
    }  # fmt: skip
    config["audio_encoder"]["codebook_size"] = VOCAB
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(nano / "tokenizer.json", folder)


def write_checkpoint(folder: Path, tensors: Tensors, layers: int, nano: Path, nano_tensors: Mapping[str, Any]) -> Path:
    """Write a checkpoint of a decoder and of nano's other parts."""
    from safetensors.numpy import save_file

    parts = {name: values for name, values in nano_tensors.items() if name.startswith(("text_", "audio_"))}
    for name, values in parts.items():
        if name.endswith("codebook.embed"):
            parts[name] = np.resize(values, (VOCAB, values.shape[1]))
    folder.mkdir(parents=True)
    write_config(folder, layers, nano)
    save_file(parts | tensors, folder / "model.safetensors")
    return folder

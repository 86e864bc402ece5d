"""
Writes models as they are published: transformers' files in each form, audiocraft's, and LoRA adapters.

The models are random, with the widths of the real ones and few layers; names, dtypes and the division into files are
those of the repositories of facebook/musicgen-… and of community models.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.support.audiocraft import codec_state, codec_training, decoder_state, package, pointer, training
from tests.support.oracle import Config, random_model

Weights = dict[str, torch.Tensor]

T5_BASE: Config = {
    "vocab_size": 32_128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 1, "num_heads": 12,
}  # fmt: skip
ENCODEC_32KHZ: Config = {
    "sampling_rate": 32_000, "hidden_size": 128, "num_filters": 64, "upsampling_ratios": [8, 5, 4, 4],
    "codebook_size": 2048, "kernel_size": 7, "last_kernel_size": 7, "num_residual_layers": 1, "num_lstm_layers": 2,
    "use_causal_conv": False, "use_conv_shortcut": False, "pad_mode": "reflect",
}  # fmt: skip
SCALES: dict[str, Config] = {
    "small": {"hidden_size": 1024, "num_attention_heads": 16, "ffn_dim": 4096},
    "medium": {"hidden_size": 1536, "num_attention_heads": 24, "ffn_dim": 6144},
    "large": {"hidden_size": 2048, "num_attention_heads": 32, "ffn_dim": 8192},
}


def published_model(scale: str, *, channels: int = 1, seed: int = 0, is_melody: bool = False) -> Any:
    """Make a random model with the widths of one of SCALES, and one layer."""
    decoder = {
        **SCALES[scale], "vocab_size": 2048, "num_hidden_layers": 1, "num_codebooks": 4 * channels,
        "audio_channels": channels, "initializer_factor": 0.05,
    }  # fmt: skip
    return random_model(seed, T5_BASE, decoder, ENCODEC_32KHZ, chroma_length=235 if is_melody else None)


def published_weights(model: Any, *, is_pickle: bool = False) -> Weights:
    """Return a model's weights under the names of the published files."""
    new = "parametrizations.weight.original"
    weights = {
        name.replace(f"{new}0", "weight_g").replace(f"{new}1", "weight_v"): values.detach().clone().contiguous()
        for name, values in model.state_dict().items()
    }
    width = model.config.decoder.hidden_size
    weights["decoder.model.decoder.embed_positions.weights"] = torch.zeros(2048, width)
    weights.pop("text_encoder.encoder.embed_tokens.weight", None)
    if is_pickle:
        weights["text_encoder.encoder.embed_tokens.weight"] = weights["text_encoder.shared.weight"]
    return weights


def write_folder(folder: Path, model: Any, tokenizer: Path, **others: str) -> Path:
    """Write config, tokenizer and model card as they stand beside weights of transformers, and further small files."""
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    if config["decoder"].get("audio_channels") == 1:
        del config["decoder"]["audio_channels"]  # published mono models have no such member
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer, folder / "tokenizer.json")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ninference: true\n---\n# MusicGen\n")
    for name, content in others.items():
        (folder / name).write_text(content)
    return folder


def write_shards(folder: Path, weights: Weights, *, suffix: str, count: int = 2) -> None:
    """Write weights as shards with an index, as safetensors or as pickle."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    places: dict[str, str] = {}
    for number in range(count):
        part = {name: weights[name] for name in sorted(weights)[number::count]}
        name = f"{stem}-{number + 1:05}-of-{count:05}.{suffix}"
        save_file(part, folder / name, {"format": "pt"}) if suffix == "safetensors" else torch.save(part, folder / name)
        places |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))


def write_audiocraft(folder: Path, model: Any, *, dtype: torch.dtype, codec: str | None = None) -> Path:
    """
    Write a model as audiocraft exports it.

    Args:
        codec: The repository that compression_state_dict.bin names; None: it holds the codec.
    """
    folder.mkdir(parents=True)
    config, weights = model.config.to_dict(), published_weights(model)
    state = {name: values.to(dtype) for name, values in decoder_state(weights, torch.cat).items()}
    torch.save(package(state, training(config)), folder / "state_dict.bin")
    codec_package = pointer(codec) if codec else package(codec_state(weights, config), codec_training(config))
    torch.save(codec_package, folder / "compression_state_dict.bin")
    return folder


def write_adapter(folder: Path, weights: Mapping[str, torch.Tensor], base: str, **config: Any) -> Path:
    """Write a LoRA adapter as peft does; `weights` are named as in the base model."""
    folder.mkdir(parents=True)
    save_file({f"base_model.model.{name}": values for name, values in weights.items()},
              folder / "adapter_model.safetensors", {"format": "pt"})  # fmt: skip
    defaults = {
        "peft_type": "LORA", "base_model_name_or_path": base, "r": 16, "lora_alpha": 16, "lora_dropout": 0.05,
        "bias": "none", "fan_in_fan_out": False, "use_dora": False, "use_rslora": False, "init_lora_weights": True,
        "inference_mode": True, "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "task_type": None,
        "target_modules": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "enc_to_dec_proj",
                           "audio_enc_to_dec_proj", *(f"embed_tokens.{k}" for k in range(4)),
                           *(f"lm_heads.{k}" for k in range(4))],
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(defaults | config))
    return folder


def random_adapter(weights: Mapping[str, torch.Tensor], *, rank: int, alpha: float) -> tuple[Weights, Weights]:
    """Return the matrices of an adapter of all that published ones change, and the weights with it merged in."""
    generator = torch.Generator().manual_seed(5)
    matrices: Weights = {}
    merged = dict(weights)
    for name, values in weights.items():
        if not re.search(r"(_proj|fc[12]|lm_heads\.\d|embed_tokens\.\d)\.weight$", name) or "text_encoder." in name:
            continue
        outputs, inputs = values.shape
        module = name.removesuffix(".weight")
        is_embedding = "embed_tokens" in name
        rows, columns = (inputs, outputs) if is_embedding else (outputs, inputs)
        a = torch.randn(rank, columns, generator=generator) * columns**-0.5
        b = torch.randn(rows, rank, generator=generator) * values.std()
        keys = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A.weight", "lora_B.weight")
        matrices |= {f"{module}.{keys[0]}": a, f"{module}.{keys[1]}": b}
        product = (b @ a) * (alpha / rank)
        merged[name] = values + (product.T if is_embedding else product)
    return matrices, merged

"""
Models as audiocraft publishes them: a language model, and a codec or the name of one.

`state_dict.bin` is a dictionary with the tensors of the language model (`best_state`) and the configuration of its
training as YAML (`xp.cfg`). `compression_state_dict.bin` holds the same of the codec, or names the repository that has
it (`pretrained`). The text encoder is in neither: it is T5, unchanged, and comes from a published model. Here tensors
get the names that transformers gives them, and the configuration becomes a config.json.

Source: audiocraft, models/loaders.py, models/builders.py and utils/export.py; transformers,
convert_musicgen_transformers.py and convert_musicgen_melody_transformers.py (`rename_keys`), and
convert_encodec_checkpoint_to_pytorch.py (`MAPPING_…`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from musicgen_cli.checkpoint.stored_tensor import StoredTensor
from musicgen_cli.checkpoint.torch_file import TorchFile
from musicgen_cli.errors import CheckpointError

BASE = "facebook/musicgen-small"  # whose T5 and tokenizer every model has; the smallest download
_STATE, _CONFIG, _POINTER = "best_state", "xp.cfg", "pretrained"
_MAX_YAML = 1_000_000  # characters; real ones have ten thousand
_LONGEST_SEGMENT_S = 600
# How a melody model hears a tune: audio/chroma.py computes this and no other form.
_CHROMA: dict[str, Any] = {"sample_rate": 32_000, "n_chroma": 12, "radix2_exp": 14, "argmax": True}
_CHROMA_HOP = (1 << _CHROMA["radix2_exp"]) // 4  # samples
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # of OmegaConf, to another member

# In this order, the names of the language model's parts in audiocraft → in transformers.
_DECODER_NAMES = (
    (r"emb\.(\d+)\.weight", r"decoder.model.decoder.embed_tokens.\1.weight"),
    (r"linears\.(\d+)\.weight", r"decoder.lm_heads.\1.weight"),
    (r"out_norm\.(weight|bias)", r"decoder.model.decoder.layer_norm.\1"),
    (r"condition_provider\.conditioners\.description\.output_proj\.(weight|bias)", r"enc_to_dec_proj.\1"),
    (r"condition_provider\.conditioners\.self_wav\.output_proj\.(weight|bias)", r"audio_enc_to_dec_proj.\1"),
    (r"transformer\.layers\.(\d+)\.linear([12])\.weight", r"decoder.model.decoder.layers.\1.fc\2.weight"),
    (r"transformer\.layers\.(\d+)\.norm1\.(weight|bias)", r"decoder.model.decoder.layers.\1.self_attn_layer_norm.\2"),
    (r"transformer\.layers\.(\d+)\.norm2\.(weight|bias)", r"decoder.model.decoder.layers.\1.final_layer_norm.\2"),
    (r"transformer\.layers\.(\d+)\.norm_cross\.(weight|bias)",
     r"decoder.model.decoder.layers.\1.encoder_attn_layer_norm.\2"),
    (r"transformer\.layers\.(\d+)\.self_attn\.(in_proj_weight|out_proj\.weight)",
     r"decoder.model.decoder.layers.\1.self_attn.\2"),
    (r"transformer\.layers\.(\d+)\.cross_attention\.(in_proj_weight|out_proj\.weight)",
     r"decoder.model.decoder.layers.\1.encoder_attn.\2"),
)  # fmt: skip
_UNUSED = "condition_provider.conditioners.self_wav.chroma.spec.window"  # of the spectrum of a tune: always the same
_CODEC_NAMES = (
    (r"quantizer\.vq\.layers\.(\d+)\._codebook\.(\w+)", r"audio_encoder.quantizer.layers.\1.codebook.\2"),
    (r"(encoder|decoder)\.model\.(.+)\.(?:conv\.conv|convtr\.convtr)\.(.+)", r"audio_encoder.\1.layers.\2.conv.\3"),
    (r"(encoder|decoder)\.model\.(\d+)\.lstm\.(\w+)", r"audio_encoder.\1.layers.\2.lstm.\3"),
)


def codec_repository(codec: TorchFile) -> str | None:
    """
    Return the repository that a compression_state_dict.bin names instead of holding a codec, None if it holds one.

    Raises:
        CheckpointError: What it names is no repository.
    """
    root = codec.root
    if not isinstance(root, dict) or _POINTER not in root or _STATE in root:
        return None
    name = root[_POINTER]
    repository = name.removeprefix("//pretrained/") if isinstance(name, str) else ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise CheckpointError(f"{codec.name} names the codec {str(name)[:60]!r}, which is no repository")
    return repository


def decoder_tensors(model: TorchFile) -> dict[str, StoredTensor]:
    """
    Return the tensors of a state_dict.bin under the names of transformers, with queries, keys and values apart.

    Raises:
        CheckpointError: It has a tensor that MusicGen's decoder doesn't have, or lacks its tensors altogether.
    """
    renamed: dict[str, StoredTensor] = {}
    for name, stored in model.tensors(_STATE).items():
        if name == _UNUSED:
            continue
        target = _renamed(name, _DECODER_NAMES)
        if target is None:
            raise CheckpointError(f"{model.name} has a tensor that MusicGen's decoder doesn't have: {name[:80]!r}")
        if not target.endswith("in_proj_weight"):
            renamed[target] = stored
            continue
        rows = stored.shape[0] // 3
        for i, part in enumerate("qkv"):
            values = None if stored.values is None else stored.values[i * rows : (i + 1) * rows]
            piece = replace(stored, shape=(rows, *stored.shape[1:]), values=values)
            renamed[target.replace("in_proj_weight", f"{part}_proj.weight")] = piece
    return renamed


def codec_tensors(codec: TorchFile) -> dict[str, StoredTensor]:
    """Return the tensors of a compression_state_dict.bin under the names of transformers; unknown ones are left out."""
    renamed = {_renamed(name, _CODEC_NAMES): stored for name, stored in codec.tensors(_STATE).items()}
    return {name: stored for name, stored in renamed.items() if name is not None}


def model_config(model: TorchFile, tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """
    Return a config.json without its text encoder and audio encoder.

    Args:
        tensors: As `decoder_tensors` returns them.

    Raises:
        CheckpointError: As for `decoder_config`, or the tunes of a melody model have another form.
    """
    decoder = decoder_config(model, tensors)
    if not any(name.startswith("audio_enc_to_dec_proj.") for name in tensors):
        return {"model_type": "musicgen", "decoder": decoder}
    seconds = _Settings(model.root, model.name).get("dataset.segment_duration", default=30)
    if type(seconds) not in (int, float) or not 0 < seconds <= _LONGEST_SEGMENT_S:
        raise CheckpointError(f"{model.name}: dataset.segment_duration {repr(seconds)[:60]} is not supported")
    return {
        "model_type": "musicgen_melody",
        "num_chroma": _CHROMA["n_chroma"],
        "chroma_length": 1 + int(seconds * _CHROMA["sample_rate"]) // _CHROMA_HOP,
        "decoder": decoder | {"model_type": "musicgen_melody_decoder"},
    }


def decoder_config(model: TorchFile, tensors: Mapping[str, StoredTensor]) -> dict[str, Any]:
    """
    Return the object `decoder` of a config.json.

    Sizes come from the tensors; what they can't tell comes from the configuration of the training, if it is there.

    Args:
        tensors: As `decoder_tensors` returns them.

    Raises:
        CheckpointError: The model was trained otherwise than MusicGen (`check_training`), or has other delays.
    """
    check_training(model.root, model.name)
    settings = _Settings(model.root, model.name)
    prefix = "decoder.model.decoder."
    codebooks = sum(name.startswith(f"{prefix}embed_tokens.") for name in tensors)
    try:
        codes, width = tensors[f"{prefix}embed_tokens.0.weight"].shape
        ffn = tensors[f"{prefix}layers.0.fc1.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as err:
        raise CheckpointError(f"{model.name} has no embeddings or no layers of MusicGen's decoder") from err
    channels = 2 if settings.get("interleave_stereo_codebooks.use", default=False) is True else 1
    delays = [k // channels for k in range(codebooks)]
    if (actual := settings.get("codebooks_pattern.delay.delays", default=delays)) != delays:
        raise CheckpointError(f"{model.name}: delays {repr(actual)[:60]} are not supported")
    return {
        "model_type": "musicgen_decoder",
        "vocab_size": codes - 1,  # the last one is the start token
        "hidden_size": width,
        "num_hidden_layers": 1 + max(int(n[1]) for n in map(re.compile(r".*\.layers\.(\d+)\.").match, tensors) if n),
        "num_attention_heads": settings.get("transformer_lm.num_heads", default=width // 64),  # as all published ones
        "ffn_dim": ffn,
        "activation_function": "gelu",
        "num_codebooks": codebooks,
        "audio_channels": channels,
        "pad_token_id": codes - 1,
        "bos_token_id": codes - 1,
    }


def check_training(root: object, name: str) -> None:
    """
    Check how a language model was trained, as far as its config can't say it.

    It hears text through T5-base, and beside that at most the chroma of a tune.

    Args:
        root: What its state_dict.bin describes.
        name: The file's name, for messages.

    Raises:
        CheckpointError: It was trained otherwise.
    """
    settings = _Settings(root, name)
    conditioners = settings.get("conditioners", default={})
    kinds = {
        str(conditioner): str(value.get("model")) if isinstance(value, dict) else ""
        for conditioner, value in (conditioners.items() if isinstance(conditioners, dict) else ())
        if conditioner != "args"
    }
    follows_tunes = kinds.get("self_wav") == "chroma_stem"
    known = {"description", "self_wav"} if follows_tunes else {"description"}
    if other := next((conditioner for conditioner in kinds if conditioner not in known), None):
        raise CheckpointError(
            f"{name} is conditioned by {other[:40]!r} ({kinds[other][:40]}) beside text, which isn't supported"
        )
    kind = kinds.get("description", "t5")
    encoder = settings.get(f"conditioners.description.{kind}.name", default="t5-base")
    if (kind, encoder) != ("t5", "t5-base"):
        raise CheckpointError(f"{name} has the text encoder {str(encoder)[:40]!r}; only t5-base is supported")
    of_tunes = {f"conditioners.self_wav.chroma_stem.{member}": value for member, value in _CHROMA.items()}
    of_tunes["fuser.prepend"] = ["self_wav", "description"]
    for member, expected in (
        *(of_tunes.items() if follows_tunes else ()),
        ("codebooks_pattern.modeling", "delay"),
        ("transformer_lm.activation", "gelu"),
        ("transformer_lm.norm_first", True),
        ("transformer_lm.positional_embedding", "sin"),
        ("transformer_lm.kv_repeat", 1),
    ):
        if (actual := settings.get(member, default=expected)) != expected:
            raise CheckpointError(f"{name}: {member} {repr(actual)[:60]} is not supported")


def codec_config(codec: TorchFile) -> dict[str, Any]:
    """
    Return the object `audio_encoder` of a config.json; an absent member is that of the published 32 kHz codec.

    Raises:
        CheckpointError: It isn't a configuration of EnCodec.
    """
    settings = _Settings(codec.root, codec.name)
    kind = settings.get("compression_model", default="encodec")
    if kind != "encodec":
        raise CheckpointError(f"{codec.name} is a codec of the kind {str(kind)[:40]!r}; only EnCodec is supported")
    seanet = {
        "hidden_size": ("dimension", 128),
        "codebook_dim": ("dimension", 128),
        "num_filters": ("n_filters", 64),
        "num_residual_layers": ("n_residual_layers", 1),
        "upsampling_ratios": ("ratios", [8, 5, 4, 4]),
        "kernel_size": ("kernel_size", 7),
        "last_kernel_size": ("last_kernel_size", 7),
        "residual_kernel_size": ("residual_kernel_size", 3),
        "dilation_growth_rate": ("dilation_base", 2),
        "compress": ("compress", 2),
        "num_lstm_layers": ("lstm", 2),
        "norm_type": ("norm", "weight_norm"),
        "use_causal_conv": ("causal", False),
        "pad_mode": ("pad_mode", "reflect"),
        "trim_right_ratio": ("decoder.trim_right_ratio", 1.0),
    }
    config = {
        "model_type": "encodec",
        "sampling_rate": settings.get("sample_rate", default=32_000),
        "audio_channels": settings.get("channels", default=1),
        "codebook_size": settings.get("rvq.bins", default=2048),
        "use_conv_shortcut": not settings.get("seanet.true_skip", default=True),
        **{name: settings.get(f"seanet.{member}", default=value) for name, (member, value) in seanet.items()},
    }
    codebooks = sum(name.endswith("._codebook.embed") for name in codec.tensors(_STATE))
    return config | _bandwidth(config, codebooks)


def _bandwidth(config: Mapping[str, Any], codebooks: int) -> dict[str, Any]:
    """Return the member from which transformers reckons the number of codebooks; no other program needs it."""
    rate, strides, codes = (config[name] for name in ("sampling_rate", "upsampling_ratios", "codebook_size"))
    if not isinstance(strides, list) or not all(type(n) is int and n > 0 for n in (rate, codes, *strides)):
        return {}  # these are refused where they are used
    bits_per_s = codebooks * -(-rate // math.prod(strides)) * math.ceil(math.log2(codes))
    return {"target_bandwidths": [(bits_per_s + 0.5) / 1000]}  # transformers rounds down


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, target in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(target)
    return None


class _Settings:
    """The configuration of a training, whose members can refer to each other."""

    def __init__(self, root: object, name: str) -> None:
        text = root.get(_CONFIG, "") if isinstance(root, dict) else ""
        if not isinstance(text, str) or len(text) > _MAX_YAML:
            raise CheckpointError(f"{name} has no configuration of its training in YAML")
        try:
            self._root = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as err:
            raise CheckpointError(f"{name}: the configuration of its training isn't YAML") from err

    def get(self, path: str, *, default: object) -> Any:
        """Return a member by its path, with dots; the default if it is absent or null."""
        for _ in range(10):  # references to references
            value: object = self._root
            for key in path.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
            if reference is None:
                return default if value is None else value
            path = reference[1]
        return default

"""Random models, and what transformers generates with them: the oracle of the tests of the local engines."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import transformers

FRAMES = 120
PROMPTS = ([5, 9, 44, 3, 1], [7, 23, 23, 8, 61, 12, 40, 33, 5, 2, 19, 1], [30, 1])  # token ids

# The config of a random model, where its entry in MODELS doesn't override it.
TEXT_CONFIG = {"vocab_size": 64, "d_model": 48, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 3}
DECODER_CONFIG = {
    "vocab_size": 256,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "ffn_dim": 96,
    "num_codebooks": 4,
    "audio_channels": 1,
    "initializer_factor": 0.7,
}
CODEC_CONFIG = {
    "sampling_rate": 16_000,
    "hidden_size": 24,
    "num_filters": 4,
    "upsampling_ratios": [5, 4],
    "codebook_size": 256,
    "kernel_size": 7,
    "last_kernel_size": 7,
    "num_residual_layers": 1,
    "num_lstm_layers": 2,
    "use_causal_conv": False,
    "use_conv_shortcut": False,
    "pad_mode": "reflect",
}
Config = dict[str, Any]

MODELS: dict[str, tuple[Config, Config, Config]] = {
    "as published": ({}, {}, {"upsampling_ratios": [8, 5, 4, 4]}),
    "stereo, causal, gated, equal widths": (
        {"d_model": 64, "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 16},
        {"num_codebooks": 8, "audio_channels": 2, "num_attention_heads": 2},
        {"use_causal_conv": True, "pad_mode": "constant", "num_residual_layers": 0, "num_lstm_layers": 1},
    ),
    "8 codebooks, replicating, 2 residual layers": (
        {"num_layers": 1, "num_heads": 5, "relative_attention_max_distance": 40},
        {"num_codebooks": 8, "num_attention_heads": 8, "num_hidden_layers": 2, "activation_function": "relu"},
        {
            "pad_mode": "replicate",
            "num_residual_layers": 2,
            "dilation_growth_rate": 3,
            "num_lstm_layers": 1,
            "use_conv_shortcut": True,
            "upsampling_ratios": [5, 3, 2],
            "kernel_size": 4,
        },
    ),
    "causal, reflecting, trimmed on both sides": (
        {"feed_forward_proj": "gelu"},
        {"hidden_size": 96, "num_attention_heads": 4, "vocab_size": 200, "num_hidden_layers": 1},
        {
            "use_causal_conv": True,
            "trim_right_ratio": 0.5,
            "num_residual_layers": 2,
            "compress": 4,
            "num_filters": 8,
            "upsampling_ratios": [2, 3],
            "sampling_rate": 6000,  # or there would be more frames a second than are supported
            "residual_kernel_size": 5,
        },
    ),
    "heads of 4, as in tiny models for tests": (
        {"num_heads": 4, "d_ff": 37},
        {"num_attention_heads": 16, "ffn_dim": 37},
        {"num_filters": 2, "compress": 1, "use_conv_shortcut": True, "upsampling_ratios": [7, 6]},
    ),
}

# Large enough that its logits differ as those of published models do.
LARGER: tuple[Config, Config, Config] = (
    {"vocab_size": 1000, "d_model": 256, "d_kv": 32, "d_ff": 1024, "num_layers": 4, "num_heads": 8},
    {"vocab_size": 2048, "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "ffn_dim": 2048}
    | {"initializer_factor": 0.05},
    {"codebook_size": 2048},
)


# Those of melody models, and the frames of a tune that they read.
MELODY_MODELS: dict[str, tuple[tuple[Config, Config, Config], int]] = {
    "as published": (MODELS["as published"], 235),
    "stereo, equal widths, a short tune": (MODELS["stereo, causal, gated, equal widths"], 20),
    "relu, a tune longer than 30 s": (MODELS["8 codebooks, replicating, 2 residual layers"], 300),
    "heads of 4": (MODELS["heads of 4, as in tiny models for tests"], 3),
}


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Silence transformers' warnings about configs, which don't concern these tests, and use one thread."""
    logger = logging.getLogger("transformers")
    before, threads = logger.level, torch.get_num_threads()
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)  # test processes share the cores
    yield
    torch.set_num_threads(threads)
    logger.setLevel(before)


def random_model(seed: int, text: Config, decoder: Config, codec: Config, *, chroma_length: int | None = None) -> Any:
    """
    Make a MusicgenForConditionalGeneration, or with a chroma length a melody model, with random weights.

    The configs override TEXT_CONFIG, DECODER_CONFIG and CODEC_CONFIG.
    """
    decoder, codec = {**DECODER_CONFIG, **decoder}, {**CODEC_CONFIG, **codec}
    rate = -(-codec["sampling_rate"] // int(np.prod(codec["upsampling_ratios"])))
    codebooks = decoder["num_codebooks"] // decoder["audio_channels"]
    kbit_s = codebooks * rate * int(np.log2(codec["codebook_size"])) / 1000
    special = {"pad_token_id": decoder["vocab_size"], "bos_token_id": decoder["vocab_size"]}
    parts = {
        "text_encoder": transformers.T5Config(**{**TEXT_CONFIG, **text}).to_dict(),
        "audio_encoder": transformers.EncodecConfig(**codec, target_bandwidths=[kbit_s + 1e-6]).to_dict(),
    }
    torch.manual_seed(seed)
    if chroma_length is None:
        decoder_config = transformers.MusicgenDecoderConfig(**decoder, **special).to_dict()
        model = transformers.MusicgenForConditionalGeneration(
            transformers.MusicgenConfig(**parts, decoder=decoder_config)
        ).eval()
    else:
        decoder_config = transformers.MusicgenMelodyDecoderConfig(**decoder, **special).to_dict()
        model = transformers.MusicgenMelodyForConditionalGeneration(
            transformers.MusicgenMelodyConfig(**parts, decoder=decoder_config, chroma_length=chroma_length)
        ).eval()
        model.audio_enc_to_dec_proj.bias.data.normal_()  # as a trained one has
        if hasattr(model, "enc_to_dec_proj"):
            model.enc_to_dec_proj.bias.data.normal_()
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()
    for key, value in {**special, "decoder_start_token_id": decoder["vocab_size"]}.items():
        setattr(model.generation_config, key, value)
    return model


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    scale: float,
    frames: int = FRAMES,
    *,
    sound: Any = None,
    codes: Any = None,
    tune: Any = None,
) -> tuple[Any, Any]:
    """
    Let transformers generate a greedy clip for each prompt; without prompts, one unconditional clip.

    A melody model takes one prompt at a time: it reads what fills up a shorter one.

    Args:
        frames: Of a clip; after `sound` or `codes`, if there are any.
        sound: What each clip goes on from, shape (channels, samples); needs prompts.
        codes: The same as codes, shape (clips, codebooks, frames).
        tune: What a melody model follows, shape (frames, 12).

    Returns:
        Codes, shape (clips, codebooks, frames), and samples, shape (clips, channels, samples).
    """
    codes_by_channel: list[Any] = []
    decode = model.audio_encoder.decode

    def record_codes(codes: Any, **others: Any) -> Any:
        codes_by_channel.append(codes[0].numpy())
        return decode(codes, **others)

    if prompts:
        longest = max(map(len, prompts))
        inputs = {
            "input_ids": torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in prompts]),
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in prompts]),
            "guidance_scale": scale,
        }
    else:
        inputs = unconditional_inputs(model)
    if tune is not None:
        inputs["input_features"] = torch.tensor(tune)[None]
    if sound is not None:
        inputs["input_values"] = torch.tensor(sound)[None].repeat(len(prompts), 1, 1)
    if codes is not None:
        inputs["decoder_input_ids"] = torch.tensor(codes.reshape(-1, codes.shape[2]))
    decoder = model.config.decoder
    steps = frames + decoder.num_codebooks // decoder.audio_channels - 1
    model.audio_encoder.decode = record_codes
    try:
        samples = model.generate(**inputs, do_sample=False, max_new_tokens=steps)
    finally:
        model.audio_encoder.decode = decode
    made = np.empty((len(samples), decoder.num_codebooks, codes_by_channel[0].shape[-1]), np.int64)
    for channel, part in enumerate(codes_by_channel):
        made[:, channel :: len(codes_by_channel)] = part
    return made, samples.numpy()


def greedy_samples(model: Any, ids: Sequence[int], scale: float, steps: int, *, tune: Any = None) -> Any:
    """
    Let transformers generate a greedy clip of so many new tokens, as its own tests do.

    Returns:
        Samples, shape (channels, samples).
    """
    inputs = {"input_ids": torch.tensor([ids]), "guidance_scale": scale} if ids else unconditional_inputs(model)
    if tune is not None:
        inputs["input_features"] = torch.tensor(tune)[None]
    samples = model.generate(**inputs, do_sample=False, max_new_tokens=steps)[0]
    return samples.numpy().reshape(model.config.decoder.audio_channels, -1)


def unconditional_inputs(model: Any) -> dict[str, Any]:
    """Return what a model gets without a prompt; for a melody model it is what its processor makes of an empty one."""
    if isinstance(model, transformers.MusicgenForConditionalGeneration):
        return dict(model.get_unconditional_inputs(1))
    return {"input_ids": torch.tensor([[1]]), "attention_mask": torch.tensor([[0]]), "guidance_scale": 1.0}


def logits_of(model: Any, ids: Sequence[int], tokens: Any) -> Any:
    """
    Let transformers compute the logits of both rows of a guided clip.

    Args:
        tokens: Of the conditional and of the unconditional row, shape (2, codebooks, positions).

    Returns:
        Shape (2, codebooks, positions, vocabulary).
    """
    mask = torch.tensor([[1] * len(ids), [0] * len(ids)])  # the text states of the second row become zero
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor([ids, ids]),
            attention_mask=mask,
            decoder_input_ids=torch.tensor(tokens.reshape(-1, tokens.shape[2])),
        ).logits.numpy()
    return logits.reshape(*tokens.shape, -1)


def samples_of(model: Any, codes: Any) -> Any:
    """Decode codes with one of our models, frame by frame."""
    stream = model.audio_stream()
    return np.concatenate([*(stream.push(codes[:, [t]]) for t in range(codes.shape[1])), stream.end()], axis=1)


# How far samples of nano may be from those of transformers, relative to their peak. The oscillators of its codec go on
# for up to 40 s, so that what ONNX Runtime's LSTM rounds adds up: from float64 it is 8e-5 away, torch's 5e-6.
NANO_SAMPLES = 2e-4


def relative_to_peak(actual: Any, expected: Any) -> float:
    """Return the largest difference between samples, relative to the largest sample."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def num_distinct(codes: Any) -> int:
    """Return the number of different codes in a clip; the same number in another codebook is another code."""
    return len({(k, int(code)) for k, row in enumerate(codes) for code in row})

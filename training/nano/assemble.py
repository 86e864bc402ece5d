"""Writes the folder of a checkpoint from the state of a training: weights, tokenizer, configs and model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import EncodecFeatureExtractor, GenerationConfig, MusicgenProcessor

from training.nano import model, tokenizer
from training.nano.codec import SAMPLE_RATE
from training.nano.plan import INSTRUMENTS
from training.nano.pulse import BEAT_FRAMES
from training.nano.styles import GENRES, MOODS
from training.nano.train import STATE
from training.nano.words import CONCEPTS, forms

# 1 / temperature of each stream, multiplied into the output heads, so that temperature 1 is the right one.
SHARPNESS = (1.5, 1.25, 1.25, 1.0)
MAX_BYTES = 30_000_000

_CARD = """---
license: mit
pipeline_tag: text-to-audio
---
# nano: a small MusicGen checkpoint

A complete `MusicgenForConditionalGeneration` checkpoint: T5 text encoder, MusicGen decoder and EnCodec; 32 kHz mono, 4
codebooks, 50 frames per second. Its codec is a small synthesiser, and its decoder is trained on pieces that a program
composed. No recording, sample, soundfont or third-party weight was used.

    from transformers import AutoProcessor, MusicgenForConditionalGeneration
    processor = AutoProcessor.from_pretrained(DIR)
    model = MusicgenForConditionalGeneration.from_pretrained(DIR)      # loads in float32
    inputs = processor(text=["calm ambient piano"], padding=True, return_tensors="pt")
    audio = model.generate(**inputs, do_sample=True, guidance_scale=3.0, max_new_tokens=503)  # 10 s

A prompt can name {genres} genres, {moods} moods, {tempi} tempi from 60 to 176 beats per minute, 24 keys and \
{instruments} instruments, and exclude
or single out instruments with `no …` and `solo …`. A `jingle` comes to an end, a `drone` has one chord. The \
vocabulary has {words} forms of words; all others
mean nothing, but the letters of a prompt decide what its words leave open, such as the key. The model was trained
for {steps} steps by `training/nano` in the project's repository; the NOTES.md there describes how.

The codec's encoder is zero, so audio prompts have no effect. Keep the codec in float32: its signal is small.
"""


def assemble(run: Path, out: Path, *, sharpness: Sequence[float] = SHARPNESS) -> None:
    """
    Write the checkpoint of a run, with the running average of its weights.

    Args:
        sharpness: What the logits of each stream are multiplied with.

    Raises:
        ValueError: The state lacks weights, or the checkpoint is larger than MAX_BYTES.
    """
    state = torch.load(run / STATE, weights_only=True)
    musicgen = model.build(len(CONCEPTS))
    weights = state["average"]
    missing = set(model.learned(musicgen)) - set(weights)
    if missing:
        raise ValueError(f"{run / STATE} has no {sorted(missing)[0]}")
    musicgen.load_state_dict(weights, strict=False)
    with torch.no_grad():
        for head, factor in zip(musicgen.decoder.lm_heads, sharpness, strict=True):
            head.weight.mul_(factor)
    musicgen.config.decoder_start_token_id = model.PAD
    musicgen.generation_config = GenerationConfig(
        do_sample=True,
        guidance_scale=3.0,
        max_length=503,
        bos_token_id=model.PAD,
        pad_token_id=model.PAD,
        decoder_start_token_id=model.PAD,
    )
    fast_tokenizer = tokenizer.build()
    musicgen.half().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # safetensors makes it readable for its owner alone
    extractor = EncodecFeatureExtractor(feature_size=1, sampling_rate=SAMPLE_RATE, padding_value=0.0)
    MusicgenProcessor(extractor, fast_tokenizer).save_pretrained(out)
    _set_float32(out / "config.json")
    (out / "README.md").write_text(model_card(steps=state["step"], words=len(forms())))
    size = sum(path.stat().st_size for path in out.iterdir())
    print(
        f"{out}: {size / 1e6:.2f} MB, {len(forms())} forms of words for {len(CONCEPTS)} concepts, {state['step']} steps"
    )
    if size > MAX_BYTES:
        raise ValueError(f"{out} has {size} bytes, more than {MAX_BYTES}")


def _set_float32(path: Path) -> None:
    """Let the config request float32, which the codec needs, although the weights are stored in float16."""

    def with_float32(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return {key: "float32" if key == "dtype" and value else with_float32(value) for key, value in part.items()}

    path.write_text(json.dumps(with_float32(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")


def model_card(*, steps: int, words: int) -> str:
    """Return the README of a checkpoint that was trained for some steps and knows some words."""
    return _CARD.format(
        genres=len(GENRES),
        moods=len(MOODS),
        tempi=len(BEAT_FRAMES),
        instruments=len(INSTRUMENTS),
        words=words,
        steps=steps,
    )

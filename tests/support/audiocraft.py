"""
Models as audiocraft saves them: its names of tensors, and the configurations of its trainings.

The members are those of audiocraft's config/ that MusicGen and its codec have, with OmegaConf's references in them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Config = Mapping[str, Any]
Weights = dict[str, Any]  # numpy's arrays, or torch's tensors

_TRAINING = """\
sample_rate: {rate}
channels: {channels}
compression_model_checkpoint: //pretrained/facebook/encodec_32khz
interleave_stereo_codebooks:
  use: {stereo}
  per_timestep: false
lm_model: transformer_lm
codebooks_pattern:
  modeling: delay
  delay:
    delays: {delays}
    flatten_first: 0
    empty_initial: 0
transformer_lm:
  dim: {width}
  num_heads: {heads}
  num_layers: {layers}
  hidden_scale: 4
  n_q: {codebooks}
  card: {codes}
  activation: gelu
  norm_first: true
  positional_embedding: sin
  kv_repeat: 1
classifier_free_guidance:
  training_dropout: 0.3
  inference_coef: 3.0
conditioners:
  description:
    model: t5
    t5:
      name: t5-base
      finetune: false
      word_dropout: 0.3
"""
_TUNES = """\
  self_wav:
    model: chroma_stem
    chroma_stem:
      sample_rate: ${sample_rate}
      n_chroma: 12
      radix2_exp: 14
      argmax: true
      match_len_on_eval: false
      eval_wavs: null
dataset:
  segment_duration: 30
fuser:
  cross_attention_pos_emb: false
  sum: []
  prepend: [self_wav, description]
  cross: []
"""
_CODEC_TRAINING = """\
sample_rate: {rate}
channels: 1
compression_model: encodec
encodec:
  autoencoder: seanet
  quantizer: rvq
  sample_rate: ${{sample_rate}}
  channels: ${{channels}}
  causal: {causal}
  renormalize: false
seanet:
  dimension: {width}
  channels: ${{channels}}
  causal: ${{encodec.causal}}
  n_filters: {filters}
  n_residual_layers: {residual_layers}
  ratios: {ratios}
  norm: weight_norm
  kernel_size: {kernel}
  residual_kernel_size: 3
  last_kernel_size: {last_kernel}
  dilation_base: 2
  pad_mode: {pad_mode}
  true_skip: {true_skip}
  compress: 2
  lstm: {lstm}
  decoder:
    trim_right_ratio: 1.0
    final_activation: null
  encoder: {{}}
rvq:
  n_q: 4
  q_dropout: false
  bins: {codes}
"""


def training(config: Config) -> str:
    """Return the configuration with which a language model was trained, given its config.json."""
    decoder, codec = config["decoder"], config["audio_encoder"]
    channels = decoder.get("audio_channels", 1)
    text = _TRAINING.format(
        rate=codec["sampling_rate"],
        channels=channels,
        stereo=str(channels == 2).lower(),
        delays=[k // channels for k in range(decoder["num_codebooks"])],
        width=decoder["hidden_size"],
        heads=decoder["num_attention_heads"],
        layers=decoder["num_hidden_layers"],
        codebooks=decoder["num_codebooks"],
        codes=decoder["vocab_size"],
    )
    return text + _TUNES if config["model_type"] == "musicgen_melody" else text


def codec_training(config: Config) -> str:
    """Return the configuration with which a codec was trained, given the config.json of the model that has it."""
    codec = config["audio_encoder"]
    return _CODEC_TRAINING.format(
        rate=codec["sampling_rate"],
        width=codec["hidden_size"],
        filters=codec["num_filters"],
        ratios=list(codec["upsampling_ratios"]),
        codes=codec["codebook_size"],
        causal=str(codec["use_causal_conv"]).lower(),
        residual_layers=codec["num_residual_layers"],
        kernel=codec["kernel_size"],
        last_kernel=codec["last_kernel_size"],
        pad_mode=codec["pad_mode"],
        true_skip=str(not codec["use_conv_shortcut"]).lower(),
        lstm=codec["num_lstm_layers"],
    )


def package(state: Weights, configuration: str) -> dict[str, Any]:
    """Return what audiocraft's export saves."""
    return {"best_state": state, "xp.cfg": configuration, "version": "1.3.0", "exported": True}


def pointer(repository: str) -> dict[str, Any]:
    """Return what its export saves of a codec that is somewhere else."""
    return {"pretrained": repository, "exported": True, "version": "1.3.0"}


def decoder_state(weights: Mapping[str, Any], concatenate: Callable[[Sequence[Any]], Any]) -> Weights:
    """Return the language model's weights under audiocraft's names, with queries, keys and values in one matrix."""
    state: Weights = {}
    for name, values in weights.items():
        if name.startswith("enc_to_dec_proj."):
            state[name.replace("enc_to_dec_proj", "condition_provider.conditioners.description.output_proj")] = values
        if name.startswith("audio_enc_to_dec_proj."):
            tunes = "condition_provider.conditioners.self_wav"
            state[name.replace("audio_enc_to_dec_proj", f"{tunes}.output_proj")] = values
            state[f"{tunes}.chroma.spec.window"] = values[..., :1]
        if not name.startswith("decoder.") or "embed_positions" in name:
            continue
        short = name.removeprefix("decoder.").replace("model.decoder.layers", "transformer.layers")
        for ours, theirs in (
            ("model.decoder.embed_tokens", "emb"), ("model.decoder.layer_norm", "out_norm"), ("lm_heads", "linears"),
            ("self_attn_layer_norm", "norm1"), ("encoder_attn_layer_norm", "norm_cross"), ("final_layer_norm", "norm2"),
            ("encoder_attn.", "cross_attention."), ("fc1", "linear1"), ("fc2", "linear2"),
        ):  # fmt: skip
            short = short.replace(ours, theirs)
        if match := re.fullmatch(r"(.+)\.([qkv])_proj\.weight", short):
            if match[2] == "q":
                parts = [weights[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
                state[f"{match[1]}.in_proj_weight"] = concatenate(parts)
            continue
        state[short] = values
    return state


def codec_state(weights: Mapping[str, Any], config: Config) -> Weights:
    """Return the codec's weights under audiocraft's names, given the config.json of the model."""
    codec = config["audio_encoder"]
    step = 2 + codec["num_residual_layers"]
    transposed = {3 + step * number for number in range(len(codec["upsampling_ratios"]))}
    state: Weights = {}
    for name, values in weights.items():
        if not name.startswith("audio_encoder."):
            continue
        short = name.removeprefix("audio_encoder.")
        short = re.sub(r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook.", short)
        short = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", short)
        layer = re.match(r"decoder\.model\.(\d+)\.conv\.", short)
        is_transposed = layer is not None and int(layer[1]) in transposed
        state[short.replace(".conv.", ".convtr.convtr." if is_transposed else ".conv.conv.")] = values
    return state

"""
MusicGen on OpenVINO, for `benchmarks.engine`, as somebody would build it today.

The decoder step has a stateful KV cache, 8-bit weights (`nncf.compress_weights`) and OpenVINO's own defaults for the
rest: activations quantised in groups and an 8-bit KV cache, where the processor has the instructions. Keys and values
of cross-attention are computed once for each prompt. All clips of a call run in step from the first position to the
last, so nothing of a scheduler's work is in its time.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.engine_worker import GUIDANCE, TOP_K, TOP_P, Answer, peak_memory, serve
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.engine import hardware
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, num_frames, num_samples
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.sequence import Sequence


class OpenVino:
    """The three parts of the model, compiled."""

    def __init__(self, model: str, folder: str, duration: str) -> None:
        """
        Load the model.

        Args:
            model: Folder of the checkpoint.
            folder: Where the converted parts are kept for the next time.
            duration: Of the clips, in seconds: EnCodec is converted for a fixed number of frames.
        """
        import openvino as ov

        self._shape = Shape.of(json.loads((Path(model) / "config.json").read_text("utf-8")))
        codec_shape = self._shape.codec
        frames = num_frames(num_samples(float(duration), codec_shape.rate), codec_shape.hop)
        files = convert(model, Path(folder), frames)
        self._core = ov.Core()
        self._text, self._step = (self._compiled(path) for path in files[:2])
        self._step_requests: dict[int, Any] = {}  # by rows: one that had another number of rows can return NaN
        self._codec_model, self._frames = self._core.read_model(files[2]), frames
        self._tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
        self._tokenizer.enable_padding()

    def clips(self, prompts: list[str]) -> Answer:
        """Make a clip of each prompt, all at once."""
        decoder = self._shape.decoder
        pattern = DelayPattern(decoder.codebooks, decoder.channels, self._frames)
        self._codec_model.reshape([len(prompts), decoder.codebooks, self._frames])
        codec = self._compiled(self._codec_model)
        started = time.perf_counter()
        encoded = self._tokenizer.encode_batch(prompts)
        mask = np.array([text.attention_mask for text in encoded], np.int64)
        cross = self._text({"ids": np.array([text.ids for text in encoded], np.int64), "mask": mask})
        n = len(prompts)
        conditioning = {
            name: np.concatenate([values, np.zeros_like(values)])
            for name, values in zip(_cross_names(decoder.layers), cross.values(), strict=True)
        }
        bias = np.where(np.concatenate([mask, mask])[:, None, None, :] > 0, 0, -np.inf).astype(np.float32)
        sequences = [
            Sequence(pattern, Sampling(1.0, TOP_K, TOP_P, GUIDANCE, do_sample=True, seed=i), vocab=decoder.vocab)
            for i in range(n)
        ]
        step = self._step_requests.setdefault(2 * n, self._step.create_infer_request())
        step.reset_state()
        inputs = {"mask": bias, "beam_idx": np.arange(2 * n, dtype=np.int32), **conditioning}
        steps_started = time.perf_counter()
        for position in range(pattern.steps):
            tokens = np.stack([sequence.tokens[0] for sequence in sequences])
            inputs["tokens"] = np.concatenate([tokens, tokens])
            inputs["position"] = np.array([position], np.int64)
            step.infer(inputs, share_inputs=True)
            logits = step.get_output_tensor(0).data
            for i, sequence in enumerate(sequences):
                sequence.advance(logits[[i, n + i]])
        step_s = (time.perf_counter() - steps_started) / pattern.steps
        codec({"codes": np.stack([sequence.codes for sequence in sequences])})
        return {"seconds": time.perf_counter() - started, "steps": pattern.steps, "step_s": step_s}

    def _compiled(self, model: Any) -> Any:
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": hardware.cores()}
        return self._core.compile_model(model, "CPU", options)

    def peak(self) -> Answer:
        """Return the peak memory of this process."""
        return peak_memory()


def _cross_names(layers: int) -> list[str]:
    return [f"cross_{part}.{i}" for i in range(layers) for part in ("key", "value")]


def convert(model: str, folder: Path, frames: int) -> tuple[Path, Path, Path]:
    """
    Convert what of a checkpoint isn't in the folder yet: 8-bit text encoder and decoder step, float32 codec.

    Returns:
        The files of the three.
    """
    text, step, codec = (folder / name for name in ("text.xml", "step.xml", f"codec-{frames}.xml"))
    if all(path.exists() for path in (text, step, codec)):
        return text, step, codec
    import nncf
    import openvino as ov
    import torch
    from transformers import MusicgenForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    source: Any = MusicgenForConditionalGeneration.from_pretrained(model).eval()
    with torch.no_grad():
        if not codec.exists():
            ov.save_model(_codec(source, frames), codec, compress_to_fp16=False)
        if not text.exists():
            ov.save_model(nncf.compress_weights(_text(source)), text, compress_to_fp16=False)
        if not step.exists():
            mode = nncf.CompressWeightsMode.INT8_SYM
            ov.save_model(nncf.compress_weights(_step(source), mode=mode), step, compress_to_fp16=False)
    return text, step, codec


def _heads(values: Any, heads: int) -> Any:
    """Split the last axis: shape (rows, heads, positions, head width)."""
    return values.view(values.shape[0], -1, heads, values.shape[-1] // heads).transpose(1, 2)


def _text(source: Any) -> Any:
    """Convert the text encoder with the keys and values of all layers' cross-attention."""
    import openvino as ov
    import torch

    heads = source.config.decoder.num_attention_heads

    class Text(torch.nn.Module):  # type: ignore[misc]  # mypy doesn't read torch
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.project = source.text_encoder, source.enc_to_dec_proj
            self.layers = source.decoder.model.decoder.layers

        def forward(self, ids: Any, mask: Any) -> Any:
            states = self.project(self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state) * mask[..., None]
            projections = [p for layer in self.layers for p in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)]
            return tuple(_heads(project(states), heads) for project in projections)

    ids = torch.ones(2, 5, dtype=torch.long)
    return ov.convert_model(Text(), example_input={"ids": ids, "mask": ids})


def _codec(source: Any, frames: int) -> Any:
    """Convert EnCodec's decoder for clips of `frames` frames; the padding of its convolutions depends on it."""
    import openvino as ov
    import torch

    class Codec(torch.nn.Module):  # type: ignore[misc]  # mypy doesn't read torch
        def __init__(self) -> None:
            super().__init__()
            self.codec = source.audio_encoder

        def forward(self, codes: Any) -> Any:
            return self.codec.decoder(self.codec.quantizer.decode(codes.transpose(0, 1)))

    example = torch.zeros(2, source.config.decoder.num_codebooks, frames, dtype=torch.long)
    codec = ov.convert_model(Codec(), example_input=example)
    codec.inputs[0].get_tensor().set_names({"codes"})
    return codec


def _step(source: Any) -> Any:
    """Convert one decoder step, with a KV cache that OpenVINO keeps from call to call."""
    import openvino as ov
    import torch
    from openvino._offline_transformations import apply_make_stateful_transformation

    config = source.config.decoder
    layers, heads, codebooks = config.num_hidden_layers, config.num_attention_heads, config.num_codebooks
    head_width = config.hidden_size // heads

    class Step(torch.nn.Module):  # type: ignore[misc]  # mypy doesn't read torch
        def __init__(self) -> None:
            super().__init__()
            decoder = source.decoder.model.decoder
            self.embed, self.layers, self.norm = decoder.embed_tokens, decoder.layers, decoder.layer_norm
            self.heads = source.decoder.lm_heads
            self.register_buffer("positions", decoder.embed_positions.weights.clone())

        def forward(self, tokens: Any, position: Any, mask: Any, beam_idx: Any, cross: Any, past: Any) -> Any:
            attend = torch.nn.functional.scaled_dot_product_attention
            x = sum(embed(tokens[:, k]) for k, embed in enumerate(self.embed)) + self.positions[position]
            x = x[:, None]
            caches = []
            for i, layer in enumerate(self.layers):
                h, own = layer.self_attn_layer_norm(x), layer.self_attn
                query, key, value = (_heads(linear(h), heads) for linear in (own.q_proj, own.k_proj, own.v_proj))
                # OpenVINO recognises a KV cache by the reordering of its rows for beam search.
                key = torch.cat([past[2 * i].index_select(0, beam_idx), key], dim=2)
                value = torch.cat([past[2 * i + 1].index_select(0, beam_idx), value], dim=2)
                caches += [key, value]
                x = x + own.out_proj(attend(query, key, value).transpose(1, 2).reshape(h.shape))
                query = _heads(layer.encoder_attn.q_proj(layer.encoder_attn_layer_norm(x)), heads)
                attended = attend(query, cross[2 * i], cross[2 * i + 1], attn_mask=mask)
                x = x + layer.encoder_attn.out_proj(attended.transpose(1, 2).reshape(h.shape))
                x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
            x = self.norm(x)[:, 0]
            return torch.stack([linear(x) for linear in self.heads], dim=1), *caches

    rows, words = 4, 5
    example = {
        "tokens": torch.zeros(rows, codebooks, dtype=torch.long),
        "position": torch.zeros(1, dtype=torch.long),
        "mask": torch.zeros(rows, 1, 1, words),
        "beam_idx": torch.arange(rows, dtype=torch.int32),
        "cross": [torch.zeros(rows, heads, words, head_width) for _ in range(2 * layers)],
        "past": [torch.zeros(rows, heads, 3, head_width) for _ in range(2 * layers)],
    }
    step = ov.convert_model(Step(), example_input=example)
    pasts = [f"past.{i}" for i in range(2 * layers)]
    names = ["tokens", "position", "mask", "beam_idx", *_cross_names(layers), *pasts]
    dims = [[-1, codebooks], [1], [-1, 1, 1, -1], [-1], *[[-1, heads, -1, head_width]] * (4 * layers)]
    for parameter, name, shape in zip(step.inputs, names, dims, strict=True):
        parameter.get_tensor().set_names({name})
        parameter.get_node().set_partial_shape(ov.PartialShape(shape))
    for number, output in enumerate(step.outputs):
        output.get_tensor().set_names({"logits" if number == 0 else f"present.{number - 1}"})
    step.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(step, {name: f"present.{i}" for i, name in enumerate(pasts)})
    _start_empty(step, heads, head_width)
    return step


def _start_empty(step: Any, heads: int, head_width: int) -> None:
    """Let every KV cache start with the batch's rows and no position."""
    from openvino import opset13

    rows = opset13.gather(
        opset13.shape_of(step.input("beam_idx").get_node().output(0), output_type="i64"),
        opset13.constant([0], np.int64),
        opset13.constant(0, np.int64),
    )
    rest = [opset13.constant([size], np.int64) for size in (heads, 0, head_width)]
    empty = opset13.broadcast(opset13.constant(0.0, np.float32), opset13.concat([rows, *rest], axis=0))
    for node in step.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([empty.output(0)])
    step.validate_nodes_and_infer_types()


if __name__ == "__main__":
    serve({"openvino": OpenVino})

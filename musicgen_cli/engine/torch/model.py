"""The text encoder, the decoder and the codec in PyTorch, with weights that transformers loads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import linear
from torch.nn.utils import parametrize
from transformers import (
    MusicgenConfig,
    MusicgenForConditionalGeneration,
    MusicgenMelodyConfig,
    MusicgenMelodyForConditionalGeneration,
)
from transformers.utils import logging

from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.stored_tensor import DOWNLOAD_AGAIN
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine import hardware
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.prefix import pitch_vectors
from musicgen_cli.engine.torch.decoder import TEXT_PAGE, Conditioning, DecoderWeights, TorchDecoder
from musicgen_cli.engine.torch.device import ExclusiveDevice, exact_cudnn
from musicgen_cli.errors import CheckpointError, short_reason


class TorchModel:
    """The parts of one model on their device. The text encoder and the codec are always float32."""

    def __init__(self, checkpoint: Checkpoint, shape: Shape, device: torch.device, dtype: torch.dtype) -> None:
        """
        Load them.

        Args:
            dtype: Of the decoder.

        Raises:
            CheckpointError: transformers can't read the checkpoint, or weights are missing.
            EngineError: PyTorch can't move it to the device.
        """
        self._shape, self.device = shape, ExclusiveDevice(device)
        self.pitch_vectors: FloatArray | None = None
        if not shape.decoder.has_cross_attention:
            self.pitch_vectors = pitch_vectors(shape.decoder, checkpoint.tensors())
        model = _load(checkpoint, shape)
        with self.device.computing("load the model"):
            self._text_encoder = model.text_encoder.to(device)
            self._projection = model.enc_to_dec_proj.to(device) if shape.projected else torch.nn.Identity()
            # Compute the weights from their weight norm parametrization once, not for every chunk of audio.
            for module in model.audio_encoder.decoder.modules():
                if parametrize.is_parametrized(module):
                    parametrize.remove_parametrizations(module, "weight")
            self._quantizer = model.audio_encoder.quantizer.to(device)
            self._first_convolution, lstm, *self._after_lstm = model.audio_encoder.decoder.layers.to(device)
            self._lstm = lstm.lstm
            decoder = model.decoder.model.decoder.to(device, dtype)
            for layer in decoder.layers:  # one matrix product instead of three
                attention = layer.self_attn
                attention.qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
                del attention.q_proj, attention.k_proj, attention.v_proj
            self._decoder = DecoderWeights(
                dtype=dtype,
                embeddings=decoder.embed_tokens,
                layers=decoder.layers,
                norm=decoder.layer_norm,
                position_embeddings=decoder.embed_positions.get_embedding,
                heads=torch.cat([head.weight for head in model.decoder.lm_heads]).to(device, dtype),
            )

    def encode_text(self, ids: list[int]) -> Conditioning:
        """Encode the prompt, given as token ids, once into cross-attention keys and values."""
        shape, device, pages = self._shape.decoder, self.device.torch_device, -(-len(ids) // TEXT_PAGE)

        def paged(weight: torch.Tensor) -> torch.Tensor:
            projected: torch.Tensor = linear(states, weight).view(pages, TEXT_PAGE, shape.heads, shape.head_width)
            return projected.transpose(1, 2)

        with self.device.computing("encode the prompt"):
            states = torch.zeros(pages * TEXT_PAGE, shape.width, dtype=self._decoder.dtype, device=device)
            states[: len(ids)] = self._encoded(ids)
            mask = torch.zeros(pages * TEXT_PAGE, device=device)
            mask[len(ids) :] = -torch.inf
            cross_attention = [layer.encoder_attn for layer in self._decoder.layers]
            return Conditioning(
                torch.stack([paged(attention.k_proj.weight) for attention in cross_attention]),
                torch.stack([paged(attention.v_proj.weight) for attention in cross_attention]),
                mask.view(pages, 1, TEXT_PAGE),
            )

    def text_states(self, ids: list[int]) -> FloatArray:
        """Encode the prompt of a melody model into the vectors of its tokens, shape ``(tokens, width)``."""
        with self.device.computing("encode the prompt"):
            states: FloatArray = self._encoded(ids).cpu().numpy()
            return states

    def _encoded(self, ids: list[int]) -> torch.Tensor:
        tokens = torch.tensor([ids], device=self.device.torch_device)
        states: torch.Tensor = self._projection(self._text_encoder(input_ids=tokens).last_hidden_state)[0]
        return states

    def decoder(self, *, rows: int, steps: int) -> TorchDecoder:
        """Return a decoder with a KV cache of `rows` rows, each with room for a prefix and `steps` steps."""
        shape = self._shape.decoder
        return TorchDecoder(self._decoder, shape, self.device, rows=rows, positions=shape.prefix_positions + steps)

    def audio_stream(self) -> AudioStream:
        """Return the codec decoder of one clip, which turns codes into samples while more codes come."""
        return AudioStream.of(self, self._shape)

    def run_codec_lstm(
        self, codes: IntArray, start: int, end: int, lstm_state: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Continue through the LSTM; see `audio_stream.Codec`."""
        device = self.device.torch_device
        with self.device.computing("decode the codes"), exact_cudnn():
            by_codebook = torch.from_numpy(np.ascontiguousarray(codes)).to(device).transpose(0, 1)
            x = self._first_convolution(self._quantizer.decode(by_codebook))[:, :, start:end].permute(2, 0, 1)
            state = torch.from_numpy(lstm_state).to(device)  # of each layer the hidden state, then the cell state
            y, (hidden, cell) = self._lstm(x, (state[0::2].contiguous(), state[1::2].contiguous()))
            features: FloatArray = (y + x).permute(1, 2, 0).cpu().numpy()
            new_state: FloatArray = torch.stack([hidden, cell], 1).flatten(0, 1).cpu().numpy()
            return features, new_state

    def run_codec_decoder(self, features: FloatArray) -> FloatArray:
        """Decode features into samples; see `audio_stream.Codec`."""
        with self.device.computing("decode the codes"), exact_cudnn():
            x = torch.from_numpy(features).to(self.device.torch_device)
            for layer in self._after_lstm:
                x = layer(x)
            samples: FloatArray = x[:, 0].cpu().numpy()
            return samples


def _load(checkpoint: Checkpoint, shape: Shape) -> Any:
    """Load a checkpoint with transformers, in float32, as its parts can't be loaded in different dtypes."""
    model_class: Any = MusicgenMelodyForConditionalGeneration
    config_class: Any = MusicgenMelodyConfig
    if shape.decoder.has_cross_attention:
        model_class, config_class = MusicgenForConditionalGeneration, MusicgenConfig
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        if checkpoint.is_safetensors:
            source: dict[str, Any] = {"pretrained_model_name_or_path": checkpoint.directory, "use_safetensors": True}
        else:  # pickle isn't for PyTorch to load, and what is put together of several files is nothing it knows
            config = config_class.from_dict(dict(checkpoint.config))
            source = {"pretrained_model_name_or_path": None, "config": config, "state_dict": _state_dict(checkpoint)}
        model, report = model_class.from_pretrained(
            **source, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as err:
        raise CheckpointError(f"transformers can't load {checkpoint.name}: {short_reason(err)}") from err
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    # transformers initialises missing weights at random and goes on.
    if missing := sorted(name for name in report["missing_keys"] if name.startswith(hardware.USED_WEIGHTS)):
        raise CheckpointError(f"the checkpoint has no tensor {missing[0]!r}", hint=DOWNLOAD_AGAIN)
    return model.eval()


def _state_dict(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Read the weights that engines use, in float32, under the names of transformers."""
    tensors = checkpoint.tensors()
    return {
        name: torch.from_numpy(tensors.read(name, *shape))
        for name, shape in tensors.shapes.items()
        if name.startswith(hardware.USED_WEIGHTS)
    }

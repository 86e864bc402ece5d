"""EnCodec's encoder in PyTorch, which is only loaded when a sound is to be encoded."""

from __future__ import annotations

import torch
from transformers import EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecEncoder

from musicgen_cli.checkpoint.audio_encoder import has_audio_encoder
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.sound_encoder import encode_sound
from musicgen_cli.engine.torch.device import ExclusiveDevice, exact_cudnn
from musicgen_cli.errors import CheckpointError, short_reason

_PREFIX = "audio_encoder.encoder."
_OLD_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


class TorchSoundEncoder:
    """A `decoding.sound_encoder.SoundEncoder`; between two sounds, its weights are on disk alone."""

    def __init__(self, checkpoint: Checkpoint, shape: Shape, device: ExclusiveDevice) -> None:
        self._checkpoint, self._shape, self._device = checkpoint, shape, device

    @property
    def is_available(self) -> bool:
        """Whether the model has an audio encoder."""
        return has_audio_encoder(self._checkpoint)

    def encode(self, samples: FloatArray) -> IntArray:
        """
        Encode a sound; see `decoding.sound_encoder.encode_sound`.

        Raises:
            CheckpointError: The checkpoint lacks a tensor, or has one that can't be used.
            EngineError: PyTorch can't run it.
        """
        return encode_sound(_Loaded(self._checkpoint, self._shape, self._device), self._shape.codec, samples)


class _Loaded:
    """The encoder and the codebooks on their device: a `decoding.sound_encoder.CodecEncoder`."""

    def __init__(self, checkpoint: Checkpoint, shape: Shape, device: ExclusiveDevice) -> None:
        self._device = device
        tensors, decoder, codec = checkpoint.tensors(), shape.decoder, shape.codec
        encoder = EncodecEncoder(EncodecConfig(**checkpoint.config["audio_encoder"])).eval()
        weights = {}
        for name, dims in tensors.shapes.items():
            if name.startswith(_PREFIX):
                stem, _, last = name.removeprefix(_PREFIX).rpartition(".")
                weights[f"{stem}.{_OLD_NAMES.get(last, last)}"] = torch.from_numpy(tensors.read(name, *dims))
        try:
            encoder.load_state_dict(weights)
        except RuntimeError as err:
            raise CheckpointError(f"the audio encoder can't be loaded: {short_reason(err)}") from err
        codebooks = [
            torch.from_numpy(
                tensors.read(f"audio_encoder.quantizer.layers.{k}.codebook.embed", codec.codes, codec.width)
            )
            for k in range(decoder.codebooks // decoder.channels)
        ]
        first_of_lstm = 1 + len(codec.strides) * (codec.residual_layers + 2)
        with device.computing("load the audio encoder"):
            layers = encoder.to(device.torch_device).layers
            self._before_lstm, self._after_lstm = layers[:first_of_lstm], layers[first_of_lstm:]
            self._codebooks = [vectors[: decoder.vocab].to(device.torch_device) for vectors in codebooks]

    def run_codec_encoder(self, samples: FloatArray) -> FloatArray:
        with self._device.computing("encode the sound"), exact_cudnn():
            x = torch.from_numpy(samples).to(self._device.torch_device)[:, None]
            for layer in self._before_lstm:
                x = layer(x)
            features: FloatArray = x.cpu().numpy()
            return features

    def run_codec_quantizer(self, features: FloatArray) -> IntArray:
        with self._device.computing("encode the sound"), exact_cudnn():
            x = torch.from_numpy(features).to(self._device.torch_device)
            for layer in self._after_lstm:
                x = layer(x)
            left, codes = x.mT, []  # what no codebook has approximated yet
            for vectors in self._codebooks:
                # The nearest vector v minimises |x|² - 2 x·v + |v|², of which |x|² is the same for all.
                codes.append((2 * left @ vectors.T - vectors.square().sum(1)).argmax(-1))
                left = left - vectors[codes[-1]]
            numbers: IntArray = torch.stack(codes, 1).cpu().numpy()
            return numbers

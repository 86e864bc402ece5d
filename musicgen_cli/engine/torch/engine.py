"""The engine on PyTorch, on a GPU or on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from musicgen_cli import limits
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import Origin
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.local import LocalEngine
from musicgen_cli.engine.torch.decoder import BLOCK_ROWS, PAGE, TEXT_PAGE, Conditioning
from musicgen_cli.engine.torch.device import select_device
from musicgen_cli.engine.torch.model import TorchModel
from musicgen_cli.engine.torch.sound_encoder import TorchSoundEncoder
from musicgen_cli.errors import ModelAbsentError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

_PROCESS_BYTES = 600_000_000  # Python, torch, transformers, and decoding a chunk of audio
_DEVICE_BYTES = 800_000_000  # CUDA, the workspaces of its libraries, and decoding a chunk of audio; not measured


class TorchEngine(LocalEngine[Conditioning]):
    """Generates clips with PyTorch; requests from several threads are decoded as one batch."""

    model: TorchModel
    sound_encoder: TorchSoundEncoder
    runtime = f"torch {torch.__version__}"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        precision: str | None = None,
        device: str = "auto",
        slots: int | None = None,
        free: Callable[[], int | None] | None = None,
    ) -> None:
        """
        Load a model.

        Args:
            precision: Of the language model, as in `registry.BACKENDS`; None means bf16 on CUDA, else fp32.
            device: auto (CUDA where there is one, else the CPU), cpu, cuda or mps.
            slots: Clips decoded at once, while further ones wait; None means four, which take no longer than one.
            free: Returns the free memory of the device in bytes; None, which means unknown, skips the check.

        Raises:
            AbsentError: There is no such device, or the weights of the model were not kept.
            CheckpointError: The checkpoint is damaged or of an unsupported kind.
            MemoryNeededError: The model needs more memory than is free.
            EngineError: PyTorch can't load it.
        """
        torch_device = select_device(device)
        if torch_device.type == "cpu":  # torch counts processors, whatever control groups allow
            torch.set_num_threads(min(torch.get_num_threads(), hardware.cores()))
        precision = precision or ("bf16" if torch_device.type == "cuda" else "fp32")
        if not checkpoint.weights:
            raise ModelAbsentError(
                f"torch needs the weights of the model {checkpoint.name!r}, which were not kept",
                hint=f"`musicgen model pull {checkpoint.name} --keep-weights` fetches them",
            )
        super().__init__(checkpoint, Origin("local", checkpoint.name, "torch", precision, torch_device.type))
        if torch_device.type == "cuda":
            self.processor = torch.cuda.get_device_name(torch_device)
        self.slots = slots or BLOCK_ROWS // 2
        _, longest = self._plan(limits.CONTEXT_S)
        blocks = -(-2 * self.slots // BLOCK_ROWS)
        positions = self.shape.decoder.prefix_positions + longest.steps
        self._check_memory(torch_device, precision, blocks * -(-positions // PAGE) * PAGE, free)
        self.model = TorchModel(checkpoint, self.shape, torch_device, _DTYPES[precision])
        self.sound_encoder = TorchSoundEncoder(checkpoint, self.shape, self.model.device)
        self._scheduler = Scheduler(self.model.decoder(rows=2 * self.slots, steps=longest.steps), self.slots)

    def close(self) -> None:
        """Free the model; the engine can't be used any more."""
        del self.model, self.sound_encoder, self._scheduler
        if self.origin.device == "cuda":
            torch.cuda.empty_cache()

    def _check_memory(
        self, device: torch.device, precision: str, positions: int, free: Callable[[], int | None] | None
    ) -> None:
        """
        Refuse a model that does not fit where it is loaded, in float32, or on the device where it is used.

        Args:
            positions: Of the KV caches of all blocks together.
        """
        decoder, tensors = self.shape.decoder, self._checkpoint.tensors()
        size = _DTYPES[precision].itemsize
        loaded = tensors.float32_bytes(*hardware.USED_WEIGHTS)
        used = loaded - tensors.float32_bytes("decoder.") * (4 - size) // 4
        used += 2 * decoder.layers * BLOCK_ROWS * (positions + 2 * TEXT_PAGE) * decoder.width * size
        if device.type == "cuda":
            hardware.check_memory(self._checkpoint.name, _PROCESS_BYTES + loaded, hardware.free_memory())
            on_device = free() if free else torch.cuda.mem_get_info(device)[0]
            hardware.check_memory(self._checkpoint.name, _DEVICE_BYTES + used, on_device)
        else:
            on_host = free() if free else hardware.free_memory()
            hardware.check_memory(self._checkpoint.name, _PROCESS_BYTES + max(used, loaded), on_host)

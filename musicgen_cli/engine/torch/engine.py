"""
Text, step and sound in PyTorch, on weights that transformers loads: the way to a GPU.

The only file that imports torch and transformers. The text and the sound are always float32.

A product of matrices can depend, in its last bit, on how many rows it has: 2 rows and 8 differ in float32 on the CPU.
So every step computes eight rows, whether anybody sits on them or not, and a seed means the same bytes alone and beside
others. For the same reason attention goes page by page: pages that only a longer neighbour has add exact zeros.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import linear
from torch.nn.utils import parametrize
from transformers import MusicgenForConditionalGeneration
from transformers.utils import logging

from musicgen_cli import limits
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import Origin
from musicgen_cli.engine.decoding.audio_stream import AudioStream
from musicgen_cli.engine.decoding.delay_pattern import IntArray
from musicgen_cli.engine.decoding.scheduler import Scheduler
from musicgen_cli.engine.local import LocalEngine
from musicgen_cli.errors import AbsentError, CheckpointError, EngineError, MemoryNeededError, ModelAbsentError, line

ENGINE = "torch"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

_ROWS = 8  # of a step: four guided takes
_PAGE = 256  # positions of a page of keys and values
_TEXT_PAGE = 64  # tokens
_PROCESS_BYTES = 600_000_000  # Python, torch, transformers and what a piece of sound takes
_DEVICE_BYTES = 800_000_000  # CUDA's own, its libraries' workspaces and what a piece of sound takes; not measured


class TorchEngine(LocalEngine["Conditioning"]):
    """Makes clips on a GPU, or on the CPU; those that are asked for from several threads, side by side."""

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
            precision: Of PRECISIONS, for the language model; None means bf16 on CUDA, else fp32.
            device: auto (CUDA where it is, else the CPU), cpu, cuda or mps.
            slots: Clips made side by side, more wait; None means four, which cost a step no more than one.
            free: Tells how many bytes of the device's memory are free; where it answers None, nothing is checked.

        Raises:
            AbsentError: There is no such precision or device, or the model's weights were not kept.
            CheckpointError: The checkpoint is damaged, or of a kind that isn't supported.
            MemoryNeededError: The model needs more memory than is free.
            EngineError: PyTorch can't load it.
        """
        where = _device(device)
        precision = precision or ("bf16" if where.type == "cuda" else "fp32")
        if precision not in PRECISIONS:
            raise AbsentError(f"torch has no {precision} here", hint="`--engine onnx --precision int8` has, on the CPU")
        if not checkpoint.weights:
            raise ModelAbsentError(
                f"torch needs the weights of the model {checkpoint.name!r}, which were not kept",
                hint=f"`musicgen model pull {checkpoint.name} --keep-weights` fetches them",
            )
        super().__init__(checkpoint, Origin("local", checkpoint.name, ENGINE, precision, where.type))
        self.slots = slots or _ROWS // 2
        _, longest = self._plan(limits.CONTEXT_S)
        blocks = -(-2 * self.slots // _ROWS)
        self._check_memory(where, precision, blocks * -(-longest.steps // _PAGE) * _PAGE, free)
        self.model = TorchModel(checkpoint, self.shape, where, PRECISIONS[precision])
        self._scheduler = Scheduler(self.model.decoder(rows=2 * self.slots, steps=longest.steps), self.slots)

    def close(self) -> None:
        """Free the model; the engine can't be used any more."""
        del self.model, self._scheduler
        if self.origin.device == "cuda":
            torch.cuda.empty_cache()

    def _check_memory(
        self, device: torch.device, precision: str, steps: int, free: Callable[[], int | None] | None
    ) -> None:
        """Refuse what doesn't fit: here as it is loaded, in float32, and on the device as it is used."""
        decoder, tensors = self.shape.decoder, self._checkpoint.tensors()
        size = PRECISIONS[precision].itemsize
        loaded = tensors.float32_bytes(*hardware.USED_WEIGHTS)
        used = loaded - tensors.float32_bytes("decoder.") * (4 - size) // 4
        used += 2 * decoder.layers * _ROWS * (steps + 2 * _TEXT_PAGE) * decoder.width * size
        if device.type == "cuda":
            hardware.check_memory(self._checkpoint.name, _PROCESS_BYTES + loaded, hardware.free_memory())
            on_device = free() if free else torch.cuda.mem_get_info(device)[0]
            hardware.check_memory(self._checkpoint.name, _DEVICE_BYTES + used, on_device)
        else:
            on_host = free() if free else hardware.free_memory()
            hardware.check_memory(self._checkpoint.name, _PROCESS_BYTES + max(used, loaded), on_host)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What cross-attention looks at, in pages."""

    keys: torch.Tensor  # (layers, pages, heads, _TEXT_PAGE, head width)
    values: torch.Tensor
    mask: torch.Tensor  # (pages, 1, _TEXT_PAGE) float32, 0 for a token and -inf for padding


class TorchModel:
    """The parts of one model on their device. One thread computes at a time: a device has one queue."""

    def __init__(self, checkpoint: Checkpoint, shape: Shape, device: torch.device, dtype: torch.dtype) -> None:
        """
        Load them.

        Raises:
            CheckpointError: transformers can't read the checkpoint, or weights are missing.
            EngineError: PyTorch can't bring it to the device.
        """
        self.device, self.dtype, self._shape = device, dtype, shape
        self._lock = threading.Lock()
        model = _load(checkpoint)
        with self.at_work("load the model"):
            self._text = model.text_encoder.to(device)
            self._project = model.enc_to_dec_proj.to(device) if shape.projected else torch.nn.Identity()
            # The products with their norms, which would be made anew for every piece of sound.
            for module in model.audio_encoder.decoder.modules():
                if parametrize.is_parametrized(module):
                    parametrize.remove_parametrizations(module, "weight")
            self._quantizer = model.audio_encoder.quantizer.to(device)
            self._before, lstm, *self._after = model.audio_encoder.decoder.layers.to(device)
            self._lstm = lstm.lstm
            decoder = model.decoder.model.decoder.to(device, dtype)
            self.tables, self.layers, self.norm = decoder.embed_tokens, decoder.layers, decoder.layer_norm
            self.vectors: Callable[[int, int], torch.Tensor] = decoder.embed_positions.get_embedding
            self.heads = torch.cat([head.weight for head in model.decoder.lm_heads]).to(device, dtype)
            for layer in self.layers:  # one product instead of three
                own = layer.self_attn
                own.qkv = torch.cat([own.q_proj.weight, own.k_proj.weight, own.v_proj.weight])
                del own.q_proj, own.k_proj, own.v_proj

    @contextmanager
    def at_work(self, task: str) -> Iterator[None]:
        """Compute alone, and turn what PyTorch raises into an EngineError."""
        with self._lock, torch.inference_mode():
            try:
                yield
            except torch.OutOfMemoryError as err:
                raise MemoryNeededError(
                    f"the device had not enough memory to {task}", hint="a smaller model needs less"
                ) from err
            except RuntimeError as err:
                raise EngineError(f"torch couldn't {task}: {line(err)}") from err

    def encode_text(self, ids: list[int]) -> Conditioning:
        """Look at a text, given as token ids, once for all steps."""
        shape, pages = self._shape.decoder, -(-len(ids) // _TEXT_PAGE)

        def paged(weight: torch.Tensor) -> torch.Tensor:
            cut: torch.Tensor = linear(states, weight).view(pages, _TEXT_PAGE, shape.heads, shape.head_width)
            return cut.transpose(1, 2)

        with self.at_work("read the prompt"):
            found = self._project(self._text(input_ids=torch.tensor([ids], device=self.device)).last_hidden_state)
            states = torch.zeros(pages * _TEXT_PAGE, shape.width, dtype=self.dtype, device=self.device)
            states[: len(ids)] = found[0]
            mask = torch.zeros(pages * _TEXT_PAGE, device=self.device)
            mask[len(ids) :] = -torch.inf
            crossing = [layer.encoder_attn for layer in self.layers]
            return Conditioning(
                torch.stack([paged(each.k_proj.weight) for each in crossing]),
                torch.stack([paged(each.v_proj.weight) for each in crossing]),
                mask.view(pages, 1, _TEXT_PAGE),
            )

    def decoder(self, *, rows: int, steps: int) -> TorchDecoder:
        """Make room for so many rows, each with keys and values for so many steps."""
        return TorchDecoder(self, self._shape, rows=rows, steps=steps)

    def audio_stream(self) -> AudioStream:
        """Return a clip's way from codes to samples."""
        decoder = self._shape.decoder
        return AudioStream(self, self._shape.codec, codebooks=decoder.codebooks, channels=decoder.channels)

    def run_codec_lstm(
        self, codes: IntArray, start: int, end: int, memory: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Go on through the recurrent layers; see `Codec`."""
        with self.at_work("turn codes into sound"), _exact():
            each = torch.from_numpy(np.ascontiguousarray(codes)).to(self.device).transpose(0, 1)
            x = self._before(self._quantizer.decode(each))[:, :, start:end].permute(2, 0, 1)
            known = torch.from_numpy(memory).to(self.device)  # of each layer its hidden state, then its cell
            y, (hidden, cell) = self._lstm(x, (known[0::2].contiguous(), known[1::2].contiguous()))
            states: FloatArray = (y + x).permute(1, 2, 0).cpu().numpy()
            new: FloatArray = torch.stack([hidden, cell], 1).flatten(0, 1).cpu().numpy()
            return states, new

    def run_codec_decoder(self, states: FloatArray) -> FloatArray:
        """Turn states into samples; see `Codec`."""
        with self.at_work("turn codes into sound"), _exact():
            x = torch.from_numpy(states).to(self.device)
            for layer in self._after:
                x = layer(x)
            samples: FloatArray = x[:, 0].cpu().numpy()
            return samples


class TorchDecoder:
    """Rows of the decoder, a `scheduler.Decoder`: blocks of _ROWS, of which one is enough for four guided takes."""

    def __init__(self, model: TorchModel, shape: Shape, *, rows: int, steps: int) -> None:
        """
        Make room.

        Args:
            rows: At most.
            steps: Of the longest take.
        """
        self._model = model
        with model.at_work("make room for keys and values"):
            self._blocks = [_Block(model, shape, -(-steps // _PAGE)) for _ in range(0, rows, _ROWS)]

    def set_conditioning(self, row: int, text: Conditioning | None) -> None:
        """Let a row look at a text from now on, or at none."""
        with self._model.at_work("look at the prompt"):
            self._blocks[row // _ROWS].set_conditioning(row % _ROWS, text)

    def move(self, source: int, target: int, *, positions: int) -> None:
        """Put a row, which has so many positions, in another's place; it looks at the same text there."""
        (there, old), (here, new) = divmod(source, _ROWS), divmod(target, _ROWS)
        with self._model.at_work("move a take"):
            self._blocks[here].take_over(new, self._blocks[there], old, positions)

    def __call__(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        """Take the first rows one position further."""
        with self._model.at_work("make a step"):
            parts = [slice(first, first + _ROWS) for first in range(0, len(tokens), _ROWS)]
            made = [block.step(tokens[part], positions[part]) for block, part in zip(self._blocks, parts, strict=False)]
        return np.concatenate(made)


class _Block:
    """
    Keys, values and texts of _ROWS rows, at fixed places: what a CUDA graph needs.

    They lie page by page, so that the first pages of all rows are one piece.
    """

    def __init__(self, model: TorchModel, shape: Shape, pages: int) -> None:
        self._model, self._shape = model, shape.decoder
        self._texts: list[Conditioning | None] = [None] * _ROWS
        self._keys, self._values = self._pages(pages, _PAGE), self._pages(pages, _PAGE)
        # A row without a text looks at values of zero: as there are no biases, all that it sees is exactly zero.
        self._text_keys, self._text_values = self._pages(1, _TEXT_PAGE), self._pages(1, _TEXT_PAGE)
        self._text_mask = self._zeros(1, _ROWS, 1, _TEXT_PAGE, dtype=torch.float32)
        self._tokens = self._zeros(_ROWS, shape.decoder.codebooks, dtype=torch.int64)
        self._positions = self._zeros(_ROWS, dtype=torch.int64)
        self._rows = torch.arange(_ROWS, device=model.device)
        self._places = torch.arange(pages * _PAGE, device=model.device).view(pages, 1, 1, _PAGE)
        self._vectors = model.vectors(pages * _PAGE, shape.decoder.width).to(model.device, model.dtype)
        self._graphs: dict[tuple[int, int], tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}

    def set_conditioning(self, row: int, text: Conditioning | None) -> None:
        self._texts[row] = text
        if text and (more := len(text.mask) - len(self._text_mask)) > 0:
            self._graphs.clear()  # they know the old places
            self._text_keys = torch.cat([self._text_keys, self._pages(more, _TEXT_PAGE)], 1)
            self._text_values = torch.cat([self._text_values, self._pages(more, _TEXT_PAGE)], 1)
            hidden = torch.full_like(self._text_mask[:1], -torch.inf).expand(more, -1, -1, -1)
            self._text_mask = torch.cat([self._text_mask, hidden])
        pages = len(text.mask) if text else 1
        self._text_mask[pages:, row] = -torch.inf
        self._text_mask[:pages, row] = text.mask if text else 0
        self._text_keys[:, :pages, row] = text.keys if text else 0
        self._text_values[:, :pages, row] = text.values if text else 0

    def take_over(self, row: int, other: _Block, source: int, positions: int) -> None:
        pages = -(-positions // _PAGE)
        self._keys[:, :pages, row] = other._keys[:, :pages, source]
        self._values[:, :pages, row] = other._values[:, :pages, source]
        self.set_conditioning(row, other._texts[source])

    def step(self, tokens: IntArray, positions: IntArray) -> FloatArray:
        living = len(tokens)
        self._positions.zero_()  # where what the others write is of no account
        self._positions[:living] = torch.from_numpy(positions)
        self._tokens[:living] = torch.from_numpy(tokens)
        pages = int(positions.max()) // _PAGE + 1
        text_pages = max(len(text.mask) if text else 1 for text in self._texts[:living])
        compute = self._replay if self._model.device.type == "cuda" else self._compute
        logits: FloatArray = compute(pages, text_pages)[:living].cpu().numpy()
        return logits

    def _replay(self, pages: int, text_pages: int) -> torch.Tensor:
        """Compute as was recorded: a launch for each step, not for each of its thousand kernels."""
        if (pages, text_pages) not in self._graphs:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self._compute(pages, text_pages)  # lets the libraries make what can't be made while recording
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                logits = self._compute(pages, text_pages)
            self._graphs[pages, text_pages] = graph, logits
        graph, logits = self._graphs[pages, text_pages]
        graph.replay()
        return logits

    def _compute(self, pages: int, text_pages: int) -> torch.Tensor:
        """Return logits, shape (_ROWS, codebooks, vocabulary), float32; looks at so many pages."""
        model, shape = self._model, self._shape
        future = self._places[:pages] > self._positions[:, None, None]
        mask = torch.zeros(future.shape, device=model.device).masked_fill_(future, -torch.inf)
        page, place = self._positions // _PAGE, self._positions % _PAGE
        x = sum(table(self._tokens[:, k]) for k, table in enumerate(model.tables)) + self._vectors[self._positions]
        split = (_ROWS, -1, shape.heads, shape.head_width)
        for i, layer in enumerate(model.layers):
            query, key, value = linear(layer.self_attn_layer_norm(x), layer.self_attn.qkv).view(split).unbind(1)
            self._keys[i][page, self._rows, :, place] = key
            self._values[i][page, self._rows, :, place] = value
            x = x + layer.self_attn.out_proj(_attend(query, self._keys[i][:pages], self._values[i][:pages], mask))
            query = layer.encoder_attn.q_proj(layer.encoder_attn_layer_norm(x)).view(split)[:, 0]
            keys, values = self._text_keys[i][:text_pages], self._text_values[i][:text_pages]
            x = x + layer.encoder_attn.out_proj(_attend(query, keys, values, self._text_mask[:text_pages]))
            x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
        return linear(model.norm(x), model.heads).float().view(_ROWS, shape.codebooks, shape.vocab)

    def _pages(self, count: int, size: int) -> torch.Tensor:
        shape = self._shape
        return self._zeros(shape.layers, count, _ROWS, shape.heads, size, shape.head_width, dtype=self._model.dtype)

    def _zeros(self, *dims: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(dims, dtype=dtype, device=self._model.device)


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Attend to pages, each of which is summed by itself, and then their sums in order.

    So further pages that are masked add zeros at the end, and change nothing.

    Args:
        query: Shape ``(rows, heads, width)``.
        keys: Shape ``(pages, rows, heads, page, width)``, as the values.
        mask: Shape ``(pages, rows, 1, page)``, 0 or -inf; the first page of each row has something to look at.

    Returns:
        Shape ``(rows, heads * width)``.
    """
    # With the query on the left, which on the CPU is several times as fast.
    scores = (query[..., None, :] @ keys.mT).squeeze(-2).float() * query.shape[-1] ** -0.5 + mask
    weights = (scores - scores.amax((0, 3), keepdim=True)).exp()
    sums = weights.sum(-1, keepdim=True)
    parts = (weights.to(values.dtype)[..., None, :] @ values).squeeze(-2).float()
    total, seen = sums[0], parts[0]
    for page in range(1, len(keys)):
        total, seen = total + sums[page], seen + parts[page]
    return (seen / total).to(values.dtype).flatten(1)


def _device(asked: str) -> torch.device:
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here.get(asked):
        raise AbsentError(f"torch finds no {asked} on this machine", hint="`--device cpu` always works")
    return torch.device(asked)


def _load(checkpoint: Checkpoint) -> MusicgenForConditionalGeneration:
    """Let transformers read a checkpoint, in float32: parts of a model can't be asked for in different types."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, told = MusicgenForConditionalGeneration.from_pretrained(
            checkpoint.directory,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as err:
        raise CheckpointError(f"transformers can't load {checkpoint.name}: {line(err)}") from err
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    # It would go on with weights drawn at random.
    if missing := sorted(name for name in told["missing_keys"] if name.startswith(hardware.USED_WEIGHTS)):
        raise CheckpointError(f"the checkpoint has no tensor {missing[0]!r}", hint="fetch the model's files again")
    return model.eval()


@contextmanager
def _exact() -> Iterator[None]:
    """Let cuDNN compute in float32 itself, not in 19 bits of it, and the same each time."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield

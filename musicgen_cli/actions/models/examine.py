"""
Examines a model on this machine: whether it is complete, and whether it makes what it should.

Files are compared with their hashes; then what they hold is looked at, and the model is run.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from musicgen_cli._version import __version__
from musicgen_cli.actions.models import inventory
from musicgen_cli.actions.models.fidelity import MAX_KL, REFERENCE, fidelity_of, in_words, spoken
from musicgen_cli.actions.models.inventory import prepared_graphs
from musicgen_cli.actions.models.prepare import needed_variant
from musicgen_cli.actions.models.published import PublishedClip, beeps
from musicgen_cli.audio.chroma import melody_chroma
from musicgen_cli.audio.wav import inspect, samples
from musicgen_cli.checkpoint.checkpoint import Checkpoint
from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.checkpoint.tensors import FloatArray
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import hardware, registry
from musicgen_cli.engine.base import NullListener
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern
from musicgen_cli.engine.decoding.sampling import Sampling
from musicgen_cli.engine.decoding.scheduler import prefill
from musicgen_cli.engine.decoding.sequence import Sequence as DecodedSequence
from musicgen_cli.engine.onnx.graph_cache import read_every_tensor
from musicgen_cli.engine.tokenizer import load_tokenizer
from musicgen_cli.errors import EngineError
from musicgen_cli.text import plural

OK, WRONG, UNKNOWN = "ok", "wrong", "not checked"

_PROMPT = "80s pop track with bassy drums and synth"
_TAKE_S = 2.0
_SILENCE = 1e-3  # root mean square, of a full scale of 1: -60 dB
_NOISE_FLATNESS = 0.5  # white noise has 1; music, whose spectrum has peaks, less than a tenth
_WINDOW = 1024  # samples, of a spectrum
_TOLERANCE = 1e-4  # absolute, and relative to a value: that of transformers' tests


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one property of a model."""

    name: str
    state: str  # OK, WRONG or UNKNOWN
    text: str
    figure: float | None = None  # what was measured


def examine(
    checkpoint: Checkpoint, published: Sequence[PublishedClip], cache_dir: Path, note: Callable[[str], None]
) -> Iterator[Finding]:
    """
    Examine a model, and yield each finding as soon as it is known.

    Args:
        published: Clips that the model is known to make.
        note: Called with a line before each step that takes long.

    Raises:
        DamagedError: A file has changed since it was pulled or written.
        EngineError: The model can't be loaded at all.
        MemoryNeededError: It doesn't fit into memory.
    """
    inventory.check(checkpoint, cache_dir)
    yield Finding("files", OK, f"none of {checkpoint.directory} is damaged")
    yield _tokenizer(checkpoint)
    tensors = _tensors(checkpoint)
    yield tensors
    if tensors.state == WRONG:
        return
    note(f"making a take of {_TAKE_S:g} s")
    yield _sound(checkpoint, note)
    for precision in prepared_graphs(checkpoint, cache_dir):
        yield _predictions(checkpoint, precision, cache_dir, note)
    if published:
        yield _published(checkpoint, published, cache_dir, note)


def summary(checkpoint: Checkpoint, findings: Sequence[Finding]) -> str:
    """Return one line that says which model was examined on which machine, and what was found."""
    manifest = checkpoint.manifest
    origin = f" from {manifest.source}@{(manifest.revision or 'folder')[:12]}" if manifest else ""
    figures = ["" if finding.figure is None else f" ({finding.figure:.2g})" for finding in findings]
    results = [f"{finding.name} {finding.state}{figure}" for finding, figure in zip(findings, figures, strict=True)]
    machine = f"{platform.system()} {platform.machine()}{' with VNNI' if hardware.has_vnni() else ''}"
    return (
        f"musicgen-cli {__version__}: model {checkpoint.name}{origin}, {checkpoint.digest[:12]}: "
        f"{', '.join(results)}; onnxruntime {version('onnxruntime')}, {machine}, {hardware.cores()} cores"
    )


def _tokenizer(checkpoint: Checkpoint) -> Finding:
    """Check that a prompt has tokens, and that the text encoder has all of them."""
    shape = Shape.of(checkpoint.config).text
    tokenizer = load_tokenizer(checkpoint.tokenizer)
    size = tokenizer.get_vocab_size()
    ids = tokenizer.encode(_PROMPT).ids
    if not ids or max(ids) >= shape.vocab:
        return Finding("tokenizer", WRONG, f"it has {size} tokens, the text encoder {shape.vocab}")
    return Finding("tokenizer", OK, f"{size} tokens; {_PROMPT!r} has {len(ids)}")


def _tensors(checkpoint: Checkpoint) -> Finding:
    """Read each tensor that an engine needs: it is there, has the right shape, and is finite."""
    if not checkpoint.weights:
        return Finding("tensors", UNKNOWN, "the weights weren't kept; they were checked when the model was prepared")
    try:
        count = read_every_tensor(Shape.of(checkpoint.config), checkpoint.tensors())
    except EngineError as err:
        return Finding("tensors", WRONG, str(err))
    return Finding("tensors", OK, f"all {count} are there, in the right shape and finite")


def _sound(checkpoint: Checkpoint, note: Callable[[str], None]) -> Finding:
    """Make a take, and check that it is neither silence nor noise."""
    engine = registry.open_local(str(checkpoint.directory.resolve()), slots=1, note=note)
    try:
        request = GenerateRequest(prompt=_PROMPT, duration=_TAKE_S, seed=0)
        wav = engine.generate(request, NullListener()).wav
    finally:
        engine.close()
    info = inspect(wav)
    sound = samples(wav, info)
    values = np.array(sound.values, np.float32)[:: info.channels] / np.float32(sound.full_scale)
    if np.sqrt(np.square(values).mean()) < _SILENCE:
        return Finding("sound", WRONG, "a take is silent")
    flatness = spectral_flatness(values)
    measured = f"spectral flatness {flatness:.2g}; white noise has 1"
    if flatness > _NOISE_FLATNESS:
        return Finding("sound", WRONG, f"a take is noise ({measured})", flatness)
    return Finding("sound", OK, f"a take is neither silent nor noise ({measured})", flatness)


def _predictions(checkpoint: Checkpoint, variant: str, cache_dir: Path, note: Callable[[str], None]) -> Finding:
    """Compare a variant (`graph_cache.variant`) with float32."""
    divergence = fidelity_of(checkpoint, variant, cache_dir, note)
    if divergence is None:
        return Finding(variant, UNKNOWN, "its distance from float32 wasn't measured when the model was pulled")
    if variant == REFERENCE:
        return Finding(variant, OK, "exact")
    default = needed_variant(checkpoint, checkpoint.precision or registry.DEFAULT_PRECISION, None)
    state = WRONG if variant == default and divergence > MAX_KL else OK
    return Finding(variant, state, in_words(spoken(variant), divergence), divergence)


def _published(
    checkpoint: Checkpoint, clips: Sequence[PublishedClip], cache_dir: Path, note: Callable[[str], None]
) -> Finding:
    """Compare what the model makes in float32 with what it is known to make."""
    name = "published values"
    prepared = prepared_graphs(checkpoint, cache_dir)
    if REFERENCE not in prepared and not checkpoint.weights:
        return Finding(
            name,
            UNKNOWN,
            f"they are of float32, and neither it nor the weights are here: `musicgen model pull {checkpoint.name} "
            "--keep-weights` brings them",
        )
    registry.open_local(str(checkpoint.directory.resolve()), precision=REFERENCE, slots=1, note=note).close()
    graphs = prepared_graphs(checkpoint, cache_dir)[REFERENCE].directory
    try:
        largest = max(_difference(checkpoint, graphs, clip) for clip in clips)
    finally:
        if REFERENCE not in prepared:
            shutil.rmtree(graphs)
    if largest > 1:
        off = f"up to {largest:.3g} times the tolerance of {_TOLERANCE:g} off"
        return Finding(name, WRONG, f"not transformers' published values: {off}", largest)
    return Finding(name, OK, f"equals transformers' published values ({plural(len(clips), 'clip')})", largest)


def _difference(checkpoint: Checkpoint, graphs: Path, clip: PublishedClip) -> float:
    """Make the start of a clip greedily, and return its largest difference, in multiples of the tolerance."""
    from musicgen_cli.engine.onnx.engine import OnnxModel

    shape = Shape.of(checkpoint.config)
    model = OnnxModel(graphs, shape, threads=hardware.cores())
    sampling = Sampling(1.0, 0, 1.0, clip.guidance_scale, do_sample=False, seed=0)
    ids = load_tokenizer(checkpoint.tokenizer).encode(clip.prompt).ids if clip.prompt else []
    tune = melody_chroma(beeps(), shape.decoder.melody_frames) if clip.has_tune else None
    prefix = model.prefix(ids, tune)
    sequence = DecodedSequence(_pattern(shape, clip.steps), sampling, vocab=shape.decoder.vocab, prefix=prefix)
    decoder = model.decoder_for(sequence, model.encode_text(ids) if ids and prefix is None else None)
    while sequence.is_reading:
        prefill(decoder, sequence, list(range(sequence.rows)))
    while not sequence.done:
        sequence.advance(decoder(sequence.tokens, np.full(sequence.rows, sequence.decoder_position)))
    stream = model.audio_stream()
    made = np.concatenate([stream.push(sequence.codes), stream.end()], axis=1)
    expected = np.array(clip.samples)
    difference = np.abs(made[:, : expected.shape[1]] - expected)
    return float((difference / (_TOLERANCE * (1 + np.abs(expected)))).max())


def _pattern(shape: Shape, steps: int) -> DelayPattern:
    """
    Return the delay pattern of a clip of so many steps.

    Source:
        MusicgenForCausalLM.build_delay_pattern_mask: a clip too short for the pattern has no delays, as if each
        codebook were a channel of its own.
    """
    codebooks, channels = shape.decoder.codebooks, shape.decoder.channels
    delays = codebooks // channels - 1
    if steps < 2 * delays:
        return DelayPattern(codebooks, codebooks, steps)
    return DelayPattern(codebooks, channels, steps - delays)


def spectral_flatness(values: FloatArray) -> float:
    """
    Return the geometric mean of a spectrum's power, divided by the arithmetic mean: 1 for white noise, 0 for a tone.

    The spectrum is the average of those of windows (Welch's method).
    """
    windows = values[: len(values) // _WINDOW * _WINDOW].reshape(-1, _WINDOW) * np.hanning(_WINDOW)
    power = np.square(np.abs(np.fft.rfft(windows))).mean(axis=0)[1:]
    return float(np.exp(np.log(power + 1e-30).mean()) / power.mean())

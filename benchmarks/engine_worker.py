"""
One subject that `benchmarks.engine` measures, in a process of its own.

    python -m benchmarks.engine_worker memory
    python -m benchmarks.engine_worker musicgen MODEL PRECISION ENGINE [THREADS]
    python -m benchmarks.engine_worker transformers MODEL KIND

A request is a line of JSON on stdin, `{"method": NAME, ...}` with the arguments of the method; its answer is a line of
JSON on stdout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from musicgen_cli.checkpoint.shape import Shape
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.engine import hardware
from musicgen_cli.engine.base import Clip
from musicgen_cli.engine.decoding.delay_pattern import DelayPattern, num_frames, num_samples
from musicgen_cli.engine.decoding.sampling import Sampling, apply_guidance
from musicgen_cli.engine.decoding.sequence import Sequence
from musicgen_cli.engine.registry import open_local

GUIDANCE, TOP_K, TOP_P = 3.0, 250, 0.9
HALF_SECOND = 0.5
_CAN_PIN = hasattr(os, "sched_setaffinity")

Answer = dict[str, Any]


class Memory:
    """The bandwidth of the memory."""

    def __init__(self) -> None:
        self._parts = np.array_split(np.ones(1 << 28, np.float32), hardware.cores())

    def bandwidth(self) -> Answer:
        """Read 1 GiB five times, with a thread for each core; return the best rate."""
        size, best = sum(part.nbytes for part in self._parts), 0.0
        with ThreadPoolExecutor(len(self._parts)) as pool:
            for _ in range(5):
                started = time.perf_counter()
                list(pool.map(np.max, self._parts))  # numpy releases the GIL
                best = max(best, size / (time.perf_counter() - started))
        return {"bytes_s": best}


class TimingListener:
    """Notes when steps and samples arrive."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []  # time; steps so far, as several may be reported at once
        self.audio: list[tuple[float, float]] = []  # time; seconds of audio so far

    def step(self, done: int, total: int) -> None:  # noqa: ARG002  # the signature of a listener
        self.steps.append((time.perf_counter(), done))

    def note(self, text: str) -> None: ...

    def sound(self, pcm: bytes, sample_rate: int, channels: int) -> None:
        before = self.audio[-1][1] if self.audio else 0.0
        self.audio.append((time.perf_counter(), before + len(pcm) / (2 * sample_rate * channels)))

    def step_s(self) -> float:
        """Return the mean time of a step, without those during which audio was decoded."""
        audio_times = [at for at, _ in self.audio]
        pairs = zip(self.steps, self.steps[1:], strict=False)
        gaps = [(b - a, n - m) for (a, m), (b, n) in pairs if not any(a < at <= b for at in audio_times)]
        return sum(gap for gap, _ in gaps) / sum(steps for _, steps in gaps)

    def latency_s(self) -> float:
        """Return the time from the start of decoding to the first half second of audio."""
        audible = next(at for at, seconds in self.audio if seconds >= HALF_SECOND)
        at, done = self.steps[0]
        return audible - at + done * self.step_s()


class Musicgen:
    """The engine of this project."""

    def __init__(self, model: str, precision: str, engine: str, threads: str | None = None) -> None:
        self._engine: Any = open_local(
            model,
            engine=engine,
            precision=precision,
            threads=int(threads) if threads else None,
            note=lambda text: print(text, file=sys.stderr),
        )

    def clips(self, prompts: list[str], duration: float, stagger: float = 0.0) -> Answer:
        """
        Make a clip of each prompt, all at once.

        Args:
            stagger: Seconds by which each clip is begun later than the one before.
        """
        listeners = [TimingListener() for _ in prompts]
        requests = [GenerateRequest(prompt=text, duration=duration, seed=i) for i, text in enumerate(prompts)]

        def generate(number: int) -> Clip:
            time.sleep(number * stagger)
            clip: Clip = self._engine.generate(requests[number], listeners[number])
            return clip

        started = time.perf_counter()
        with ThreadPoolExecutor(len(prompts)) as pool:
            clips = list(pool.map(generate, range(len(prompts))))
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "steps": listeners[0].steps[-1][1],
            "step_s": listeners[0].step_s(),
            "latency_s": listeners[0].latency_s(),
            "sha256": [hashlib.sha256(clip.wav).hexdigest() for clip in clips],
        }

    def step(self, rows: int, position: int, count: int) -> Answer:
        """Return the median time of a step of `rows` rows, every other one with a prompt, at a position."""
        model, shape = self._engine.model, self._engine.shape.decoder
        decoder = model.decoder(rows=rows, steps=position + 1)
        conditioning = model.encode_text(self._engine.tokenize("calm ambient piano"))
        for row in range(0, rows, 2):
            decoder.set_conditioning(row, conditioning)
        tokens = np.random.default_rng(0).integers(0, shape.vocab, (rows, shape.codebooks))
        for at in range(0, position, 16):  # touches the memory of the KV cache
            decoder(tokens, np.full(rows, at))
        times = []
        for _ in range(count):
            started = time.perf_counter()
            decoder(tokens, np.full(rows, position))
            times.append(time.perf_counter() - started)
        return {"seconds": float(np.median(times))}

    def busy_clip(self, prompts: list[str], duration: float) -> Answer:
        """Make a clip while another process keeps one core busy, and stays on it where the system allows that."""
        pin = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n" if _CAN_PIN else ""
        other = subprocess.Popen([sys.executable, "-c", f"{pin}while True: pass"])
        try:
            return self.clips(prompts, duration)
        finally:
            other.kill()
            other.wait()

    def logits(self, prompt: str, steps: int, tokens: str, to: str) -> Answer:
        """
        Save the conditional and unconditional logits, shape (2, codebooks, steps, vocabulary).

        Args:
            tokens: A file with the input tokens, shape (codebooks, steps). If it doesn't exist, the model samples them,
                and they are saved there.
            to: The file to write.
        """
        model, decoder = self._engine.model, self._engine.shape.decoder
        pattern = DelayPattern(decoder.codebooks, decoder.channels, steps - decoder.codebooks // decoder.channels + 1)
        sampling = Sampling(1.0, TOP_K, TOP_P, GUIDANCE, do_sample=True, seed=0)
        sequence = Sequence(pattern, sampling, vocab=decoder.vocab)
        step = model.decoder_for(sequence, model.encode_text(self._engine.tokenize(prompt)))
        inputs, logits = [], []
        forced = np.load(tokens) if Path(tokens).exists() else None
        for at in range(steps):
            inputs.append(sequence.tokens[0] if forced is None else forced[:, at])
            logits.append(step(np.stack([inputs[-1], inputs[-1]]), np.full(2, at)).copy())
            sequence.advance(logits[-1])
        np.save(tokens, np.stack(inputs, axis=1))
        np.save(to, np.stack(logits, axis=2))
        return {}

    def samples(self, codes: str, to: str) -> Answer:
        """Decode codes chunk by chunk, and save the samples."""
        values, stream = np.load(codes), self._engine.model.audio_stream()
        chunks = [stream.push(values[:, [frame]]) for frame in range(values.shape[1])]
        np.save(to, np.concatenate([*chunks, stream.end()], axis=1))
        return {}

    def peak(self) -> Answer:
        """Return the peak memory of this process."""
        return peak_memory()


class Transformers:
    """`generate()` of transformers in float32; of kind `quantize_dynamic`, with the decoder's matrices in int8."""

    def __init__(self, model: str, kind: str) -> None:
        import torch
        import transformers as hf

        hf.utils.logging.set_verbosity_error()
        hf.utils.logging.disable_progress_bar()
        warnings.simplefilter("ignore")
        torch.set_num_threads(hardware.cores())
        self._torch = torch
        self._model: Any = hf.MusicgenForConditionalGeneration.from_pretrained(model).eval()
        if kind == "quantize_dynamic":
            self._model.decoder = torch.ao.quantization.quantize_dynamic(
                self._model.decoder, {torch.nn.Linear}, dtype=torch.qint8
            )
        self._tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
        self._tokenizer.enable_padding()

    def clips(self, prompts: list[str], duration: float) -> Answer:
        """Make a clip of each prompt, all at once."""
        shape = Shape.of(self._model.config.to_dict())
        steps = num_frames(num_samples(duration, shape.codec.rate), shape.codec.hop) + shape.decoder.codebooks - 1
        started = time.perf_counter()
        encoded = self._tokenizer.encode_batch(prompts)
        self._model.generate(
            input_ids=self._torch.tensor([text.ids for text in encoded]),
            attention_mask=self._torch.tensor([text.attention_mask for text in encoded]),
            do_sample=True,
            guidance_scale=GUIDANCE,
            top_k=TOP_K,
            top_p=TOP_P,
            max_new_tokens=steps,
        )
        return {"seconds": time.perf_counter() - started, "steps": steps}

    def logits(self, prompt: str, steps: int, tokens: str, to: str) -> Answer:
        """Save the conditional and unconditional logits for the tokens in a file that the engine has written."""
        ids, inputs = self._tokenizer.encode(prompt).ids, np.load(tokens)[:, :steps]
        with self._torch.no_grad():
            logits = self._model(
                input_ids=self._torch.tensor([ids, ids]),
                attention_mask=self._torch.tensor([[1] * len(ids), [0] * len(ids)]),  # zeros: no text
                decoder_input_ids=self._torch.tensor(np.concatenate([inputs, inputs])),
            ).logits.numpy()
        np.save(to, logits.reshape(2, *inputs.shape, -1))
        return {}

    def samples(self, codes: str, to: str) -> Answer:
        """Decode codes in one piece, and save the samples."""
        with self._torch.no_grad():
            samples = self._model.audio_encoder.decode(self._torch.tensor(np.load(codes)[None, None]), [None])[0]
        np.save(to, samples[0].numpy())
        return {}


def peak_memory() -> Answer:
    """Return the peak memory of this process."""
    status = Path("/proc/self/status").read_text("ascii")
    return {"bytes": 1024 * int(status.split("VmHWM:")[1].split()[0])}


def kl_divergence(reference: str, other: str) -> float:
    """
    Return the mean of KL(reference ‖ other) over steps and codebooks, in nats.

    The distributions are those after guidance, at temperature 1, before top-k and top-p.

    Args:
        reference: A file of logits, as `logits` saves them.
        other: Another one.
    """
    guided = (apply_guidance(np.load(path), GUIDANCE) for path in (reference, other))
    log_p, log_q = (_log_softmax(logits.astype(np.float64)) for logits in guided)
    return float((np.exp(log_p) * (log_p - log_q)).sum(-1).mean())


def _log_softmax(scores: Any) -> Any:
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def build_model(folder: Path, words: set[str]) -> None:
    """
    Make a random model of exactly musicgen-small's shape, 2.4 GB, and a tokenizer that knows some words.

    The output heads are drawn five times wider than for training, so that logits are spread as those of a trained
    model. The cost of a step doesn't depend on this.
    """
    import torch
    import transformers as hf

    hf.utils.logging.disable_progress_bar()

    text_encoder = hf.T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12)
    codec = hf.EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32_000, num_filters=64, upsampling_ratios=[8, 5, 4, 4],
        use_causal_conv=False, codebook_size=2048, use_conv_shortcut=False,
    )  # fmt: skip
    decoder = hf.MusicgenDecoderConfig(tie_word_embeddings=False)  # its defaults are musicgen-small's
    config = hf.MusicgenConfig(
        text_encoder=text_encoder.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict()
    )
    torch.manual_seed(0)
    model = hf.MusicgenForConditionalGeneration(config)
    with torch.no_grad():
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.normal_()
        for head in model.decoder.lm_heads:
            head.weight.mul_(5)
    for name in ("decoder_start_token_id", "pad_token_id", "bos_token_id"):
        setattr(model.generation_config, name, 2048)
    save_model(model, folder, words)


def save_model(model: Any, folder: Path, words: set[str]) -> None:
    """Save a model of transformers, and a tokenizer that knows some words, in a new folder."""
    vocabulary = ["<pad>", "</s>", "<unk>", *sorted(words)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        model.save_pretrained(partial)
        tokenizer.save(str(partial / "tokenizer.json"))
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def main() -> None:
    serve({"memory": Memory, "musicgen": Musicgen, "transformers": Transformers})


def serve(subjects: dict[str, Any]) -> None:
    """Load the subject that the first argument of this process names, and answer requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print to stdout goes to stderr
    subject = subjects[sys.argv[1]](*sys.argv[2:])
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(subject, request.pop("method"))(**request)), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""Compares parts of the local engines with those of transformers: sampling, positions, tokenizer, config defaults."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra local")
pytest.importorskip("onnxruntime", reason="needs the extra local")
torch = pytest.importorskip("torch", reason="the oracle needs torch")
transformers = pytest.importorskip("transformers", reason="the oracle needs transformers")

from musicgen_cli.checkpoint.checkpoint import Checkpoint, find_checkpoint
from musicgen_cli.checkpoint.shape import Shape, TextShape
from musicgen_cli.engine.decoding.positions import sinusoids
from musicgen_cli.engine.decoding.sampling import apply_guidance, probabilities
from musicgen_cli.engine.onnx.engine import OnnxEngine
from musicgen_cli.engine.onnx.text_encoder import position_buckets
from tests.support.decoding import sampling
from tests.support.oracle import quiet  # noqa: F401  # a fixture

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0, 15.0])
@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 2.0])
def test_probabilities_are_those_of_the_logits_processors(temperature: float, scale: float) -> None:
    """To 1e-5, for a grid of top-k and top-p; torch leaves open which of several equal logits is removed."""
    from transformers.generation import logits_process

    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(2, 4, 600)) * [[[0.3], [1.0], [4.0], [1.0]]]).astype(np.float32)
    logits[:, 3] = logits[:, 3].round(1)
    if scale == 1.0:
        logits = logits[:1]
    for top_k in (0, 1, 2, 10, 250, 1000):
        for top_p in (0.0, 0.1, 0.5, 0.9, 0.999, 1.0):
            scores = torch.tensor(logits.reshape(-1, 600))
            if scale > 1:
                scores = logits_process.ClassifierFreeGuidanceLogitsProcessor(scale)(torch.zeros(4, 1), scores)
            scores = logits_process.TemperatureLogitsWarper(temperature)(None, scores)
            if top_k:
                scores = logits_process.TopKLogitsWarper(top_k)(None, scores)
            if top_p < 1:
                scores = logits_process.TopPLogitsWarper(top_p)(None, scores)
            theirs = scores.double().softmax(-1).numpy()

            parameters = sampling(temperature=temperature, top_k=top_k, top_p=top_p, guidance_scale=scale)
            weights = probabilities(apply_guidance(logits, scale), parameters)
            ours = weights / weights.sum(-1, keepdims=True)
            theirs[3].sort()  # the codebook with equal logits
            ours[3].sort()
            assert np.abs(ours - theirs).max() <= 1e-5, (top_k, top_p)


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (16, 40), (32, 256), (8, 20), (64, 1000)])
def test_position_buckets_are_equal(nano: Checkpoint, buckets: int, max_distance: int) -> None:
    """For distances up to three times the maximum, from which on they don't change."""
    from transformers.models.t5.modeling_t5 import T5Attention

    text: TextShape = dataclasses.replace(Shape.of(nano.config).text, buckets=buckets, max_distance=max_distance)
    distances = torch.arange(-3 * max_distance, 3 * max_distance + 1)
    theirs = T5Attention._relative_position_bucket(distances, num_buckets=buckets, max_distance=max_distance)
    ours = np.array(position_buckets(text))

    assert ours[np.clip(distances.numpy(), -max_distance, max_distance) + max_distance].tolist() == theirs.tolist()


@pytest.mark.parametrize("width", [64, 192, 1024, 2048])
def test_position_embeddings_are_equal(width: int) -> None:
    """For each step of the longest clip, as far as frequencies that differ in their last bit allow."""
    from transformers.models.musicgen.modeling_musicgen import MusicgenSinusoidalPositionalEmbedding

    theirs = MusicgenSinusoidalPositionalEmbedding.get_embedding(1503, width).numpy()

    assert np.abs(sinusoids(1503, width) - theirs).max() <= 1e-4


def test_prompts_have_the_same_tokens(nano: Checkpoint, engine: OnnxEngine) -> None:
    """Also with punctuation, accents, white space and unknown words."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(nano.directory)
    for prompt in (
        "calm ambient piano",
        "Jazz, with DRUMS!",
        "café  \t\n pianos",
        "日本語",
        "a" * 2000,
        "x " * 500,
        " ",
    ):
        assert list(engine.tokenize(prompt)) == tokenizer(prompt).input_ids


@pytest.fixture(scope="module")
def t5_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """
    Train a tokenizer like T5's: Unigram with a Precompiled charsmap, that appends `</s>`, and neither cuts nor pads.

    Returns:
        Its folder, with the files that transformers reads, and the same in sentencepiece.
    """
    sentencepiece = pytest.importorskip("sentencepiece", reason="trains a tokenizer")
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(prompts(3000, seed=1)), model_writer=trained, model_type="unigram", vocab_size=900,
        hard_vocab_limit=False, normalization_rule_name="nmt_nfkc", character_coverage=0.999, num_threads=1,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", minloglevel=2,
    )  # fmt: skip
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(trained.getvalue())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in model.pieces], unk_id=2))
    tokenizer.normalizer = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    folder = tmp_path_factory.mktemp("t5")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
              "extra_ids": 0, "model_max_length": 512}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder, sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())


WORDS = (
    "piano guitar drums bass techno ambient calm energetic slow fast happy sad with and the of in minor major 80s "
    "120bpm lo-fi hip-hop orchestral strings cafe solo Piano DRUMS jazz, beat! (live) synth's 16-bit C#m 4/4 "
    "<pad> </s> <unk> <extra_id_0>"
)
UNUSUAL = [
    *("caf\u00e9", "cafe\u0301", "Z\u00fcrich", "na\u00efve", "\ufb01ddle", "\u00bd", "\u2460", "\uff30iano", "\u2122"),
    *("\u3000", "\u00a0", "\u2009x", "\t", "\n", "\r\n", "\u200b", "\x07", "\u2026", "\u201cbright\u201d", "\u2014"),
    *("\U0001f3b9", "\U0001f3b8\U0001f941", "\U0001f468\u200d\U0001f3a4", "\u65e5\u672c\u8a9e", "\u0440\u043e\u043a"),
]


def prompts(count: int, *, seed: int) -> list[str]:
    """Return prompts of words, some of which are foreign, unusual, or not words at all; every 50th has 400 words."""
    rng = random.Random(seed)
    words = WORDS.split() * 2 + UNUSUAL
    return [
        rng.choice([" ", " ", "  ", "\t"]).join(
            rng.choice(words) for _ in range(400 if number % 50 == 49 else rng.randint(0, 14))
        )
        for number in range(count)
    ]


def test_prompts_have_the_same_tokens_with_a_tokenizer_like_t5s(
    nano: Checkpoint, write: Any, t5_tokenizer: tuple[Path, Any], session_cache: Path
) -> None:
    """500 prompts, as in transformers; and as in sentencepiece, except for texts of special tokens."""
    folder, sentencepiece = t5_tokenizer
    model = write()
    shutil.copy(folder / "tokenizer.json", model)
    engine = OnnxEngine(find_checkpoint(str(model), model), cache_dir=session_cache, threads=1, slots=1)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    longest = 0
    for prompt in prompts(500, seed=0):
        ids = engine.tokenize(prompt)
        assert ids == theirs(prompt).input_ids, prompt
        if "<" not in prompt:
            assert ids == [*sentencepiece.encode(prompt), 1], prompt
        longest = max(longest, len(ids))
    engine.close()

    assert longest > 512


def test_config_defaults_are_equal() -> None:
    """A config.json without its optional members means the same as one in which transformers writes them all."""
    defaults = {
        "text_encoder": transformers.T5Config(),
        "decoder": transformers.MusicgenDecoderConfig(),
        "audio_encoder": transformers.EncodecConfig(codebook_size=2048),
    }
    full = {name: json.loads(json.dumps(config.to_dict())) for name, config in defaults.items()}
    short: dict[str, Any] = {"text_encoder": {}, "decoder": {}, "audio_encoder": {"codebook_size": 2048}}

    assert Shape.of({"model_type": "musicgen", **full}) == Shape.of({"model_type": "musicgen", **short})

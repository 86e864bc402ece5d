"""The model: text encoder, language model and computed codec; small enough for 30 MB and a CPU."""

from __future__ import annotations

import torch
from transformers import (
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
    MusicgenForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

from training.nano import codec, codes
from training.nano.words import SPECIAL

WIDTH, LAYERS, HEADS, FORWARD = 192, 3, 6, 768  # of the language model
TEXT_WIDTH, TEXT_LAYERS = 128, 2

PAD = codes.CODES  # the start and padding token of every stream


def build(vocabulary: int, *, seed: int = 0) -> MusicgenForConditionalGeneration:
    """
    Make an untrained model with the computed codec.

    Args:
        vocabulary: The size of the text encoder's vocabulary, which is the number of concepts.
    """
    torch.manual_seed(seed)
    text = T5Config(
        vocab_size=vocabulary,
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=2 * TEXT_WIDTH,
        num_layers=TEXT_LAYERS,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        is_encoder_decoder=False,
        use_cache=False,
        pad_token_id=SPECIAL.index("<pad>"),
        eos_token_id=SPECIAL.index("</s>"),
    )
    decoder = MusicgenDecoderConfig(
        vocab_size=codes.CODES,
        max_position_embeddings=2048,
        num_hidden_layers=LAYERS,
        ffn_dim=FORWARD,
        num_attention_heads=HEADS,
        hidden_size=WIDTH,
        dropout=0.0,
        num_codebooks=codes.STREAMS,
        pad_token_id=PAD,
        bos_token_id=PAD,
        is_decoder=True,
        add_cross_attention=True,
    )
    audio = codec.build()
    model = MusicgenForConditionalGeneration(
        config=MusicgenConfig(text_encoder=text, audio_encoder=audio.config, decoder=decoder),
        text_encoder=T5EncoderModel(text),
        audio_encoder=audio,
        decoder=MusicgenForCausalLM(decoder),
    )
    _draw_weights(model)
    return model


def _draw_weights(model: MusicgenForConditionalGeneration) -> None:
    """
    Draw the weights of the language model with a larger spread than transformers does, as the model is narrow.

    The projection of the text is large enough for cross-attention to use the text from the first step on. With the
    default, the model ignored the text for the first quarter of an hour of training.
    """
    with torch.no_grad():
        for name, parameter in model.decoder.named_parameters():
            if "embed_tokens" in name:
                parameter.normal_(0, 0.3)
            elif parameter.ndim == 2 and "lm_heads" not in name:
                into_residual = "out_proj" in name or "fc2" in name
                parameter.normal_(0, 0.06 / ((2 * LAYERS) ** 0.5 if into_residual else 1))
        model.enc_to_dec_proj.weight.normal_(0, 0.08)
        model.enc_to_dec_proj.bias.zero_()


def learned(model: MusicgenForConditionalGeneration) -> dict[str, torch.Tensor]:
    """Return the tensors that training changes, by name: all except the codec's."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("audio_encoder.")}

"""Tiny random text encoders with their tokenizers, for the tiny pipelines of transformers."""

# transformers says less than it takes.
# pyright: reportArgumentType=false, reportCallIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from typing import Any

from sfumato.bases.tiny import WORDS, make_tiny_tokenizer
from tests.bases import tiny_pipelines
from tests.bases.tiny_pipelines import seeded

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def clip(*, projected: bool = True) -> tuple[Any, Any]:
    """A CLIP text encoder, and its tokenizer of 8 tokens."""
    tokenizer = make_tiny_tokenizer()
    return tiny_pipelines.clip(tokenizer, 16, projected=projected), tokenizer


def t5(width: int = 32) -> tuple[Any, Any]:
    """A T5 encoder, and its tokenizer of the words of `WORDS` and letters."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = sorted({f"\u2581{word}" for text in WORDS for word in text.split()})
    letters = [chr(number) for number in range(ord("a"), ord("z") + 1)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(word, -1.0) for word in words]
    vocabulary += [(word, -9.0) for word in ("\u2581", *letters)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return seeded(T5EncoderModel, config=config), tokenizer


def sizes(tokenizer: Any, width: int = 16, **settings: Any) -> dict[str, Any]:
    """Settings of a small language model: one layer of two heads."""
    given = {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    return given | settings


def gemma() -> tuple[Any, Any]:
    """A Gemma 2 text model, and its tokenizer of words and letters."""
    from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = ["\u2581", *(chr(number) for number in range(33, 127))]
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    vocabulary = {word: i for i, word in enumerate([*special, *bytes_, *letters])}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=[])
    config = Gemma2Config(**sizes(tokenizer, num_key_value_heads=2))
    return seeded(Gemma2Model, config=config), tokenizer


def qwen_tokenizer() -> Any:
    """Bytes, and the marks of a chat."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *marks])}
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary, merges=[], extra_special_tokens=["<|im_start|>", "<|im_end|>"]
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen() -> tuple[Any, Any]:
    """A Qwen 3 text model of 28 layers, since layer 27 is read, and its tokenizer of bytes."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = qwen_tokenizer()
    config = Qwen3Config(**sizes(tokenizer, 8, num_hidden_layers=28, num_attention_heads=1))
    return seeded(Qwen3ForCausalLM, config=config), tokenizer

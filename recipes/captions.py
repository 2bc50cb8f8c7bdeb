"""What the bases are told about their pictures, and the tokenizer and text encoder that read it."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .glyphs import CHARACTERS, DIGITS

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def glyph_captions(character: str) -> list[str]:
    """Three captions of one character, the commonest first."""
    if character in DIGITS:
        name = DIGIT_NAMES[int(character)]
        return [f"a handwritten digit {name}", f"digit {name}", f"a picture of digit {name}"]
    case = "capital" if character.isupper() else "small"
    name = character.lower()
    return [
        f"a handwritten {case} letter {name}",
        f"{case} {name}",
        f"a picture of {case} letter {name}",
    ]


def make_tokenizer(captions: list[str], folder: Path, max_length: int) -> CLIPTokenizer:
    """A CLIP tokenizer whose vocabulary holds every word of `captions` whole; saved in `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    # CLIP's own byte alphabet, so that any text at all can be tokenized.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    words = Tokenizer(models.BPE(unk_token=None, end_of_word_suffix="</w>"))
    words.pre_tokenizer = pre_tokenizers.Split(_word_pattern(), "removed", invert=True)
    # Repeating every word keeps the pair counts above the trainer's minimum.
    words.train_from_iterator([c.lower() for c in captions] * 2, trainer)
    learnt = json.loads(words.to_str())["model"]
    merges = [tuple(m) for m in learnt["merges"]]
    tokens = alphabet + [a + "</w>" for a in alphabet] + ["".join(m) for m in merges]
    tokens = list(dict.fromkeys(tokens)) + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=max_length,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _word_pattern():
    from tokenizers import Regex

    return Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def make_text_encoder(tokenizer: CLIPTokenizer, width: int = 64) -> CLIPTextModel:
    """A small CLIP text encoder, randomly initialised."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def carry_tokens(old_encoder, old_tokenizer, new_encoder, new_tokenizer) -> None:
    """Copy a text encoder's weights into one with a larger vocabulary, token by token."""
    state = old_encoder.state_dict()
    table = next(k for k in state if k.endswith("token_embedding.weight"))
    rows = new_encoder.state_dict()[table].clone()
    old, new = old_tokenizer.get_vocab(), new_tokenizer.get_vocab()
    for token in old.keys() & new.keys():
        rows[new[token]] = state[table][old[token]]
    new_encoder.load_state_dict({**state, table: rows})


def caption_table(character_index: list[int]) -> list[list[str]]:
    """The captions of each class number in `character_index` (numbers into CHARACTERS)."""
    return [glyph_captions(CHARACTERS[i]) for i in character_index]

#!/usr/bin/env bash
# transformers 5.23.0 (tokenizers): a word added to CLIP's tokenizer is found in any case and inside other words.
# Seen: after add_tokens(["<Cat>", "sks"]), "<cat>" and "<CAT>" are the new token too; "asks" is "a" followed by the token "sks",
# and "SKS" is it as well. add_tokens with AddedToken(..., single_word=True, normalized=False) leaves "asks" and "SKS" alone.
# Guess: an added token is matched as it was spelled, as a word of its own.
# Why it matters: a placeholder stands for private pictures. Public prompts that contain its letters call the private concept unasked, and
# two people's words that differ only in case are one vector, which mixes two units that were clipped apart.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$work"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -W ignore - <<'PY'
import json
import sys
from pathlib import Path
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AddedToken, CLIPTokenizer

letters = sorted(ByteLevel.alphabet())
words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
Path("clip").mkdir()
Path("clip/vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
Path("clip/merges.txt").write_text("#version: 0.2\n")
plain, strict = (CLIPTokenizer.from_pretrained("clip") for _ in range(2))
plain.add_tokens(["<Cat>", "sks"])
strict.add_tokens([AddedToken("sks", single_word=True, normalized=False)])


def count(tokenizer, text, word):
    return tokenizer(text).input_ids.count(tokenizer.convert_tokens_to_ids(word))


loose = {text: count(plain, text, word) for text, word in (("<cat>", "<Cat>"), ("<CAT>", "<Cat>"), ("asks", "sks"), ("SKS", "sks"))}
kept = {text: count(strict, text, "sks") for text in ("asks", "SKS", "a sks b")}
print("added plainly:", loose, "as AddedToken:", kept)
if set(loose.values()) != {1} or kept != {"asks": 0, "SKS": 0, "a sks b": 1}:
    sys.exit("changed: added words are matched in another way")
PY

"""T5Gemma's encoder alone, whose settings lie in a folder in either of two forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..weights import check_settings


class TextEncoder:
    """Opens the encoder, whether its settings are its own or those of a whole T5Gemma."""

    @staticmethod
    def from_pretrained(place: Path, **asked: Any) -> Any:
        """As models of transformers are opened."""
        from transformers.models.t5gemma.configuration_t5gemma import (
            T5GemmaConfig,
            T5GemmaModuleConfig,
        )
        from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

        joint = isinstance(check_settings(place / "config.json").get("encoder"), dict)
        kind = T5GemmaConfig if joint else T5GemmaModuleConfig
        config: Any = kind.from_pretrained(place, local_files_only=True)
        return T5GemmaEncoder.from_pretrained(
            place, config=config.encoder if joint else config, **asked
        )


def composite(config: Any) -> Any:
    """Settings of a T5Gemma with this encoder, and a decoder like it that nothing reads."""
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaConfig

    return T5GemmaConfig(encoder=config, decoder=config, vocab_size=config.vocab_size)

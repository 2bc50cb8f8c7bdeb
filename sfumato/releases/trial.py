"""The whole certificate before the charge: built, printed and verified.

So what is charged for can be released.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.releases import cards, consistency, croissant, report, verify_privacy
from sfumato.releases.certificate import build_privacy_json
from sfumato.releases.contents import Contents, inspect_source
from sfumato.releases.facts import CertificateFacts

KINDS = {
    "images": Contents("images", [], "imagefolder", "metadata.jsonl"),
    "model": Contents("model", ["pytorch_lora_weights.safetensors"], "pytorch_lora_weights"),
}


def try_certificate(facts: CertificateFacts) -> None:
    """Build the certificate of `facts`, write every page and run every check of `verify` on them.

    Nothing is written to disk. SfumatoError, with the check that fails, where the release of such a
    run would be refused.
    """
    certificate = build_privacy_json(facts)
    failed = [
        (name, detail)
        for part in (verify_privacy.check_privacy, consistency.check_facts, _check_pages)
        for name, passed, detail in _run(part, certificate)
        if not passed
    ]
    if failed:
        raise SfumatoError(
            f"a release of this run would not verify ({failed[0][0]}: {failed[0][1]}), so it is not"
            " charged: use fewer steps, or another batch size, epsilon or delta"
        )


def try_files(folder: Path, kind: str) -> None:
    """SfumatoError for a file that no release of this kind ("images" or "model") may hold."""
    inspect_source(folder, kind)


def _run(part, certificate: dict[str, Any]) -> list[Any]:
    try:
        return list(part(certificate))
    except Exception as error:  # whatever it is, it would come up after the charge
        return [(part.__name__.strip("_"), False, f"{type(error).__name__}: {str(error)[:120]}")]


def _check_pages(certificate: dict[str, Any]):
    about = {"title": "Trial", "licence": "other"}
    for contents in KINDS.values():
        page = cards.statement(certificate, contents, title="Trial", licence="other")
        cards.signed_page(certificate, contents, **about)
        cards.readme(certificate, contents, **about)
        report.render(certificate, contents, title="Trial", metrics=[])
        yield from consistency.check_page(certificate, page)
    croissant.render(certificate, KINDS["images"], **about)

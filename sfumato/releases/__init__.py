"""The release: what leaves the private side, with a certificate that can be priced again. Never opens records."""

from __future__ import annotations

from sfumato.releases.beside import MOST_PICTURES
from sfumato.releases.certificate import build_privacy_json
from sfumato.releases.contents import DRAFT
from sfumato.releases.folder import finalise, write_draft, write_release
from sfumato.releases.verify import VerifyReport, verify

__all__ = [
    "DRAFT",
    "MOST_PICTURES",
    "VerifyReport",
    "build_privacy_json",
    "finalise",
    "verify",
    "write_draft",
    "write_release",
]

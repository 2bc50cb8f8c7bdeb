"""The release: what leaves the private side, with a certificate that can be priced again.

Never opens records.
"""

from __future__ import annotations

from sfumato.releases.beside import MOST_PICTURES
from sfumato.releases.carried import fitting_certificate
from sfumato.releases.certificate import build_privacy_json, certificate_digest, release_digest
from sfumato.releases.contents import DRAFT, SAMPLE_TABLE, SAMPLES, SUMS, drawn_by
from sfumato.releases.draft import CERTIFICATE, drafted_files, files_digest, write_draft
from sfumato.releases.facts import CertificateFacts, LedgerFacts
from sfumato.releases.folder import finalise, write_release
from sfumato.releases.marking import marked_png
from sfumato.releases.moments import moved_facts
from sfumato.releases.prices import prices_of
from sfumato.releases.shown import TOKEN_ROWS
from sfumato.releases.statements import (
    NOT_COMPARED,
    base_vote_facts,
    choice_facts,
    held_out_in_words,
    looks_facts,
    prompts_facts,
    stopped_facts,
)
from sfumato.releases.trial import try_certificate, try_files
from sfumato.releases.verify import VerifyReport, verify
from sfumato.releases.verify_privacy import planned_steps

__all__ = [
    "CERTIFICATE",
    "CertificateFacts",
    "DRAFT",
    "LedgerFacts",
    "MOST_PICTURES",
    "NOT_COMPARED",
    "SAMPLES",
    "SAMPLE_TABLE",
    "SUMS",
    "TOKEN_ROWS",
    "VerifyReport",
    "base_vote_facts",
    "build_privacy_json",
    "certificate_digest",
    "choice_facts",
    "drafted_files",
    "drawn_by",
    "files_digest",
    "finalise",
    "fitting_certificate",
    "held_out_in_words",
    "looks_facts",
    "marked_png",
    "moved_facts",
    "planned_steps",
    "prices_of",
    "prompts_facts",
    "release_digest",
    "stopped_facts",
    "try_certificate",
    "try_files",
    "verify",
    "write_draft",
    "write_release",
]

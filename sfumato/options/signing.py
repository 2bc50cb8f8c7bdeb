"""The owner's signature in every picture that is drawn for a release."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SfumatoError
from .declare import Options, option


@dataclass(frozen=True)
class Signing(Options):
    """The owner's signature (C2PA) in every picture; needs the extra `[c2pa]`."""

    panel = "Signing"

    c2pa_certificate: str | None = option(
        None,
        "Sign every picture as synthetic: PEM file of your certificate and its issuers.",
        metavar="FILE",
        path=True,
    )
    c2pa_key: str | None = option(
        None, "PEM file of the key of that certificate.", metavar="FILE", path=True
    )

    @property
    def pair(self) -> tuple[str, str] | None:
        """Certificate and key; None without either. SfumatoError if only one was given."""
        if self.c2pa_certificate is None and self.c2pa_key is None:
            return None
        if self.c2pa_certificate is None or self.c2pa_key is None:
            raise SfumatoError("--c2pa-certificate and --c2pa-key go together: give both")
        return self.c2pa_certificate, self.c2pa_key

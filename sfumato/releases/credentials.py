"""Pictures signed as synthetic by their owner: one C2PA manifest in each, and nothing else in it.

The specification: https://spec.c2pa.org (claims of version 2). Signing needs the extra `[c2pa]`;
whether a box is such a manifest is checked without it. Whether the signature holds, and whether
its certificate is trusted, any reader of C2PA says.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.errors import MachineError, SfumatoError
from sfumato.releases.boxes import Box, read_box, read_cbor
from sfumato.releases.marking import SOURCE_TYPE, marked_png

CHUNK_TYPE = b"caBX"
AFTER_HEAD = 33  # bytes of a PNG before the chunk: the signature and IHDR
TITLE, TOOL = "synthetic picture", "sfumato"
LIBRARY = "org.contentauth.c2pa_rs"
ACTION = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
KIND = bytes.fromhex("00110010800000aa00389b71")  # behind four letters
PARTS = {"c2pa.assertions": b"c2as", "c2pa.claim.v2": b"c2cl", "c2pa.signature": b"c2cs"}
MOST_CERTIFICATES, MOST_SIGNED = 8, 1024
ALGORITHM, CHAIN = 1, 33  # COSE's numbers (RFC 9052, RFC 9360)


class Signatory:
    """Signs pictures with an owner's certificate.

    Args:
        certificate: PEM file: the owner's certificate, then those that lead to its issuer.
        key: PEM file of its private key, without a password.

    Raises:
        SfumatoError: No extra, or the two are not a certificate for signing and its key.
    """

    def __init__(self, certificate: str | Path, key: str | Path):
        try:
            import c2pa
        except ImportError:
            raise MachineError(
                "signing pictures needs the extra: pip install 'sfumato[c2pa]'"
            ) from None
        chain, secret = _read(certificate, "--c2pa-certificate"), _read(key, "--c2pa-key")
        info = c2pa.C2paSignerInfo(
            alg=_algorithm(secret), sign_cert=chain, private_key=secret, ta_url=None
        )
        try:
            self._signer = c2pa.Signer.from_info(info)
            # By default the library puts a thumbnail of 1024 pixels into each picture.
            self._settings = c2pa.Context(
                c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
            )
            self._c2pa: Any = c2pa
            self.png(np.zeros((8, 8, 3), np.uint8))
        except c2pa.C2paError as error:
            said = " ".join(str(error).split())[:160]
            raise SfumatoError(
                f"--c2pa-certificate and --c2pa-key do not sign ({said}): give a certificate for"
                " signing, followed by its issuers, and the key that belongs to it"
            ) from None

    def png(self, image: np.ndarray) -> bytes:
        """A picture as PNG with the mark of `marking` and a signed manifest.

        Args:
            image: uint8 [height, width, 3].

        Returns:
            The file's bytes: without the manifest's chunk, those of `marked_png`.
        """
        marked, signed = marked_png(image), io.BytesIO()
        manifest = {
            "claim_generator_info": [{"name": TOOL}],
            "title": TITLE,
            "format": "image/png",
            "assertions": [{"label": "c2pa.actions", "data": {"actions": [ACTION]}}],
        }
        builder = self._c2pa.Builder(manifest, self._settings)
        builder.sign(self._signer, "image/png", io.BytesIO(marked), signed)
        data = signed.getvalue()
        size = int.from_bytes(data[AFTER_HEAD : AFTER_HEAD + 4], "big") + 12
        if data[:AFTER_HEAD] + data[AFTER_HEAD + size :] != marked:
            raise MachineError("c2pa changed more of a picture than its manifest: say so")
        check_box(data, AFTER_HEAD, "a signed picture")
        return data


def _read(path: str | Path, flag: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SfumatoError(f"{flag} cannot be read: {error.strerror}") from None


def _algorithm(secret: bytes) -> bytes:
    """C2PA's name of the signature that a key makes."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(secret, password=None)
    except (ValueError, TypeError):
        raise SfumatoError("--c2pa-key is no PEM key without a password: give one") from None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return {256: b"es256", 384: b"es384", 521: b"es512"}.get(key.curve.key_size, b"es256")
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    raise SfumatoError("--c2pa-key is of a kind that C2PA does not know: give an EC or RSA key")


def check_box(data: bytes, at: int, name: str) -> None:
    """Refuses a manifest that says anything else than that a model drew these very bytes.

    What may differ from picture to picture: two random identifiers, two salts, the hash of the
    other bytes of the file, the owner's certificates and the signature.

    Args:
        data: The PNG.
        at: Where the manifest's chunk begins.
        name: What the file is called.

    Raises:
        SfumatoError: It is another manifest, or of another file.
    """
    size = int.from_bytes(data[at : at + 4], "big")
    box, rest = data[at + 8 : at + 8 + size], data[:at] + data[at + 12 + size :]
    try:
        fits = at == AFTER_HEAD and _fits(read_box(box), size + 12, hashlib.sha256(rest).digest())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        fits = False
    crc = struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0]
    if not fits or crc != _crc(CHUNK_TYPE + box):
        raise SfumatoError(
            f"{name} has a C2PA manifest that says more, or something else, than that a model drew"
            " it: synthesize again"
        )


def _crc(data: bytes) -> int:
    import zlib

    return zlib.crc32(data)


def _fits(store: Box, chunk: int, rest: bytes) -> bool:
    (manifest,) = store.boxes
    whole = _plain(store, "c2pa", b"c2pa") and manifest.kind == b"c2ma" + KIND
    whole = whole and not manifest.salt and bool(re.fullmatch("urn:c2pa:" + UUID, manifest.label))
    parts = {part.label: part for part in manifest.boxes}
    whole = whole and list(parts) == list(PARTS) and len(manifest.boxes) == len(PARTS)
    whole = whole and all(_plain(part, name, PARTS[name]) for name, part in parts.items())
    actions, bound = parts["c2pa.assertions"].boxes
    claim, signature = parts["c2pa.claim.v2"], parts["c2pa.signature"]
    whole = whole and [actions.label, bound.label] == ["c2pa.actions.v2", "c2pa.hash.data"]
    whole = whole and all(one.kind == b"cbor" + KIND for one in (actions, bound))
    whole = whole and _value(actions) == {"actions": [ACTION]}
    whole = whole and _is_bound(_value(bound), chunk, rest)
    whole = whole and _is_claim(_value(claim), manifest.label)
    return whole and _is_signature(_value(signature))


def _plain(box: Box, label: str, kind: bytes) -> bool:
    return box.label == label and box.kind == kind + KIND and not box.salt


def _value(box: Box) -> Any:
    if box.content is None or box.boxes:
        raise ValueError("not one value")
    return read_cbor(box.content)


def _is_bound(value: dict[str, Any], chunk: int, rest: bytes) -> bool:
    pad = value.pop("pad", b"")
    return not pad.strip(b"\0") and value == {
        "exclusions": [{"start": AFTER_HEAD, "length": chunk}],
        "name": "jumbf manifest",
        "alg": "sha256",
        "hash": rest,
    }


def _is_claim(value: dict[str, Any], label: str) -> bool:
    made, instance = value.pop("claim_generator_info"), value.pop("instanceID")
    lists = value.pop("created_assertions"), value.pop("gathered_assertions")
    named = ["self#jumbf=c2pa.assertions/c2pa.hash.data"]
    named += ["self#jumbf=c2pa.assertions/c2pa.actions.v2"]
    hashed = all(
        len(found) == 1 and set(found[0]) == {"url", "hash"} and found[0]["url"] == url
        for found, url in zip(lists, named)
    )
    right = hashed and all(len(found[0]["hash"]) == 32 for found in lists)
    right = right and set(made) == {"name", LIBRARY} and made["name"] == TOOL
    right = right and bool(re.fullmatch(r"\d{1,4}(\.\d{1,4}){2}", made[LIBRARY]))
    right = right and bool(re.fullmatch("xmp.iid:" + UUID, instance))
    return right and value == {
        "signature": f"self#jumbf=/c2pa/{label}/c2pa.signature",
        "dc:title": TITLE,
        "alg": "sha256",
    }


def _is_signature(value: Any) -> bool:
    """COSE_Sign1 with an algorithm, certificates, padding and a signature, and nothing else."""
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import load_der_x509_certificate

    _, number, (protected, more, payload, signature) = value
    said = read_cbor(protected)
    chain = said[CHAIN] if isinstance(said[CHAIN], list) else [said[CHAIN]]
    return (
        number == 18
        and payload is None
        and set(more) <= {"pad"}
        and not more.get("pad", b"").strip(b"\0")
        and set(said) == {ALGORITHM, CHAIN}
        and isinstance(said[ALGORITHM], int)
        and 1 <= len(chain) <= MOST_CERTIFICATES
        and all(load_der_x509_certificate(one).public_bytes(Encoding.DER) == one for one in chain)
        and 32 <= len(signature) <= MOST_SIGNED
    )

"""Pictures that their owner signs: the library finds the signature good, and a box that says
anything else than that a model drew these bytes is refused, also without the library.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib

import c2pa
import numpy as np
import pytest
from PIL import Image

from sfumato.errors import MachineError, SfumatoError
from sfumato.options import Signing
from sfumato.releases import marked_png, verify, write_release
from sfumato.releases.boxes import read_box, read_cbor
from sfumato.releases.credentials import AFTER_HEAD, Signatory, check_box
from sfumato.releases.formats import check_png
from sfumato.releases.marking import SOURCE_TYPE
from sfumato.synthesis.dataset import _Parquet

from . import authority

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


@pytest.fixture(scope="module")
def owner(tmp_path_factory):
    return authority.make(tmp_path_factory.mktemp("owner"))


@pytest.fixture(scope="module")
def signed(owner) -> bytes:
    return Signatory(owner.chain, owner.key).png(IMAGE)


def read(data: bytes, root=None) -> c2pa.Reader:
    trust = {} if root is None else {"trust": {"trust_anchors": root.read_text()}}
    settings = c2pa.Settings.from_dict({"verify": {"verify_trust": root is not None}} | trust)
    return c2pa.Reader("image/png", io.BytesIO(data), context=c2pa.Context(settings))


def box_of(data: bytes) -> bytes:
    size = int.from_bytes(data[AFTER_HEAD : AFTER_HEAD + 4], "big")
    return data[AFTER_HEAD + 8 : AFTER_HEAD + 8 + size]


def with_box(data: bytes, box: bytes) -> bytes:
    old = len(box_of(data)) + 12
    chunk = struct.pack(">I", len(box)) + b"caBX" + box
    chunk += struct.pack(">I", zlib.crc32(b"caBX" + box))
    return data[:AFTER_HEAD] + chunk + data[AFTER_HEAD + old :]


def test_the_library_trusts_the_signature_and_the_rest_is_the_marked_picture(signed, owner):
    reader = read(signed, owner.root)
    assert reader.get_validation_state() == "Trusted"
    said = json.loads(reader.json())
    (manifest,) = said["manifests"].values()
    (actions,) = manifest["assertions"]
    assert actions["data"] == {
        "actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}]
    }
    assert "thumbnail" not in manifest and "ingredients" not in manifest
    assert manifest["signature_info"]["common_name"] == "An owner"
    assert with_box(signed, b"")[:AFTER_HEAD] + signed[AFTER_HEAD + 12 + len(box_of(signed)) :] == (
        marked_png(IMAGE)
    )
    assert (np.asarray(Image.open(io.BytesIO(signed))) == IMAGE).all()
    check_png(signed, "a picture")


def test_the_check_needs_no_library(signed, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    check_png(signed, "a picture")
    with pytest.raises(MachineError, match="sfumato\\[c2pa\\]"):
        Signatory("chain.pem", "key.pem")


def other_manifest(owner, **changes) -> bytes:
    """A picture that the same owner signed with a manifest of another kind."""
    settings = {"builder": {"thumbnail": {"enabled": changes.pop("thumbnail", False)}}}
    info = c2pa.C2paSignerInfo(
        alg=b"es256",
        sign_cert=owner.chain.read_bytes(),
        private_key=owner.key.read_bytes(),
        ta_url=None,
    )
    manifest = {
        "claim_generator_info": [{"name": "sfumato"}],
        "title": "synthetic picture",
        "format": "image/png",
        "assertions": [
            {
                "label": "c2pa.actions",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}]},
            }
        ],
    } | changes
    found = io.BytesIO()
    context = c2pa.Context(c2pa.Settings.from_dict(settings))
    builder = c2pa.Builder(manifest, context)
    signer = c2pa.Signer.from_info(info)
    builder.sign(signer, "image/png", io.BytesIO(marked_png(IMAGE)), found)
    return found.getvalue()


NOTE = {"label": "org.ward.note", "data": {"patient": "seven"}}
OTHER = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE.replace("trained", "")}
ACTIONS = {
    "label": "c2pa.actions",
    "data": {
        "actions": [
            {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "description": "ward 7"}
        ]
    },
}


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "patient 7"},
        {"assertions": [ACTIONS]},
        {"assertions": [ACTIONS | {"data": {"actions": [OTHER]}}]},
        {"claim_generator_info": [{"name": "sfumato", "ward": "7"}]},
        {"claim_generator_info": [{"name": "ward 7"}]},
        {"thumbnail": True},
        {"assertions": [ACTIONS, NOTE]},
    ],
    ids=["title", "action", "other action", "more of the tool", "tool", "thumbnail", "assertion"],
)
def test_a_manifest_that_says_anything_else_is_refused_though_it_is_signed(owner, changes):
    data = other_manifest(owner, **changes)
    assert read(data, owner.root).get_validation_state() in ("Trusted", "Invalid")
    with pytest.raises(SfumatoError, match="a C2PA manifest that says more"):
        check_png(data, "a picture")


def test_the_same_manifest_by_the_same_calls_passes(owner):
    check_png(other_manifest(owner), "a picture")


@pytest.mark.parametrize("where", ["pad of the signature", "pad of the hash", "behind", "salt"])
def test_nothing_hides_in_the_box(signed, where):
    box = box_of(signed)
    if where == "behind":
        data = with_box(signed, box + b"\0\0\0\x0cfreeward")
    elif where == "pad of the signature":
        data = with_box(signed, box[:-100] + b"patient 7" + box[-91:])
    elif where == "pad of the hash":
        at = box.index(b"cpadH") + 5
        data = with_box(signed, box[:at] + b"patient7" + box[at + 8 :])
    else:
        at = box.index(b"c2sh") - 4
        data = with_box(signed, box[:at] + b"\0\0\0\x19" + box[at + 4 :])
    with pytest.raises(SfumatoError, match="a C2PA manifest that says more"):
        check_png(data, "a picture")


def test_a_box_of_another_picture_or_at_another_place_is_refused(signed, owner):
    other = Signatory(owner.chain, owner.key).png(255 - IMAGE)
    for data in (
        with_box(signed, box_of(other)),
        with_box(signed, box_of(signed)[:100]),
        with_box(signed, b""),
    ):
        with pytest.raises(SfumatoError, match="a C2PA manifest that says more"):
            check_png(data, "a picture")
    size = len(box_of(signed)) + 12
    chunk = signed[AFTER_HEAD : AFTER_HEAD + size]
    twice = signed[:AFTER_HEAD] + chunk + signed[AFTER_HEAD:]
    with pytest.raises(SfumatoError):
        check_png(twice, "a picture")
    late = signed[:AFTER_HEAD] + signed[AFTER_HEAD + size : -12] + chunk + signed[-12:]
    with pytest.raises(SfumatoError):
        check_png(late, "a picture")
    torn = bytearray(signed)
    torn[AFTER_HEAD + size - 1] ^= 1
    with pytest.raises(SfumatoError):
        check_box(bytes(torn), AFTER_HEAD, "a picture")


@pytest.mark.parametrize("form", ["imagefolder", "parquet"])
def test_a_release_of_signed_pictures_verifies_and_its_card_says_so(kit, owner, tmp_path, form):
    sign, source = Signatory(owner.chain, owner.key).png, tmp_path / "s"
    kit.images(source, n=4)
    pngs = sorted(source.rglob("*.png"))
    signed = [sign(np.asarray(Image.open(path))) for path in pngs]
    if form == "parquet":
        source = tmp_path / "p"
        source.mkdir()
        writer = _Parquet(source, 4, (0, 1))
        for i, data in enumerate(signed):
            writer.add(i, data, "cat", "a picture of a cat", 0, i)
        writer.close()
    else:
        for path, data in zip(pngs, signed):
            path.write_bytes(data)
    out = write_release(source, tmp_path / "release", **kit.facts(settings=None))
    assert verify(out).ok and "signed, C2PA" in (out / "README.md").read_text("utf-8")


def test_what_does_not_sign_is_one_line(owner, tmp_path):
    other = authority.make(tmp_path)
    for chain, key, said in (
        (tmp_path / "none.pem", owner.key, "--c2pa-certificate cannot be read"),
        (owner.chain, owner.chain, "--c2pa-key is no PEM key"),
        (owner.chain, other.key, "do not sign"),
        (owner.key, owner.key, "do not sign"),
    ):
        with pytest.raises(SfumatoError, match=said) as told:
            Signatory(chain, key)
        assert "\n" not in str(told.value)
    with pytest.raises(SfumatoError, match="go together"):
        _ = Signing(c2pa_key="key.pem").pair


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0\0\x07jumb", b"\0\0\0\x08jumb", b"\xff" * 40, b"\0\0\0\x10jumb\0\0\0\x08jumd"],
)
def test_a_torn_box_is_a_value_error(data):
    with pytest.raises(ValueError):
        read_box(data)


@pytest.mark.parametrize(
    "data", [b"", b"\xa1\x01", b"\x5f\xff", b"\xa2\x01\x01\x01\x02", b"\x01\x01", b"\xfb"]
)
def test_torn_cbor_is_a_value_error(data):
    with pytest.raises(ValueError):
        read_cbor(data)

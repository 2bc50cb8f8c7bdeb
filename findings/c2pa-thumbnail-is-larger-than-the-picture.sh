#!/usr/bin/env bash
# c2pa-python 0.38.1: signing a small picture with default settings adds a thumbnail that is larger than the picture, enlarged to
# 1024 pixels: the file of a 32x32 PNG grows from about 3 kB to about 190 kB, and the thumbnail holds a second copy of the pixels.
# Seen (a 32x32 picture of noise): thumbnail image/png of 1024x1024; with builder.thumbnail.enabled = false the file grows by the manifest alone.
# Guess: a thumbnail is at most as large as its picture, and a small picture gets none.
# Why it matters: a data set of small synthetic pictures grows sixty times, and pixels stand in a metadata box that whoever checks or
# removes pictures by their IDAT does not look at.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile --disable-pip-version-check c2pa-python==0.38.1 cryptography==50.0.2 pillow==13.0.0
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PY'
import datetime
import io
import json
import random
import sys

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image


def named(common):
    pairs = ((NameOID.ORGANIZATION_NAME, "A test"), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(*pair) for pair in pairs])


def certificate(subject, key, issuer, by, authority):
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    uses = [not authority, False, False, False, False, authority, authority, False, False]
    made = x509.CertificateBuilder().subject_name(named(subject)).issuer_name(named(issuer))
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - day).not_valid_after(now + 30 * day)
    made = made.add_extension(x509.BasicConstraints(authority, None), True).add_extension(x509.KeyUsage(*uses), True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    if not authority:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    return made.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


root, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
chain = certificate("Owner", own, "Root", root, False) + certificate("Root", root, "Root", root, True)
form, kind = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
key = own.private_bytes(kind, form, serialization.NoEncryption())
signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None))
action = {"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}
manifest = {"format": "image/png", "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}]}
manifest["claim_generator_info"] = [{"name": "test"}]
picture = io.BytesIO()
Image.frombytes("RGB", (32, 32), random.Random(0).randbytes(32 * 32 * 3)).save(picture, "PNG")


def signed(**settings):
    made = io.BytesIO()
    context = c2pa.Context(c2pa.Settings.from_dict(settings)) if settings else c2pa.Context()
    c2pa.Builder(manifest, context).sign(signer, "image/png", io.BytesIO(picture.getvalue()), made)
    return made.getvalue()


default, without = signed(), signed(builder={"thumbnail": {"enabled": False}})
reader = c2pa.Reader("image/png", io.BytesIO(default))
shown = json.loads(reader.json())["manifests"][json.loads(reader.json())["active_manifest"]]["thumbnail"]
held = io.BytesIO()
reader.resource_to_stream(shown["identifier"], held)
size = Image.open(io.BytesIO(held.getvalue())).size
print(f"picture 32x32, {len(picture.getvalue())} bytes; signed {len(default)} with a thumbnail of {size}; {len(without)} without")
if size != (1024, 1024) or len(default) < 20 * len(without):
    sys.exit("changed: a thumbnail is not larger than its picture")
PY

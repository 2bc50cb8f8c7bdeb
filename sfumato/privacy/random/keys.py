"""The run key: 32 bytes of the operating system, the source of all secret random numbers of a run.

A random number depends on the key and its address only. Two worlds never meet: the public
experiment seed drives initialisation and synthesis, the run key drives sampling, noise and per-unit
draws. No global generator (Python, numpy, torch) is read or written here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from sfumato.privacy.files import BINARY, open_to_others

FORMAT_VERSION = 1
KEY_BYTES = 32
PURPOSES = frozenset({"sample", "noise", "ties", "unit", "select", "histogram", "aggregate"})
_NONCE = bytes(16)  # a subkey is used for one stream only, so the nonce carries nothing
_BLOCK = 8  # words of one ChaCha block
_CHUNK = 1 << 16  # words worked on at a time; stays in cache
_ZEROS = memoryview(bytes(8 * _CHUNK))


def _uniform(words: np.ndarray) -> np.ndarray:
    """uint64 words -> float64 in [0, 1), 53 bits each."""
    return (words >> np.uint64(11)) * 2.0**-53


def _normal(words: np.ndarray) -> np.ndarray:
    """Returns float64 standard normals [..., 2m] for words uint64 [..., 2m] (Box-Muller).

    Elements 2i and 2i+1 come from words 2i and 2i+1.
    """
    pairs = (
        (words >> np.uint64(11))
        .astype(np.float64)
        .reshape(*words.shape[:-1], words.shape[-1] // 2, 2)
    )
    radius = np.log((pairs[..., 0] + 1.0) * 2.0**-53)  # argument in (0, 1]: never log 0
    radius *= -2.0
    np.sqrt(radius, out=radius)
    # cos a = 2 / (1 + t^2) - 1 and sin a = 2 t / (1 + t^2) with t = tan(a / 2): one vectorised
    # function instead of two slow ones.
    half = np.tan(pairs[..., 1] * (np.pi * 2.0**-53))
    share = 2.0 / (1.0 + half * half)
    np.multiply(radius, share - 1.0, out=pairs[..., 0])
    share *= half
    np.multiply(radius, share, out=pairs[..., 1])
    return pairs.reshape(words.shape)


class Stream:
    """One ChaCha20 keystream; consecutive calls continue it.

    A call of odd size drops half a pair of normals. start: how many words of the stream are skipped
    (its blocks are counted, so this costs nothing).
    """

    __slots__ = ("_cipher",)

    def __init__(self, subkey: bytes, start: int = 0):
        nonce = (start // _BLOCK).to_bytes(8, "little") + _NONCE[8:]
        self._cipher = Cipher(ChaCha20(subkey, nonce), mode=None).encryptor()
        self._cipher.update(_ZEROS[: 8 * (start % _BLOCK)])

    def words(self, n: int) -> np.ndarray:
        """`n` unsigned 64-bit words, uint64 [n] (little-endian keystream)."""
        out = np.empty(n, dtype="<u8")
        for start in range(0, n, _CHUNK):
            part = out[start : start + _CHUNK]
            self._cipher.update_into(_ZEROS[: part.nbytes], part.view(np.uint8).data)
        return out

    def uniform(self, n: int) -> np.ndarray:
        """`n` uniforms in [0, 1) with 53 bits, float64 [n]."""
        return _uniform(self.words(n))

    def normal(self, n: int) -> np.ndarray:
        """Returns `n` standard normals, float64 [n].

        It takes 2 * ceil(n / 2) words, so a shorter draw is a prefix of a longer one.
        """
        if n <= _CHUNK:
            return _normal(self.words(n + n % 2))[:n]
        out = np.empty(n)
        for start in range(0, n, _CHUNK):
            count = min(_CHUNK, n - start)
            out[start : start + count] = _normal(self.words(count + count % 2))[:count]
        return out


class RunKey:
    """32 secret bytes; as sensitive as the data, because key + any noisy output = the exact sum.

    `id` (16 hex digits: the first 8 bytes of SHA-256("id" + key)) is the only thing derived from
    the key that may be published. Raises ValueError unless given exactly 32 bytes.
    """

    __slots__ = ("_secret", "id")

    def __init__(self, secret: bytes):
        if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
            raise ValueError(f"a run key is {KEY_BYTES} bytes: make one with RunKey.generate()")
        self._secret = secret
        self.id = hashlib.sha256(b"id" + secret).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"RunKey(id={self.id})"

    def __reduce__(self):
        raise TypeError("a run key is never pickled: load it from the private run folder")

    @classmethod
    def generate(cls) -> RunKey:
        """A fresh key from the operating system's random source."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunKey:
        """The key kept at `path`; ValueError if missing, damaged or readable by other users."""
        path = Path(path)
        try:
            text, shared = path.read_bytes(), open_to_others(path)
        except OSError as error:
            raise ValueError(
                f"the run key cannot be read ({error.strerror}): resume needs the private run"
                " folder"
            ) from error
        if shared:
            raise ValueError(
                "the run key is readable by other users: set its mode to 0600 (chmod 600)"
            )
        try:
            return cls(bytes.fromhex(text.decode("ascii").strip()))
        except (UnicodeDecodeError, ValueError) as error:
            raise ValueError("the run key is damaged: start a new run") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the key to `path` with mode 0600.

        Raises:
            ValueError: The file exists: a key is never overwritten.
        """
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600)
        except FileExistsError as error:
            raise ValueError("a run key exists here already: use a new run folder") from error
        with os.fdopen(handle, "wb") as file:
            file.write(self._secret.hex().encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def for_attempt(self, salt: str) -> RunKey:
        """Returns the key of one attempt, derived from this key and `salt`; `id` stays.

        A copied run folder draws another salt for its next attempt, so no two attempts ever share
        noise.

        Args:
            salt: Fresh random bytes (hex) that the ledger has recorded.
        """
        key = RunKey(hmac.digest(self._secret, b"attempt" + bytes.fromhex(salt), "sha256"))
        key.id = self.id
        return key

    @staticmethod
    def fresh_salt() -> str:
        """16 bytes of the operating system, hex."""
        return os.urandom(16).hex()

    @staticmethod
    def erase(path: str | os.PathLike[str]) -> None:
        """Overwrite the key's file, sync, and remove it; nothing if it is gone.

        Best effort: an SSD may keep old blocks.
        """
        try:
            handle = os.open(path, os.O_WRONLY | BINARY)
        except FileNotFoundError:
            return
        try:
            os.write(handle, b"0" * max(os.fstat(handle).st_size, 1))
            os.fsync(handle)
        finally:
            os.close(handle)
        os.unlink(path)

    def _prefix(self, purpose: str, step: int, attempt: int) -> tuple[str, str]:
        """The canonical JSON address, cut where the name goes."""
        if purpose not in PURPOSES:
            raise ValueError(
                f"unknown purpose for the run key: use one of {', '.join(sorted(PURPOSES))}"
            )
        step, attempt = _counter(step, "step"), _counter(attempt, "attempt")
        return (
            f'{{"attempt":{attempt},"name":',
            f',"purpose":"{purpose}","step":{step},"version":{FORMAT_VERSION}}}',
        )

    def _subkey(self, prefix: tuple[str, str], name: str) -> bytes:
        return hmac.digest(
            self._secret, f"{prefix[0]}{json.dumps(name)}{prefix[1]}".encode(), "sha256"
        )

    def stream(
        self, purpose: str, step: int, attempt: int, name: str = "", start: int = 0
    ) -> Stream:
        """Returns the keystream of one address.

        Rank, world size, device and time are never part of it. ValueError for another purpose or a
        negative counter.

        Args:
            purpose: sample, noise, ties, unit, select, histogram or aggregate.
            step: The logical step.
            attempt: The attempt (a resumed run has several).
            name: The tensor's name for noise, the unit's number for unit.
            start: The first word.
        """
        return Stream(self.subkey(purpose, step, attempt, name), _counter(start, "start"))

    def subkey(self, purpose: str, step: int, attempt: int, name: str = "") -> bytes:
        """The 32 bytes of one address's cipher, for a device that runs the cipher itself."""
        return self._subkey(self._prefix(purpose, step, attempt), str(name))

    def words_for(
        self, purpose: str, step: int, attempt: int, names: Sequence[str], count: int
    ) -> np.ndarray:
        """Returns words of several streams, uint64 [len(names), count].

        Row i equals `stream(purpose, step, attempt, names[i]).words(count)`.

        Args:
            purpose: As in `stream`.
            step: The logical step.
            attempt: The attempt.
            names: One per row.
            count: Words per row.
        """
        prefix, size = self._prefix(purpose, step, attempt), 8 * count
        zeros = _ZEROS[:size] if count <= _CHUNK else bytes(size)
        parts = [
            Cipher(ChaCha20(self._subkey(prefix, str(name)), _NONCE), mode=None)
            .encryptor()
            .update(zeros)
            for name in names
        ]
        return np.frombuffer(b"".join(parts), dtype="<u8").reshape(len(parts), count)

    def normals_for(
        self, purpose: str, step: int, attempt: int, names: Sequence[str], count: int
    ) -> np.ndarray:
        """Returns standard normals of several streams, float64 [len(names), count].

        Row i equals `stream(..., names[i]).normal(count)`.

        Args:
            purpose: As in `stream`.
            step: The logical step.
            attempt: The attempt.
            names: One per row.
            count: Normals per row.
        """
        return _normal(self.words_for(purpose, step, attempt, names, count + count % 2))[:, :count]

    def uniforms_for(
        self, purpose: str, step: int, attempt: int, names: Sequence[str], count: int
    ) -> np.ndarray:
        """Returns uniforms in [0, 1) of several streams, float64 [len(names), count].

        Row i equals `stream(..., names[i]).uniform(count)`.

        Args:
            purpose: As in `stream`.
            step: The logical step.
            attempt: The attempt.
            names: One per row.
            count: Uniforms per row.
        """
        return _uniform(self.words_for(purpose, step, attempt, names, count))


def _counter(value: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise ValueError(f"{what} counts from 0: give an integer >= 0")
    return int(value)

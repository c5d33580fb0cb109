"""What a listener's browser is handed, so that nothing in it tells clips apart: opaque tokens, sealed audio, and receipts that prove what was delivered.

All of it is derived from the study's secret, so nothing has to be remembered: a restart of the server changes nothing for a listener. Knows no studies.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import NamedTuple

import numpy as np

_KEY_BYTES = 256


class Sealed(NamedTuple):
    """Audio on the wire: `sealed` is the WAV, each byte combined by exclusive or with the repeated `key`; both in base64."""

    sealed: str
    key: str


def seal(wav: bytes) -> Sealed:
    """Make `wav` unlike itself, another way each time, so that equal clips (the X of an ABX and its twin) are not equal on their way.

    It keeps honest listeners honest: who writes a program against the page can open it, as the page does.
    """
    key = np.frombuffer(secrets.token_bytes(_KEY_BYTES), np.uint8)
    data = np.frombuffer(wav, np.uint8)
    mixed = np.bitwise_xor(data, np.resize(key, data.shape))
    return Sealed(base64.b64encode(mixed.tobytes()).decode("ascii"), base64.b64encode(key.tobytes()).decode("ascii"))


def clip_token(secret: str, session: str, trial: int, slot: int) -> str:
    """The name of a slot of a trial for one listener: 128 bits that say nothing to anybody without the secret."""
    return _mac(secret, f"clip/{session}/{trial}/{slot}")


def receipt(secret: str, token: str, milliseconds: int) -> str:
    """Proof that the clip `token` was handed out at `milliseconds` (since the epoch)."""
    return f"{milliseconds}.{_mac(secret, f'receipt/{token}/{milliseconds}')}"


def read_receipt(secret: str, token: str, given: object) -> int | None:
    """When the clip `token` was handed out, in milliseconds since the epoch; None unless `given` is a receipt of ours for it."""
    stamp = given.partition(".")[0] if isinstance(given, str) else ""
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) < 16):
        return None
    return int(stamp) if hmac.compare_digest(str(given).encode("utf-8", "replace"), receipt(secret, token, int(stamp)).encode()) else None


def _mac(secret: str, message: str) -> str:
    digest = hmac.new(bytes.fromhex(secret), message.encode(), hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")

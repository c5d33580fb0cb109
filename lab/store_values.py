"""What the parts of the store share: unguessable tokens, what is said where nothing is found, JSON that comes back exactly, the time.

Knows no tables, no files, and nothing about what the values mean.
"""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from lab.migrations import StoreError

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")  # what secrets.token_urlsafe(16) makes: 128 random bits


class NotFound(StoreError):
    """Nothing is stored under that name."""


def new_token() -> str:
    """Return a fresh token: 22 URL-safe characters that nobody can guess."""
    token = secrets.token_urlsafe(16)
    return token if token[0] != "-" else new_token()  # a command line would take it for an option


def checked_token(token: str, what: str) -> str:
    """Return `token` if it could name a `what` ("comparison", "voice", …). Raises `NotFound` if it is none at all."""
    if not _TOKEN.fullmatch(token):
        raise not_found(what)
    return token


def not_found(what: str) -> NotFound:
    """Return the error for a `what` that is not there."""
    return NotFound(f"There is no such {what}. The link may be incomplete, or the {what} was deleted.")


def exact_json(value: Any, what: str) -> str:
    """Return `value` as ASCII JSON that reads back as an equal value. Raises `StoreError`, which names `what`, if there is none.

    ASCII, because neither database keeps every text as it is: PostgreSQL refuses a NUL, and both refuse half a surrogate pair.
    """
    try:
        text = json.dumps(value, allow_nan=False)
        exact = json.loads(text) == value
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"The {what} are not JSON: {error}. Give plain numbers, texts, lists and objects.") from error
    if not exact:
        raise StoreError(f"The {what} would change if stored as JSON. Use lists for tuples and texts for keys.")
    return text


def now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)

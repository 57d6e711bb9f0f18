"""The cursor of a page: what the next page needs to know, as text that clients hand back unread.

    base64url( checksum · version · request · plane · version of the index · number of hits · 6 bytes of each hit's id ·
        pins as JSON )

It holds no secret and grants nothing: the request that comes with it decides on the tenant and the condition. So the
checksum guards against damage, not against forgery, and all values are checked as input of a stranger. There is no
state on a server: any replica continues a search that another one began.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import struct
from dataclasses import dataclass
from typing import Any

from penstock.errors import QueryError
from penstock.query.fusion.pins import FusionPins
from penstock.query.fusion.statistics import Spread

VERSION = 2
DIGEST_BYTES = 8
# Of two among a thousand hits the first 48 bits are equal with a probability of 2e-9.
HIT_BYTES = 6
_CHECKSUM_BYTES = 8
_HEAD = struct.Struct(f">{DIGEST_BYTES}s{DIGEST_BYTES}sIH")
# Each pinned channel takes some 80 characters, and the largest profile has a dozen.
_MAX_PINS_CHARS = 4_096
_MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Cursor:
    """The position of a page in the hits of its search.

    Attributes:
        request: 8 bytes of the fingerprint of the request.
        plane: 8 bytes that identify the models and the calibration.
        shown: 6 bytes of each hit that the pages before took, in order.
        pins: what their order depended on.
        index_version: that was searched.
    """

    request: bytes
    plane: bytes
    shown: tuple[bytes, ...]
    pins: FusionPins
    index_version: int = 1


def encode_cursor(cursor: Cursor) -> str:
    """Returns the cursor as text of letters, digits, hyphens and underscores."""
    spreads = {name: [spread.mean, spread.deviation] for name, spread in cursor.pins.spreads.items()}
    pins = json.dumps({"spreads": spreads, "first": cursor.pins.first}, separators=(",", ":"), allow_nan=False)
    head = _HEAD.pack(cursor.request, cursor.plane, cursor.index_version, len(cursor.shown))
    content = bytes([VERSION]) + head + b"".join(cursor.shown) + pins.encode()
    return _text(_checksum(content) + content)


def decode_cursor(text: str, *, max_hits: int) -> Cursor:
    """Returns the cursor of a text.

    Args:
        text: of the request.
        max_hits: that the pages of one search have together.

    Raises:
        QueryError: 400 for what `encode_cursor` has not returned, 410 for what another version of it has.
    """
    broken = QueryError(
        "cursor is damaged, or was not answered by this API: send next_cursor of the page before as it is, or leave "
        "cursor out to begin with the first page",
        field="/cursor",
    )
    longest = _CHECKSUM_BYTES + 1 + _HEAD.size + HIT_BYTES * max_hits + _MAX_PINS_CHARS
    if len(text) > longest * 4 // 3 + 4:
        raise broken
    try:
        data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise broken from exc
    checksum, content = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    if not content or checksum != _checksum(content) or _text(data) != text:
        raise broken
    if content[0] != VERSION:
        raise outdated("another version of Penstock")
    try:
        return _parse(content[1:])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, struct.error, RecursionError) as exc:
        raise broken from exc


def outdated(maker: str) -> QueryError:
    """Returns the error of a cursor that was right once: 410 (Gone)."""
    return QueryError(
        f"cursor was made by {maker} and cannot be continued: leave it out to begin with the first page",
        status=410,
        field="/cursor",
    )


def _parse(content: bytes) -> Cursor:
    """Raises one of several errors for what is not a cursor; JSON of a thousand brackets is a RecursionError."""
    request, plane, index_version, count = _HEAD.unpack_from(content)
    end = _HEAD.size + HIT_BYTES * count
    if len(content) < end or len(content) - end > _MAX_PINS_CHARS:
        raise ValueError("the lengths do not fit")
    shown = tuple(content[at : at + HIT_BYTES] for at in range(_HEAD.size, end, HIT_BYTES))
    pins: Any = json.loads(content[end:])
    spreads = {str(name)[:_MAX_NAME_CHARS]: Spread(*map(float, spread)) for name, spread in pins["spreads"].items()}
    first = pins["first"]
    if not (first is None or isinstance(first, str)):
        raise ValueError("the first kind is not a name")
    if not all(math.isfinite(spread.mean) and 0 <= spread.deviation < math.inf for spread in spreads.values()):
        raise ValueError("a spread is not a number")
    return Cursor(request, plane, shown, FusionPins(spreads, first, noted=True), index_version)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _checksum(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES, person=b"pst-cursor").digest()

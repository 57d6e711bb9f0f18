"""Checks which parts a request has, their weights, and the entries that it names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set

from penstock.errors import QueryError
from penstock.query.parts.base import PartsRequest, QueryPart, QueryParts
from penstock.query.types import SearchRequest
from penstock.query.understand.text import normalise_text
from penstock.records import ImageRegion

# The vectors of a hundred entries are read in some 20 ms, and a mean of more says little.
MAX_ENTRIES = 100
# Each text is encoded: ten take as long as one long question.
MAX_NOT_TEXTS = 10
_ROUNDING = 1e-9  # 0.1 + 0.9 may be above 1
# The names of a request that a weight may have. The words of a spoken query are its text.
_WEIGHT_NAMES: Mapping[str, QueryPart] = {**{part.value: part for part in QueryPart}, "audio": QueryPart.TEXT}


def check_parts(request: SearchRequest) -> tuple[QueryParts, Set[QueryPart]]:
    """Returns the further parts of a request, and which of all its parts have a weight above 0.

    Raises:
        QueryError: with the field at fault.
    """
    parts_request = request.parts
    like = _entry_ids("like", parts_request.like)
    not_texts, not_like = _avoided(parts_request, like)
    if parts_request.frame is not None and not parts_request.frame.strip():
        raise QueryError("frame has an empty id: send the id of an image or a frame", field="/frame/id")
    given = {
        QueryPart.TEXT: request.text is not None or request.audio is not None,
        QueryPart.IMAGE: request.image is not None,
        QueryPart.FRAME: parts_request.frame is not None,
        QueryPart.LIKE: bool(like),
        QueryPart.NOT: bool(not_texts or not_like),
    }
    if not any(is_given for part, is_given in given.items() if part is not QueryPart.NOT):
        if given[QueryPart.NOT]:
            raise QueryError("`not` only says what to avoid: send text, image, audio, frame or like, too", field="/not")
        raise QueryError("nothing to search for: send text, image, audio, frame or like", field="/text")
    region = _region(parts_request.region, given)
    weights = _weights(request, {part for part, is_given in given.items() if is_given})
    kept = {part for part, is_given in given.items() if is_given and weights.get(part, 1.0) > 0}
    if kept <= {QueryPart.NOT}:
        raise QueryError("all weights of what to search for are 0: nothing is left to search for", field="/compose")
    parts = QueryParts(
        like=like if QueryPart.LIKE in kept else (),
        not_texts=not_texts if QueryPart.NOT in kept else (),
        not_like=not_like if QueryPart.NOT in kept else (),
        frame=parts_request.frame if QueryPart.FRAME in kept else None,
        region=region if kept & {QueryPart.IMAGE, QueryPart.FRAME} else None,
        weights={part: weight for part, weight in weights.items() if weight > 0},
        demanded=parts_request.compose is not None,
    )
    return parts, kept


def _entry_ids(name: str, ids: Sequence[str] | None, pointer: str = "/like") -> tuple[str, ...]:
    """Returns the ids once each; an empty list is an error."""
    if ids is None:
        return ()
    if not ids:
        raise QueryError(f"{name} is an empty list: leave it out, or send ids of entries", field=pointer)
    if len(ids) > MAX_ENTRIES:
        raise QueryError(f"{name} has {len(ids):,} entries, more than the maximum of {MAX_ENTRIES}", field=pointer)
    return tuple(dict.fromkeys(ids))


def _avoided(parts_request: PartsRequest, like: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the texts and the ids of entries to search away from."""
    texts = parts_request.not_texts
    if texts is not None and not texts:
        raise QueryError("not.text is an empty list: leave it out, or send words to avoid", field="/not/text")
    if texts is not None and len(texts) > MAX_NOT_TEXTS:
        message = f"not.text has {len(texts):,} texts, more than the maximum of {MAX_NOT_TEXTS}"
        raise QueryError(message, field="/not/text")
    not_texts = dict.fromkeys(
        normalise_text(text, name="a text of not", field=f"/not/text/{index}") for index, text in enumerate(texts or ())
    )
    not_like = _entry_ids("not.like", parts_request.not_like, "/not/like")
    for index, id_ in enumerate(parts_request.not_like or ()):
        if id_ in like:
            raise QueryError(f"entry {id_} is in like and in not.like", field=f"/not/like/{index}")
    return tuple(not_texts), not_like


def _region(region: ImageRegion | None, given: Mapping[QueryPart, bool]) -> ImageRegion | None:
    """Returns the region; None if it is all of the image."""
    if region is None:
        return None
    if not (given[QueryPart.IMAGE] or given[QueryPart.FRAME]):
        raise QueryError("region is a part of an image: send image or frame, too", field="/region")
    if given[QueryPart.IMAGE] and given[QueryPart.FRAME]:
        raise QueryError("region is a part of one image: send image or frame, not both", field="/region")
    for axis, start, side, length in (("x", region.x, "w", region.width), ("y", region.y, "h", region.height)):
        if not 0 <= start < 1:
            raise QueryError(
                f"region.{axis} is {start}; it can be 0 to below 1, a share of the side", field=f"/region/{axis}"
            )
        if not 0 < length <= 1:
            raise QueryError(f"region.{side} is {length}; it can be above 0 to 1", field=f"/region/{side}")
        if start + length > 1 + _ROUNDING:
            message = f"region.{axis} + region.{side} is {start + length:g}: the region leaves the image"
            raise QueryError(message, field=f"/region/{side}")
    whole = region.x <= _ROUNDING and region.y <= _ROUNDING and min(region.width, region.height) >= 1 - _ROUNDING
    return None if whole else region


def _weights(request: SearchRequest, given: Set[QueryPart]) -> dict[QueryPart, float]:
    """Returns the weights that the request has, which may be 0."""
    weights: dict[QueryPart, float] = {}
    for name, weight in (request.parts.compose or {}).items():
        pointer = f"/compose/{name}"
        part = _WEIGHT_NAMES.get(name)
        if part is None:
            raise QueryError(f"there is no part {name!r}; there are {', '.join(_WEIGHT_NAMES)}", field="/compose")
        if part not in given or (name in ("text", "audio") and getattr(request, name) is None):
            raise QueryError(f"compose has a weight for {name}, and the request has no {name}", field=pointer)
        if part in weights:
            raise QueryError("text and audio are one part, the words: send one weight for both", field=pointer)
        if not (math.isfinite(weight) and weight >= 0):
            raise QueryError(f"the weight of {name} is {weight}; it can be 0 or more", field=pointer)
        weights[part] = weight
    return weights

"""Step 1, understand: a request as someone wrote it becomes a question that can be answered, or a `QueryError`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from penstock.config import QuerySettings
from penstock.errors import QueryError
from penstock.records import COLLECTIONS_OF, Collection, Modality
from penstock.store.filters import Filter

# Sentence encoders read a few hundred tokens; ten times as many characters is a pasted document, not a question.
MAX_TEXT_CHARS = 10_000
# A request holds a thread for as long as the store hangs, so no deadline may be for ever.
MAX_DEADLINE_MS = 60_000


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What to look for, as it was asked.

    Attributes:
        text: the question in words. Exactly one of `text`, `image` and `audio` is given.
        image: an encoded picture (JPEG, PNG, WebP and whatever else Pillow reads).
        audio: the question as it was spoken: an encoded sound, or a film of which only that counts.
        modalities: what may be found, by name; None: everything.
        where: a further condition.
        tenant: whose entries are searched.
        limit: most hits; None: the setting.
        deadline_ms: milliseconds for the whole search; None: the setting.
    """

    text: str | None = None
    image: bytes | None = field(default=None, repr=False)
    audio: bytes | None = field(default=None, repr=False)
    modalities: Sequence[str] | None = None
    where: Filter | None = None
    tenant: str = "default"
    limit: int | None = None
    deadline_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A request that was checked, with its defaults filled in.

    Attributes:
        content: normalised text, or the bytes of a picture. Empty as long as it is `spoken`.
        spoken: a sound whose words are yet to be made out (`with_transcript`); None otherwise.
        collections: where answers may come from, in the order of `Collection`.
        named: whether the request named them, rather than taking all there are.
        where, tenant, limit: as in the request.
        deadline_ms: for the whole search.
    """

    content: str | bytes = field(repr=False)
    spoken: bytes | None = field(repr=False)
    collections: tuple[Collection, ...]
    named: bool
    where: Filter | None
    tenant: str
    limit: int
    deadline_ms: int


def understand(request: SearchRequest, settings: QuerySettings) -> Question:
    """Checks a request and normalises it.

    Raises:
        QueryError: with the HTTP status and the field at fault.
    """
    return Question(
        content=_content(request, settings),
        spoken=request.audio,
        collections=_collections(request.modalities),
        named=request.modalities is not None,
        where=request.where,
        tenant=_tenant(request.tenant),
        limit=_within("limit", request.limit, default=settings.limit, most=settings.max_limit),
        deadline_ms=_within("deadline_ms", request.deadline_ms, default=settings.deadline_ms, most=MAX_DEADLINE_MS),
    )


def with_transcript(question: Question, words: str) -> Question:
    """A spoken question once its words are known: the same as if it had been written."""
    return replace(question, content=_normalised(words), spoken=None)


def _content(request: SearchRequest, settings: QuerySettings) -> str | bytes:
    given = [name for name in ("text", "image", "audio") if getattr(request, name) is not None]
    if not given:
        raise QueryError("nothing to search for: give text, image or audio", field="/text")
    if len(given) > 1:
        together = " and ".join(given)
        raise QueryError(f"{together} cannot be searched for together yet: give one of them", field=f"/{given[-1]}")
    if request.image is not None:
        return _checked(request.image, "image", "picture", most_bytes=settings.max_image_bytes)
    if request.audio is not None:
        _checked(request.audio, "audio", "sound", most_bytes=settings.max_audio_bytes)
        return ""
    return _normalised(request.text or "")


def _checked(data: bytes, name: str, thing: str, *, most_bytes: int) -> bytes:
    if not data:
        raise QueryError(f"the {thing} to search for has no bytes", field=f"/{name}")
    if len(data) > most_bytes:
        raise QueryError(
            f"the {thing} has {len(data):,} bytes; at most {most_bytes:,} are searched for "
            f"(setting query.max_{name}_bytes)",
            status=413,
            field=f"/{name}",
        )
    return data


def _normalised(text: str) -> str:
    """NFC, control characters and runs of white space as one space: the same question has one spelling in the cache."""
    if len(text) > MAX_TEXT_CHARS:
        raise QueryError(
            f"the query has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are searched for",
            status=413,
            field="/text",
        )
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise QueryError("the query holds half of a surrogate pair, which is no text", field="/text") from exc
    composed = unicodedata.normalize("NFC", text)
    words = "".join(" " if unicodedata.category(char) == "Cc" else char for char in composed).split()
    if not words:
        raise QueryError("the query is empty: say what to search for", field="/text")
    return " ".join(words)


def _collections(modalities: Sequence[str] | None) -> tuple[Collection, ...]:
    if modalities is None:
        return tuple(Collection)
    allowed = ", ".join(Modality)
    if not modalities:
        raise QueryError(f"modalities is an empty list: leave it out to search all of {allowed}", field="/modalities")
    wanted: set[Collection] = set()
    for index, name in enumerate(modalities):
        try:
            wanted.update(COLLECTIONS_OF[Modality(name)])
        except ValueError as exc:
            message = f"there is no modality {name!r}; there are {allowed}"
            raise QueryError(message, field=f"/modalities/{index}") from exc
    return tuple(collection for collection in Collection if collection in wanted)


def _tenant(tenant: str) -> str:
    if not tenant.strip():
        raise QueryError("tenant is empty: leave it out to search the default tenant", field="/tenant")
    return tenant


def _within(name: str, value: int | None, *, default: int, most: int) -> int:
    if value is None:
        return default
    if not 1 <= value <= most:
        raise QueryError(f"{name} is {value}; it can be 1 to {most:,}", field=f"/{name}")
    return value

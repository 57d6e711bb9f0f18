"""Keeps which adapters are promoted, and maps the vectors of questions by them.

An adapter on the side of questions changes no entry: a query plane loads it, and the next question is searched with it.
The asset store has the state, as all replicas read it:

    adapters.json                   the promotions, in their order; of each slot the last one is used
    adapter-<fingerprint>.safetensors, adapter-<fingerprint>.json    an adapter, and its card

A slot is the version of the index, the vector field that is searched, and the language of the questions, or all. An
adapter names the encoder that it was fitted to. One of another encoder is refused when a plane starts; when it is
promoted while a plane runs, the plane keeps what it has and says so.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import role_of
from penstock.encoders.transform import LayeredTransform, Transform, about_of, from_bytes, to_bytes
from penstock.errors import ConfigError, PenstockError, UnavailableError, UsageError
from penstock.query.understand.language import detect_language
from penstock.records import Field, Float32

logger = logging.getLogger(__name__)

NOTE = "adapters.json"
SCHEMA = 1
# One read of a small file: of an object store some 20 ms. A promotion is used by every replica after as long.
POLL_S = 2.0


class Notes(Protocol):
    """A store of small named files, such as `assets.AssetStore`. Every method raises UnavailableError if it is down."""

    def note(self, name: str) -> bytes | None:
        """Returns the content; None if there is no such file."""

    def put_note(self, name: str, data: bytes) -> None:
        """Writes a file, in place of an older one."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """The decision that a slot uses an adapter.

    Attributes:
        name: of the adapter.
        fingerprint: of its transform.
        index_version, field, lang: the slot; lang is of ISO 639-1, None: all questions.
        role: the encoder of the questions, such as `passage.text`.
        encoder: what `encoder_text` returns for the encoder that it was fitted to.
        promoted_ms: when, milliseconds since the epoch.
    """

    name: str
    fingerprint: str
    index_version: int
    field: str
    lang: str | None
    role: str
    encoder: str
    promoted_ms: int

    @property
    def slot(self) -> tuple[int, str, str | None]:
        """Returns what only one adapter is used for."""
        return self.index_version, self.field, self.lang


@dataclass(frozen=True)
class Promotions:
    """All promotions, in their order."""

    promotions: tuple[Promotion, ...] = ()

    def active(self, index_version: int) -> tuple[Promotion, ...]:
        """Returns the last promotion of each slot of a version of the index."""
        last = {promotion.slot: promotion for promotion in self.promotions}
        return tuple(promotion for promotion in last.values() if promotion.index_version == index_version)

    def of_slot(self, slot: tuple[int, str, str | None]) -> Promotion | None:
        """Returns the promotion that a slot uses."""
        return next((promotion for promotion in reversed(self.promotions) if promotion.slot == slot), None)

    def promoted(self, promotion: Promotion) -> Promotions:
        """Returns the promotions with one more."""
        return Promotions((*self.promotions, promotion))

    def rolled_back(self, name: str | None = None) -> tuple[Promotions, Promotion]:
        """Returns the promotions without the newest one, or the newest of that name, and what was removed.

        Raises:
            UsageError: there is none, or a later one of its slot is used instead.
        """
        matching = [promotion for promotion in self.promotions if name is None or promotion.name == name]
        if not matching:
            raise UsageError("no adapter is promoted" if name is None else f"no adapter {name} is promoted")
        removed = matching[-1]
        if (used := self.of_slot(removed.slot)) is not removed:
            later = "" if used is None else used.name
            raise UsageError(f"adapter {removed.name} is not used: {later} came after it; roll {later} back first")
        return Promotions(tuple(promotion for promotion in self.promotions if promotion is not removed)), removed


def read_promotions(notes: Notes) -> Promotions:
    """Returns the promotions; none if nothing was ever promoted.

    Raises:
        ConfigError: the note is damaged, or of a newer Penstock.
        UnavailableError: the store does not answer.
    """
    return _parse(notes.note(NOTE))


def write_promotions(notes: Notes, promotions: Promotions) -> None:
    """Writes the promotions, after the files that they name."""
    document = {"schema": SCHEMA, "promotions": [asdict(promotion) for promotion in promotions.promotions]}
    notes.put_note(NOTE, json.dumps(document, indent=1).encode())


def put_transform(notes: Notes, transform: LayeredTransform) -> None:
    """Stores a transform under its fingerprint."""
    notes.put_note(_file_of(transform.fingerprint), to_bytes(transform))


def put_card(notes: Notes, fingerprint: str, card: bytes) -> None:
    """Stores the card of an adapter, which the next candidate of its slot is compared with."""
    notes.put_note(_card_of(fingerprint), card)


def read_card(notes: Notes, fingerprint: str) -> bytes | None:
    """Returns the card of an adapter; None if there is none."""
    return notes.note(_card_of(fingerprint))


def read_transform(notes: Notes, promotion: Promotion) -> LayeredTransform:
    """Returns the transform of a promotion.

    Raises:
        ConfigError: it is missing, damaged, or not the one that was promoted.
    """
    name = _file_of(promotion.fingerprint)
    data = notes.note(name)
    if data is None:
        raise ConfigError(f"the adapter {promotion.name} is promoted, and its file {name} is not in the asset store")
    transform = from_bytes(data, name)
    if transform.fingerprint != promotion.fingerprint:
        raise ConfigError(f"the file {name} in the asset store is another adapter; promote {promotion.name} again")
    return transform


def encoder_text(fingerprint: Fingerprint) -> str:
    """Returns the identity of an encoder in one line."""
    return " ".join(astuple(fingerprint))


# --- a plane's own ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadedAdapter:
    """A promoted adapter with its transform."""

    promotion: Promotion
    transform: Transform = field(repr=False)

    def fits(self, encoder: str, searched: Field) -> bool:
        """Returns whether it maps the vectors of an encoder (as in `EncoderInput`) for a field."""
        return self.promotion.role == role_of(encoder) and self.promotion.field == searched.value


class AdapterSet:
    """The adapters that a plane uses at one moment. One of a question's language comes before one of all.

    Args:
        adapters: at most one of each slot.

    Attributes:
        digest: fingerprints of all of them: different for sets that map differently; empty without adapters.
    """

    def __init__(self, adapters: Sequence[LoadedAdapter] = ()) -> None:
        self._adapters = sorted(adapters, key=lambda adapter: adapter.promotion.lang is None)
        self.digest = " ".join(
            f"{adapter.promotion.field}:{adapter.promotion.lang}:{adapter.promotion.fingerprint}"
            for adapter in self._adapters
        )

    @property
    def promotions(self) -> tuple[Promotion, ...]:
        """Returns the promotions of the set."""
        return tuple(adapter.promotion for adapter in self._adapters)

    def adapt(self, encoder: str, searched: Field, text: str, vector: Float32) -> Float32:
        """Returns the vector of a question for a field, float32[dim], L2-normalised; the same object without adapter.

        Args:
            encoder: as in `EncoderInput.encoder`.
            searched: the field.
            text: of the question, whose language decides.
            vector: by the encoder, float32[dim].
        """
        if not (fitting := self._fitting(encoder, searched)):
            return vector
        return _adapted(fitting, text, vector)

    def adapt_all(self, encoder: str, searched: Field, texts: Sequence[str], vectors: Float32) -> Float32:
        """Returns the vectors of several questions, float32[texts, dim]. See `adapt`."""
        if not (fitting := self._fitting(encoder, searched)):
            return vectors
        return np.stack([_adapted(fitting, text, vector) for text, vector in zip(texts, vectors, strict=True)])

    def _fitting(self, encoder: str, searched: Field) -> list[LoadedAdapter]:
        return [adapter for adapter in self._adapters if adapter.fits(encoder, searched)]


def _adapted(fitting: Sequence[LoadedAdapter], text: str, vector: Float32) -> Float32:
    """Returns the vector by the first adapter that is for the question's language or for all."""
    language = question_language(text) if any(adapter.promotion.lang for adapter in fitting) else None
    for adapter in fitting:
        if adapter.promotion.lang in (None, language):
            mapped: Float32 = adapter.transform.apply(vector[None])[0]
            return mapped
    return vector


def adapter_of(transform: LayeredTransform, fingerprints: Mapping[str, Fingerprint]) -> LoadedAdapter:
    """Returns an adapter of questions from its file alone, to measure it before it is promoted.

    Args:
        transform: as `penstock train adapter` wrote it.
        fingerprints: of the encoders, by role.

    Raises:
        UsageError: it maps no questions, or those of another encoder.
    """
    about = about_of(transform)
    if about.get("side") != "query":
        raise UsageError("the transform maps no questions alone: it is not an adapter of --side query")
    role, ours = str(about["role"]), fingerprints.get(str(about["role"]))
    if ours is None or encoder_text(ours) != about["encoder"]:
        raise UsageError(f"the adapter {about['name']} was fitted to {role} {about['encoder']}, which is not used here")
    lang = None if about["lang"] is None else str(about["lang"])
    encoder = str(about["encoder"])
    promotion = Promotion(str(about["name"]), transform.fingerprint, 0, str(about["field"]), lang, role, encoder, 0)
    return LoadedAdapter(promotion, transform)


AdapterSource: TypeAlias = Callable[[], AdapterSet]
"""Returns the adapters that are used now."""


def no_adapters() -> AdapterSet:
    """Returns a set without adapters."""
    return AdapterSet()


def question_language(text: str) -> str | None:
    """Returns the language of a question for the choice of an adapter, ISO 639-1; None: not certain.

    Of a script of several languages without certainty it is the most common one: a mistake costs less than leaving
    short questions out. Latin letters alone say nothing.
    """
    detected = detect_language(text)
    if detected is None:
        return None
    if detected.code is None and detected.script != "Latin" and detected.candidates:
        return detected.candidates[0]
    return detected.code


class AdapterFollower:
    """Follows the promotions in the asset store, and hands out the adapters that are used now. Call `close`.

    Args:
        notes: the asset store.
        index_version: the version of the index that the plane searches.
        fingerprints: of the plane's encoders, by role.
        interval_s: seconds between two looks in the background; None: only `refresh` looks.

    Raises:
        ConfigError: a promoted adapter was fitted to another encoder, or its file is missing or damaged.
    """

    def __init__(
        self,
        notes: Notes,
        index_version: int,
        fingerprints: Mapping[str, Fingerprint],
        *,
        interval_s: float | None = POLL_S,
    ) -> None:
        self._notes, self._index_version = notes, index_version
        self._encoders = {role: encoder_text(identity) for role, identity in fingerprints.items()}
        self._current = AdapterSet()
        self._read: bytes | None = None
        self._closed = threading.Event()
        self._refused = ""
        try:
            self.refresh()
        except UnavailableError as exc:  # searches work without; the background looks again
            logger.warning("adapters are not loaded yet: %s", exc)
        if interval_s is not None:
            threading.Thread(target=self._follow, args=(interval_s,), name="follow-adapters", daemon=True).start()

    def __call__(self) -> AdapterSet:
        """Returns the adapters that are used now."""
        return self._current

    def refresh(self) -> None:
        """Loads what is promoted by now. On an error the adapters stay as they are.

        Raises:
            ConfigError: as the constructor.
            UnavailableError: the asset store does not answer.
        """
        data = self._notes.note(NOTE)
        if data == self._read:
            return
        active = _parse(data).active(self._index_version)
        self._current = AdapterSet([self._load(promotion) for promotion in active])
        self._read = data
        names = ", ".join(promotion.name for promotion in active) or "none"
        logger.info("adapters of questions: %s", names)

    def look(self) -> None:
        """Loads what is promoted by now, and logs why it cannot be used, once for each reason."""
        try:
            self.refresh()
            self._refused = ""
        except PenstockError as exc:
            if str(exc) != self._refused:
                logger.warning("the adapters stay as they are: %s", exc)
            self._refused = str(exc)

    def close(self) -> None:
        """Ends the background thread."""
        self._closed.set()

    def _load(self, promotion: Promotion) -> LoadedAdapter:
        ours = self._encoders.get(promotion.role, "no encoder")
        if ours != promotion.encoder:
            raise ConfigError(
                f"the adapter {promotion.name} was fitted to {promotion.role} {promotion.encoder}, and this plane has "
                f"{ours}: use the profile that it was fitted with, or `penstock adapter rollback {promotion.name}`"
            )
        return LoadedAdapter(promotion, read_transform(self._notes, promotion))

    def _follow(self, interval_s: float) -> None:
        while not self._closed.wait(interval_s):
            self.look()


def _file_of(fingerprint: str) -> str:
    return f"adapter-{fingerprint}.safetensors"


def _card_of(fingerprint: str) -> str:
    return f"adapter-{fingerprint}.json"


def _parse(data: bytes | None) -> Promotions:
    if data is None:
        return Promotions()
    try:
        document = json.loads(data)
        if int(document["schema"]) > SCHEMA:
            raise ConfigError(f"{NOTE} has schema {document['schema']}, and this Penstock reads {SCHEMA}: update it")
        return Promotions(tuple(Promotion(**row) for row in document["promotions"]))
    except (ValueError, TypeError, KeyError) as exc:
        message = f"{NOTE} in the asset store is damaged ({exc}); remove it to search without adapters"
        raise ConfigError(message) from exc

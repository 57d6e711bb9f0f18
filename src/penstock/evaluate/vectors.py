"""Encodes the texts and images of a set with the encoders of a profile, and keeps the vectors in files.

A file is named after the encoder's fingerprint and the hash of its items. So another model, other preprocessing or
changed items never read old vectors, and a second evaluation loads no encoder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from penstock.config import ImageSettings
from penstock.encoders.load import fingerprint, load_encoder
from penstock.encoders.profiles import JOINT_IMAGE, PASSAGE_QUERY, Profile, role_of
from penstock.encoders.sentence_pair import query_digest
from penstock.errors import QueryError, UsageError
from penstock.evaluate.evaluation_set import content_hash
from penstock.query.adapters import AdapterSet
from penstock.query.understand.image import query_image_decoder
from penstock.records import EncoderInput, Float32, UInt8

if TYPE_CHECKING:
    from penstock.encoders.base import Encoder

# Items that are decoded and handed to an encoder together: of images at 224 px, 40 MB.
_BATCH = 256


class _Content(TypedDict, total=False):
    """The items of an `EncoderInput`: texts or pixels."""

    texts: tuple[str, ...]
    pixels: UInt8


class VectorFiles:
    """The vectors of a profile's encoders, from files of a folder or from the encoders.

    Args:
        folder: holds the files; created on demand.
        profile: names the models. An encoder is loaded only if vectors are missing.
        precision, device: of the encoders, as in the settings.
        threads: CPU threads of the encoders; None: as torch has it.
        adapters: map the vectors of questions after they were read; the files hold those of the encoders.
    """

    def __init__(
        self,
        folder: Path,
        profile: Profile,
        *,
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        adapters: AdapterSet | None = None,
    ) -> None:
        self.profile = profile
        self.adapters = adapters or AdapterSet()
        self._folder = folder
        self._precision, self._device = precision, device
        self._threads = threads
        self._encoders: dict[str, Encoder] = {}

    def texts(self, encoder: str, texts: Sequence[str]) -> Float32:
        """Returns float32[texts, dim], L2-normalised.

        Args:
            encoder: as in `EncoderInput.encoder`: `passage.text`, `passage.query` or `joint.text`.
            texts: any number.
        """
        keys = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]
        return self._vectors(encoder, keys, lambda rows: {"texts": tuple(texts[row] for row in rows)})

    def images(self, files: Sequence[Path]) -> Float32:
        """Returns the embeddings of encoded images by `joint.image`: float32[files, dim], L2-normalised.

        Raises:
            UsageError: a file cannot be read or decoded.
        """
        decode = query_image_decoder(self.profile.image, ImageSettings())

        def pixels(rows: Sequence[int]) -> _Content:
            return {"pixels": np.stack([_decode(decode, files[row]) for row in rows])}

        return self._vectors(JOINT_IMAGE, [content_hash(file) for file in files], pixels)

    def put_texts(self, encoder: str, texts: Sequence[str], vectors: Float32) -> None:
        """Stores vectors that were computed elsewhere: float32[texts, dim], L2-normalised."""
        keys = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]
        self._write(self._file(encoder, keys), vectors)

    def put_images(self, files: Sequence[Path], vectors: Float32) -> None:
        """Stores vectors that were computed elsewhere: float32[files, dim], L2-normalised."""
        self._write(self._file(JOINT_IMAGE, [content_hash(file) for file in files]), vectors)

    def _vectors(self, encoder: str, keys: Sequence[str], content_of: Callable[[Sequence[int]], _Content]) -> Float32:
        file = self._file(encoder, keys)
        dim = self.profile.space(role_of(encoder)).dim
        if file.exists():
            stored: Float32 = np.load(file)
            if stored.shape == (len(keys), dim):
                return stored
        first_rows = list({key: row for row, key in reversed(list(enumerate(keys)))}.values())
        place_of = {keys[row]: place for place, row in enumerate(first_rows)}
        parts = [np.zeros((0, dim), dtype=np.float32)]
        for start in range(0, len(first_rows), _BATCH):
            rows = first_rows[start : start + _BATCH]
            batch = EncoderInput(encoder, tuple(keys[row] for row in rows), **content_of(rows))
            encoded = self._encoder(role_of(encoder)).encode(batch)
            if encoded.failed:
                row, reason = encoded.failed[0]
                raise UsageError(f"{encoder} cannot encode item {rows[row]} of the set: {reason}")
            parts.append(encoded.vectors)
        vectors = np.concatenate(parts)[[place_of[key] for key in keys]]
        self._write(file, vectors)
        return vectors

    def _encoder(self, role: str) -> Encoder:
        if role not in self._encoders:
            options = {"precision": self._precision, "device": self._device}
            self._encoders[role] = load_encoder(role, self.profile, cache_size=0, threads=self._threads, **options)
        return self._encoders[role]

    def _file(self, encoder: str, keys: Sequence[str]) -> Path:
        identity = fingerprint(role_of(encoder), self.profile)
        weighting = query_digest(self.profile.passage) if encoder == PASSAGE_QUERY else ""
        parts = (encoder, identity.model, identity.weights, identity.preprocessing, weighting)
        name = re.sub(r"[^\w.]+", "_", "-".join(part for part in parts if part))
        digest = hashlib.blake2b("\n".join(keys).encode(), digest_size=12).hexdigest()
        return self._folder / name / f"{digest}.npy"

    @staticmethod
    def _write(file: Path, vectors: Float32) -> None:
        """Writes a file that other processes see complete or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.stem}.{os.getpid()}.part")
        with unfinished.open("wb") as stream:
            np.save(stream, np.ascontiguousarray(vectors, dtype=np.float32))
        unfinished.replace(file)


def _decode(decode: Callable[[bytes, None], UInt8], file: Path) -> UInt8:
    try:
        return decode(file.read_bytes(), None)
    except QueryError as exc:
        raise UsageError(f"{file}: {exc}") from exc

"""Fits one compression as a transform, and describes it in a card."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from enum import StrEnum

from penstock.encoders.base import Fingerprint
from penstock.encoders.profiles import Profile
from penstock.encoders.transform import LayeredTransform, described, linear_transform
from penstock.errors import UsageError
from penstock.records import COLLECTIONS_OF, Field, Modality
from penstock.train.compression.autoencoder import Autoencoder, train_autoencoder
from penstock.train.compression.codes import BIT_RESCORED, FP32, INT8
from penstock.train.compression.measure import CompressionData, CompressionRow, Reducer, compare_rows, fit_head
from penstock.train.compression.reductions import PREFIX_REFUSED, Reduction, fit_pca


class CompressionMethod(StrEnum):
    """Names the ways to fewer dimensions."""

    PCA = "pca"
    AUTOENCODER = "autoencoder"
    MATRYOSHKA = "matryoshka"
    PREFIX = "prefix"


@dataclass(frozen=True, slots=True)
class CompressionCard:
    """Describes a compression: its data, its figures, and how long it took.

    Attributes:
        set_name, set_hash: of the set that it was fitted to and judged by.
        profile: whose encoder made the vectors.
        encoder: the fingerprint of the vectors' encoder.
        method, dim, seed: of the compression.
        fitted: numbers of documents and questions that it was fitted to.
        seconds: of fitting and judging.
        transform: fingerprint of the transform.
        rows: whole vectors first, then this compression; nDCG@10 and MRR@10 on the questions of test.
    """

    set_name: str
    set_hash: str
    profile: str
    encoder: str
    method: str
    dim: int
    seed: int
    fitted: Mapping[str, int]
    seconds: float
    transform: str
    rows: list[CompressionRow]

    def to_json(self) -> Mapping[str, object]:
        """Returns the card as JSON-like values."""
        return asdict(self)


def fit_compression(
    data: CompressionData, method: CompressionMethod, dim: int, *, profile: str, encoder: str, seed: int, draws: int
) -> tuple[LayeredTransform, CompressionCard]:
    """Returns a transform to fewer dimensions, and its card.

    Args:
        data: vectors and questions.
        method: pca, autoencoder or matryoshka.
        dim: dimensions to keep.
        profile, encoder: whose vectors they are, to be recorded.
        seed: of the training.
        draws: of the intervals.

    Raises:
        UsageError: the method is `prefix`, or the vectors have no more dimensions.
    """
    started = time.perf_counter()
    reducer = fit_reducer(data, method, dim, seed=seed)
    tried: list[tuple[Reducer | None, str]] = [(None, FP32), (None, INT8), (None, BIT_RESCORED)]
    rows = compare_rows(data, [*tried, (reducer, FP32), (reducer, INT8)], seed=seed, draws=draws)
    chain = reducer.to_transform() if isinstance(reducer, Autoencoder) else linear_transform(reducer.weights)
    documents, questions = (len(vectors) for vectors in data.fitting_vectors())
    card = CompressionCard(
        data.dataset.name,
        data.dataset.hash,
        profile,
        encoder,
        reducer.method,
        dim,
        seed,
        {"documents": documents, "questions": questions},
        round(time.perf_counter() - started, 1),
        chain.fingerprint,
        rows,
    )
    about = {"made_for": encoder, "method": reducer.method, "set": data.dataset.name, "set_hash": data.dataset.hash}
    return described(chain, about), card


def fit_reducer(data: CompressionData, method: CompressionMethod, dim: int, *, seed: int) -> Reduction | Autoencoder:
    """Returns the reduction of a method, fitted to train and dev.

    Raises:
        UsageError: the method is `prefix`, or the vectors have no more dimensions.
    """
    if method is CompressionMethod.PREFIX:
        raise UsageError(PREFIX_REFUSED)
    of_vectors = data.documents.shape[1]
    if dim >= of_vectors:
        raise UsageError(f"--dim {dim} is no compression: the vectors have {of_vectors} dimensions")
    if method is CompressionMethod.MATRYOSHKA:
        return fit_head(data, seed=seed).prefix(dim)
    documents, questions = data.fitting_vectors()
    principal = fit_pca(documents, questions).prefix(dim)
    if method is CompressionMethod.PCA:
        return principal
    return train_autoencoder(documents, principal, seed=seed)


def parse_choice(method: str, modality: str) -> tuple[CompressionMethod, Modality]:
    """Returns the checked options of the command.

    Raises:
        UsageError: there is no such method, or the modality is neither text nor image; the method is `prefix`.
    """
    methods = [known.value for known in CompressionMethod if known is not CompressionMethod.PREFIX]
    if method == CompressionMethod.PREFIX:
        raise UsageError(PREFIX_REFUSED)
    if method not in methods:
        raise UsageError(f"--method {method!r} is none of {', '.join(methods)}")
    if modality not in (Modality.TEXT, Modality.IMAGE):
        raise UsageError(f"--modality {modality!r} is neither text nor image: sets have no other vectors")
    return CompressionMethod(method), Modality(modality)


def encoder_of(profile: Profile, fingerprints: Mapping[str, Fingerprint], modality: Modality) -> str:
    """Returns the fingerprint of the encoder whose vectors are compressed, as one text."""
    field = Field.PASSAGE if modality is Modality.TEXT else Field.JOINT
    role = profile.vectors[COLLECTIONS_OF[modality][0]][field]
    return " ".join(astuple(fingerprints[role]))

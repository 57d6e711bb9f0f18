"""Turns a set into assets of several modalities: the vectors of each asset are the tokens that a fusion reads.

Documents that share a query are one asset: in a mixed set a concept has a definition and images. The first token of
an asset is the mean of all its vectors, the further ones its vectors, and the last one is empty: attention has two keys
at least, and can turn to none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.evaluation_set import EvaluationSet, IntArray
from penstock.evaluate.metrics import Run
from penstock.evaluate.offline import SetRankings, document_vectors, query_vectors
from penstock.evaluate.vectors import VectorFiles
from penstock.records import COLLECTIONS_OF, Channel, Field, Float32, Modality
from penstock.train.compression.reductions import normalised

# Vectors of one modality that an asset keeps; concepts of the sets have 1 to 4 images.
MAX_PER_MODALITY = 4
CANDIDATES = 50
"""Assets that are scored for a question."""
WHOLE, TEXT, IMAGE, NOTHING = range(4)
KINDS = ("whole asset", "text", "image", "nothing")
"""The kinds of tokens: their number is their index in the bias of a modality and in the weights of levels."""


@dataclass(frozen=True, eq=False)
class AssetTokens:
    """The assets of a set as tokens, and its questions.

    Attributes:
        dataset: the set.
        asset_of: int64[documents], the asset of each document.
        tokens: float32[assets, tokens, dim], L2-normalised, zeros where there is none.
        kinds: int64[tokens], the kind of each place.
        present: bool[assets, tokens], whether there is a token at each place; the last one always is.
        queries: float32[queries, 2, dim], each question as the channels of texts and of images take it.
        right: int64[queries], the asset of each question.
        splits: the split of each asset.
    """

    dataset: EvaluationSet
    asset_of: IntArray
    tokens: Float32
    kinds: IntArray
    present: npt.NDArray[np.bool_]
    queries: Float32
    right: IntArray
    splits: npt.NDArray[np.str_]

    def rows(self, split: str) -> IntArray:
        """Returns the questions whose asset is in a split."""
        return np.flatnonzero(self.splits[self.right] == split)

    def cosines(self, queries: IntArray, assets: IntArray) -> tuple[Float32, Float32]:
        """Returns the cosines of questions with texts, and with the best image; 0 where there is none.

        Args:
            queries: int64[n].
            assets: int64[n, m], the candidates of each.

        Returns:
            float32[n, m] twice.
        """
        of_text, of_image = self.all_cosines
        rows = queries[:, np.newaxis]
        return of_text[rows, assets], of_image[rows, assets]

    @cached_property
    def all_cosines(self) -> tuple[Float32, Float32]:
        """The cosines of every question with every asset's text and best image: float32[queries, assets] twice."""
        best = []
        for side, kind in enumerate((TEXT, IMAGE)):
            tokens, present = self.tokens[:, self.kinds == kind], self.present[:, self.kinds == kind]
            cosines = np.einsum("qd,atd->qat", self.queries[:, side], tokens, optimize=True)
            highest = np.where(present, cosines, -np.inf).max(axis=2)
            best.append(np.where(np.isfinite(highest), highest, 0).astype(np.float32))
        return best[0], best[1]


def read_assets(dataset: EvaluationSet, vectors: VectorFiles) -> AssetTokens:
    """Returns the assets of a set with texts and images.

    Raises:
        UsageError: a modality is missing, the two have vectors of different spaces, or no question has one asset.
    """
    channels = {
        TEXT: Channel(COLLECTIONS_OF[Modality.TEXT][0], Field.PASSAGE),
        IMAGE: Channel(COLLECTIONS_OF[Modality.IMAGE][0], Field.JOINT),
    }
    rows = {TEXT: dataset.rows_of(Modality.TEXT), IMAGE: dataset.rows_of(Modality.IMAGE)}
    if not all(len(of_kind) for of_kind in rows.values()) or not any(dataset.splits):
        raise UsageError(f"set {dataset.name}: a learned fusion needs texts, images and splits (split.json)")
    roles = [vectors.profile.vectors[channel.collection][channel.field] for channel in channels.values()]
    if len({vectors.profile.space(role).id for role in roles}) != 1:
        raise UsageError("a learned fusion needs one space for texts and images, and this profile has two")
    by_kind = {kind: document_vectors(dataset, channels[kind], rows[kind], vectors) for kind in rows}
    questions = [query_vectors(dataset, channels[kind], vectors) for kind in (TEXT, IMAGE)]
    asset_of, right = _assets(dataset)
    # The mean of all images is what every image has: without it the cosines of words and images differ by more.
    by_kind[IMAGE] = normalised(by_kind[IMAGE] - by_kind[IMAGE].mean(axis=0))
    tokens, kinds, present = _tokens(asset_of, rows, by_kind)
    splits = np.full(len(tokens), "", dtype="<U10")
    for row, asset in enumerate(asset_of.tolist()):
        splits[asset] = dataset.splits[row]
    return AssetTokens(dataset, asset_of, tokens, kinds, present, np.stack(questions, axis=1), right, splits)


def candidates(data: AssetTokens, rankings: SetRankings, queries: IntArray, *, with_right: bool = False) -> IntArray:
    """Returns the first 50 assets of all channels in turns: int64[queries, at most 50], -1 after the last.

    Args:
        data: the assets.
        rankings: of all channels.
        queries: rows of questions.
        with_right: puts the right asset in place of the last one where no channel found it: for training only.
    """
    runs: Sequence[Run] = [rankings.run_of(channel) for channel in rankings.by_channel]
    of_queries = []
    for query in queries.tolist():
        documents = np.stack([run.documents[query] for run in runs], axis=1).ravel()
        assets = list(dict.fromkeys(data.asset_of[documents[documents >= 0]].tolist()))[:CANDIDATES]
        if with_right and data.right[query] not in assets:
            assets[-1:] = [int(data.right[query])]
        of_queries.append(assets)
    width = max(len(assets) for assets in of_queries)
    padded = np.full((len(of_queries), width), -1, dtype=np.int64)
    for row, assets in enumerate(of_queries):
        padded[row, : len(assets)] = assets
    return padded


def _assets(dataset: EvaluationSet) -> tuple[IntArray, IntArray]:
    """Returns the asset of each document, and that of each question: the documents of one question are one asset."""
    parent = list(range(len(dataset.documents)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for rows in dataset.judgements.rows():
        for row in rows[1:].tolist():
            parent[root(row)] = root(int(rows[0]))
    _, asset_of = np.unique([root(row) for row in range(len(parent))], return_inverse=True)
    right = np.array([asset_of[rows[0]] for rows in dataset.judgements.rows()], dtype=np.int64)
    return np.asarray(asset_of, dtype=np.int64), right


def _tokens(
    asset_of: IntArray, rows: Mapping[int, IntArray], by_kind: Mapping[int, Float32]
) -> tuple[Float32, IntArray, npt.NDArray[np.bool_]]:
    count, dim = int(asset_of.max()) + 1, by_kind[TEXT].shape[1]
    kinds = np.array([WHOLE, *[TEXT] * MAX_PER_MODALITY, *[IMAGE] * MAX_PER_MODALITY, NOTHING], dtype=np.int64)
    tokens = np.zeros((count, len(kinds), dim), dtype=np.float32)
    present = np.zeros((count, len(kinds)), dtype=np.bool_)
    for kind, of_kind in by_kind.items():
        places = np.flatnonzero(kinds == kind)
        used = np.zeros(count, dtype=np.int64)
        for row, vector in zip(rows[kind].tolist(), of_kind, strict=True):
            asset = asset_of[row]
            if used[asset] < len(places):
                tokens[asset, places[used[asset]]], present[asset, places[used[asset]]] = vector, True
                used[asset] += 1
    tokens[:, 0] = normalised(tokens.sum(axis=1))
    present[:, 0] = present[:, -1] = True
    used_places = present.any(axis=0)  # no asset of the set has as many texts as there is room for
    return tokens[:, used_places], kinds[used_places], present[:, used_places]

"""The records of an evaluation set: documents, labelled queries, and the groups of near-duplicates among them.

Documents that are nearly the same form a group: those with an equal `group`, images and audio with the same title or
the same bytes, and texts with the same words. A group must lie in one split, and intervals are computed over groups.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.errors import UsageError
from penstock.evaluate.judgements import Judgements

IntArray: TypeAlias = npt.NDArray[np.int64]

SPLITS = ("train", "dev", "test")
ALL = "all"
TWO_SPLITS = "two splits"


@dataclass(frozen=True, slots=True)
class Document:
    """A document of an evaluation set: a text, an image or an audio file.

    Attributes:
        id: unique in the set.
        title: shown with it; images of equal titles are one group.
        text: what it says; of an image or an audio file, what is known of it, which no encoder reads.
        image, audio: the file; at most one of them is given.
        style: of an image, such as photo or drawn.
        group: documents of equal groups are near-duplicates.
    """

    id: str
    title: str = ""
    text: str = ""
    image: Path | None = None
    audio: Path | None = None
    style: str = ""
    group: str = ""

    @property
    def modality(self) -> str:
        """Returns image, audio or text."""
        return "image" if self.image else "audio" if self.audio else "text"

    @property
    def file(self) -> Path | None:
        """Returns the image or audio file."""
        return self.image or self.audio


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query whose relevant documents are known.

    Attributes:
        id: unique in the set.
        text: in words; empty for a query by image.
        lang: its language, such as `en` or `zh_CN`.
        kind: what sort of query it is, such as name or synonym.
        image: the image to search by, instead of a text.
    """

    id: str
    text: str
    lang: str = "en"
    kind: str = ""
    image: Path | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """Documents, queries and which documents are relevant to which query.

    Attributes:
        name: the name of its folder.
        documents, queries: in the order of the files.
        judgements: the relevant documents, by row of `documents`, for each row of `queries`.
        splits: the split of each document; empty texts if the set has none.
    """

    name: str
    documents: tuple[Document, ...]
    queries: tuple[LabelledQuery, ...]
    judgements: Judgements
    splits: tuple[str, ...] = field(repr=False)

    @cached_property
    def document_groups(self) -> IntArray:
        """Returns the number of each document's group: int64[documents]."""
        keys = [_group_keys(document) for document in self.documents]
        return _components(len(self.documents), keys)

    @cached_property
    def query_groups(self) -> IntArray:
        """Returns the number of each query's group: int64[queries].

        Queries that share a relevant document, or documents of one group, are of one group.
        """
        groups = self.document_groups
        keys: list[list[object]] = [[int(groups[row]) for row in rows] for rows in self.judgements.rows()]
        return _components(len(self.queries), keys)

    @cached_property
    def query_splits(self) -> npt.NDArray[np.str_]:
        """Returns the split of each query: that of all its relevant documents, else `TWO_SPLITS`."""
        split_of = [{self.splits[row] for row in rows} for rows in self.judgements.rows()]
        return np.array([next(iter(splits)) if len(splits) == 1 else TWO_SPLITS for splits in split_of], dtype=np.str_)

    @cached_property
    def divided_groups(self) -> int:
        """Returns the number of groups with documents in more than one split: near-duplicates of train in test."""
        splits_of: dict[int, set[str]] = {}
        for group, split in zip(self.document_groups, self.splits, strict=True):
            splits_of.setdefault(int(group), set()).add(split)
        return sum(len(splits) > 1 for splits in splits_of.values())

    @cached_property
    def hash(self) -> str:
        """Returns 16 hexadecimal digits of everything that decides a figure, the bytes of the media included."""
        digest = hashlib.blake2b(digest_size=8)
        for document, split in zip(self.documents, self.splits, strict=True):
            content = content_hash(document.file) if document.file else document.text
            _update(digest, document.id, document.title, content, document.group, split)
        for query, rows, gains in zip(
            self.queries, self.judgements.rows(), self.judgements.gains_by_query(), strict=True
        ):
            content = content_hash(query.image) if query.image else query.text
            _update(digest, query.id, content, query.lang, query.kind, str(rows.tolist()), str(gains.tolist()))
        return digest.hexdigest()

    @cached_property
    def question_groups(self) -> IntArray:
        """Returns `query_groups`, joined where questions have the same words: int64[queries].

        Equal questions have equal vectors and ranks, however different what is right for each of them is.
        """
        words = [("words", fold(query.text)) if query.text else ("row", row) for row, query in enumerate(self.queries)]
        together = zip(words, self.query_groups.tolist(), strict=True)
        return _components(len(self.queries), [list(keys) for keys in together])

    def select(
        self, *, split: str = ALL, lang: str | None = None, kind: str | None = None, style: str | None = None
    ) -> IntArray:
        """Returns the rows of the queries that meet every condition. Queries in two splits are in `all` only.

        Args:
            split: train, dev, test or all.
            lang, kind: of the query.
            style: of all its relevant documents.

        Raises:
            UsageError: the set has no such split.
        """
        chosen = np.ones(len(self.queries), dtype=np.bool_)
        if split != ALL:
            if split not in set(self.splits):
                raise UsageError(f"set {self.name} has no split {split!r}; use one of {', '.join(self.split_names())}")
            chosen &= self.query_splits == split
        if lang is not None:
            chosen &= np.array([query.lang == lang for query in self.queries], dtype=np.bool_)
        if kind is not None:
            chosen &= np.array([query.kind == kind for query in self.queries], dtype=np.bool_)
        if style is not None:
            styles = [{self.documents[row].style for row in rows} for rows in self.judgements.rows()]
            chosen &= np.array([of_query == {style} for of_query in styles], dtype=np.bool_)
        return np.flatnonzero(chosen)

    def split_names(self) -> tuple[str, ...]:
        """Returns the splits that the set has, and `all`."""
        return (*(split for split in SPLITS if split in self.splits), ALL)

    def rows_of(self, modality: str) -> IntArray:
        """Returns the rows of the documents of a modality: text, image or audio."""
        return np.flatnonzero([document.modality == modality for document in self.documents])


def reverse(dataset: EvaluationSet) -> EvaluationSet:
    """Returns the set of the other direction: its images are the queries, and its queries' texts the documents.

    A text that several queries share is one document. The split of a text is that of its query; one whose images lie in
    two splits is in the bank, and no query with it counts in a split.
    """
    images = [row for row, document in enumerate(dataset.documents) if document.image]
    row_of_image = {document: row for row, document in enumerate(images)}
    texts: dict[str, int] = {}
    documents: list[Document] = []
    splits: list[str] = []
    pairs: set[tuple[int, int]] = set()
    for number, rows in enumerate(dataset.judgements.rows()):
        query = dataset.queries[number]
        if query.image or not any(int(row) in row_of_image for row in rows):
            continue
        if query.text not in texts:
            texts[query.text] = len(documents)
            documents.append(Document(query.id, text=query.text))
            splits.append(str(dataset.query_splits[number]))
        pairs |= {(row_of_image[int(row)], texts[query.text]) for row in rows if int(row) in row_of_image}
    queries = [
        LabelledQuery(dataset.documents[row].id, "", lang="", kind="image", image=dataset.documents[row].image)
        for row in images
    ]
    judgements = Judgements.of_pairs(((query, text, 1.0) for query, text in pairs), queries=len(queries))
    labelled = np.array([row for row, rows in enumerate(judgements.rows()) if len(rows)], dtype=np.int64)
    return EvaluationSet(
        name=f"{dataset.name}-image-to-text",
        documents=tuple(documents),
        queries=tuple(queries[row] for row in labelled),
        judgements=judgements.take(labelled),
        splits=tuple(splits),
    )


def content_hash(file: Path) -> str:
    """Returns the hash of a file's bytes: 32 hexadecimal digits.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError as exc:
        raise UsageError(f"the file {file} of an evaluation set cannot be read: {exc.strerror}") from exc


def fold(text: str) -> str:
    """Returns a text in lower case, composed, without punctuation at its ends: what near-duplicates have in common."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", folded).strip(" .,;:!?\"'()")


# --- groups ----------------------------------------------------------------------------------------------------------


def _group_keys(document: Document) -> list[object]:
    """Returns what two near-duplicates have in common."""
    keys: list[object] = []
    if document.group:
        keys.append(("group", document.group))
    if document.file is None:
        keys.append(("text", fold(document.text)))
        return keys
    if not document.group and (title := fold(document.title)):
        keys.append(("title", title))
    keys.append(("file", content_hash(document.file)))
    return keys


def _components(count: int, keys: Iterable[Iterable[object]]) -> IntArray:
    """Returns a number for each item; items that share a key, directly or through others, have the same one."""
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first_with: dict[object, int] = {}
    for item, keys_of_item in enumerate(keys):
        for key in keys_of_item:
            parent[root(item)] = root(first_with.setdefault(key, item))
    _, numbers = np.unique([root(item) for item in range(count)], return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)


def _update(digest: hashlib.blake2b, *parts: str) -> None:
    for part in parts:
        digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())

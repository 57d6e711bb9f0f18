"""Writes a set in the layout that `penstock.evaluate.datasets` reads, with a split by groups of near-duplicates."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

_MARGIN_SHARE = 16
_MIN_MARGIN_PX = 4


@dataclass
class SetDraft:
    """A set under construction.

    Attributes:
        folder: where it is written; media files are there already.
        corpus, queries: rows of the files.
        groups: the group of each document; a whole group goes into one split.
    """

    folder: Path
    corpus: list[dict[str, str]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    qrels: list[tuple[str, str]] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)

    def add_document(self, document: str, group: str, **fields: str) -> None:
        """Adds a row of the corpus."""
        self.corpus.append({"_id": document, **fields})
        self.groups[document] = group

    def add_query(self, query: str, text: str, *, lang: str, kind: str, relevant: Iterable[str]) -> None:
        """Adds a query with its relevant documents."""
        self.queries.append({"_id": query, "text": text, "lang": lang, "kind": kind})
        self.qrels += [(query, document) for document in dict.fromkeys(relevant)]

    def add_queries(self, texts: Mapping[tuple[str, str, str], Sequence[tuple[str, str]]]) -> None:
        """Adds a query for each (lang, kind, normalised text), relevant to its documents, in the words of the first.

        Args:
            texts: document and its own wording, by language, kind and normalised text.
        """
        for number, ((lang, kind, _), documents) in enumerate(texts.items()):
            relevant = [document for document, _ in documents]
            self.add_query(f"q{number}", documents[0][1], lang=lang, kind=kind, relevant=relevant)

    def write(self, *, source: str, licence: str) -> None:
        """Drops documents whose file has the bytes of an earlier one, and writes the files."""
        kept = self._drop_twins()
        judged = sorted({(query, kept[document]) for query, document in self.qrels})
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_rows("corpus.jsonl", self.corpus)
        self._write_rows("queries.jsonl", self.queries)
        lines = ["query-id\tcorpus-id\tscore", *(f"{query}\t{document}\t1" for query, document in judged)]
        (self.folder / "qrels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        splits = {row["_id"]: split_of(self.groups[row["_id"]]) for row in self.corpus}
        self._write_json("split.json", splits)
        self._write_json("CARD.json", {"source": source, "licence": licence, "documents": len(self.corpus)})

    def _drop_twins(self) -> dict[str, str]:
        """Returns for each document the one that stays: what is relevant to a twin is relevant to the first."""
        first: dict[str, str] = {}
        kept: dict[str, str] = {}
        for row in self.corpus:
            identity = row["_id"]
            file = row.get("image") or row.get("audio")
            if file and not file.startswith(".."):  # files of another set have no twins there
                content = hashlib.blake2b((self.folder / file).read_bytes()).hexdigest()
                kept[identity] = first.setdefault(content, identity)
                if kept[identity] != identity:
                    (self.folder / file).unlink()
            else:
                kept[identity] = identity
        self.corpus = [row for row in self.corpus if kept[row["_id"]] == row["_id"]]
        return kept

    def _write_rows(self, name: str, rows: Iterable[Mapping[str, str]]) -> None:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (self.folder / name).write_text("".join(lines), encoding="utf-8")

    def _write_json(self, name: str, document: Mapping[str, object]) -> None:
        text = json.dumps(document, ensure_ascii=False, indent=0, sort_keys=True) + "\n"
        (self.folder / name).write_text(text, encoding="utf-8")


def split_of(group: str) -> str:
    """Returns train (50 %), dev (10 %) or test (40 %), by the hash of a group."""
    tenth = int(hashlib.blake2b(group.encode(), digest_size=4).hexdigest(), 16) % 10
    return "train" if tenth < 5 else "dev" if tenth == 5 else "test"


def ordered_by_hash(names: Iterable[str]) -> list[str]:
    """Returns names in an order that depends on nothing but the names: a sample is the head of it."""
    return sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())


def normalise(text: str) -> str:
    """Returns a caption in lower case, composed, with single spaces and no punctuation at its ends."""
    folded = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).strip().lower())
    return folded.strip(" .!?“”\"'")


def square_on_white(image: Image.Image, longest_px: int) -> Image.Image:
    """Returns an image on a white square with a margin: cut-outs touch their edges, and encoders crop to a square."""
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    flat = white.convert("RGB")
    flat.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    side = max(flat.size) + 2 * max(_MIN_MARGIN_PX, max(flat.size) // _MARGIN_SHARE)
    square = Image.new("RGB", (side, side), (255, 255, 255))
    square.paste(flat, ((side - flat.width) // 2, (side - flat.height) // 2))
    return square

"""The layout of built sets: twins are dropped, groups decide the split, and the product reads the result."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from penstock.evaluate.datasets import read_set
from tools.evaluation_sets.layout import SetDraft, normalise, ordered_by_hash, split_of, square_on_white


def _draft(folder: Path) -> SetDraft:
    draft = SetDraft(folder)
    folder.mkdir(parents=True)
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}.png")
        draft.add_document(name, f"group {name}", title=name, text="", image=f"{name}.png")
    draft.add_document("t", "group a", title="", text="a text")
    draft.add_query("q1", "twin", lang="en", kind="name", relevant=["b", "b", "a"])
    draft.add_query("q2", "text", lang="en", kind="name", relevant=["t"])
    return draft


def test_a_twin_is_dropped_and_the_first_stays_relevant(tmp_path: Path) -> None:
    _draft(tmp_path / "made").write(source="here", licence="none")
    dataset = read_set(tmp_path / "made")
    assert [document.id for document in dataset.documents] == ["a", "c", "t"]
    assert not (tmp_path / "made" / "b.png").exists()
    assert [rows.tolist() for rows in dataset.judgements.rows()] == [[0], [2]]


def test_a_group_is_in_one_split(tmp_path: Path) -> None:
    _draft(tmp_path / "made").write(source="here", licence="none")
    dataset = read_set(tmp_path / "made")
    assert dataset.splits[0] == dataset.splits[2] == split_of("group a")
    assert {split_of(str(number)) for number in range(100)} == {"train", "dev", "test"}


def test_the_same_draft_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _draft(tmp_path / name / "made").write(source="here", licence="none")
    for file in ("corpus.jsonl", "queries.jsonl", "qrels.tsv", "split.json", "CARD.json"):
        assert (tmp_path / "one" / "made" / file).read_bytes() == (tmp_path / "two" / "made" / file).read_bytes()


def test_the_order_of_a_sample_depends_on_the_names_alone() -> None:
    assert ordered_by_hash(["b", "a", "c"]) == ordered_by_hash(["c", "b", "a"])


def test_captions_are_compared_without_case_and_marks() -> None:
    assert normalise("  “A  Cat.” ") == "a cat"


def test_cut_outs_are_put_on_a_white_square_with_a_margin() -> None:
    image = square_on_white(Image.new("RGBA", (40, 20), (255, 0, 0, 255)), 32)
    assert image.size == (40, 40)
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((20, 20)) == (255, 0, 0)

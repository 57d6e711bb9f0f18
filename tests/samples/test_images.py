"""Tests of the sample images and texts that ship with the package."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.samples import Concept, compose, load_concepts, load_rendering, sample_texts
from penstock.samples.images import ARCHIVE_PATH, RENDERING_PX
from tools.reference_models.renderings import DEBIAN_ANNOTATIONS_PATH, DEBIAN_FONT_PATH, SUBJECTS, main, render_all

MAX_ARCHIVE_BYTES = 6_000_000


def named(name: str) -> Concept:
    return next(concept for concept in load_concepts() if concept.name == name)


def test_every_subject_ships_once_and_has_a_name_and_an_id_of_its_own() -> None:
    concepts = load_concepts()
    assert len(concepts) == len("".join(SUBJECTS.values())) == 775
    for values in ([c.id for c in concepts], [c.name for c in concepts], [c.codepoint for c in concepts]):
        assert len(set(values)) == len(values)
    assert ARCHIVE_PATH.stat().st_size < MAX_ARCHIVE_BYTES


def test_no_concept_is_a_person_a_flag_a_clock_or_a_skin_tone() -> None:
    refused = re.compile(r"\b(person|man|woman|flag of|clock|o’clock|skin tone|smiling|heart suit|button)\b")
    assert [c.name for c in load_concepts() if refused.search(c.name.replace("’s", "s"))] == []


def test_a_description_is_the_name_and_then_the_keywords() -> None:
    concept = named("bus stop")
    assert concept.description == "bus stop, bus, stop"
    assert concept.name not in concept.keywords


def test_a_rendering_is_transparent_around_the_concept() -> None:
    for name in ("banana", "hammer", "rainbow"):
        rendering = load_rendering(named(name))
        alpha = np.asarray(rendering)[..., 3]
        assert (rendering.mode, rendering.size) == ("RGBA", (RENDERING_PX, RENDERING_PX))
        assert alpha.max() == 255
        assert 0.05 < (alpha > 127).mean() < 0.95


def test_compose_gives_equal_images_for_equal_seeds_and_others_for_others() -> None:
    concept = named("giraffe")
    assert compose(concept, seed=3).tobytes() == compose(concept, seed=3).tobytes()
    assert compose(concept, seed=3).tobytes() != compose(concept, seed=4).tobytes()


@pytest.mark.parametrize("size_px", [32, 64, 225, 640])
def test_compose_fills_a_square_of_the_requested_size(size_px: int) -> None:
    image = compose(named("teapot"), seed=1, size_px=size_px)
    assert (image.mode, image.size) == ("RGB", (size_px, size_px))


def test_composed_backgrounds_are_many() -> None:
    corners = {compose(named("cherries"), seed=seed, size_px=64).getpixel((0, 0)) for seed in range(40)}
    assert len(corners) > 30


def test_texts_are_at_least_two_hundred_all_distinct_and_of_a_few_sentences() -> None:
    texts = sample_texts()
    assert len(texts) >= 200
    for values in ([t.key for t in texts], [t.title for t in texts], [t.text for t in texts]):
        assert len(set(values)) == len(values)
    sentences = [len(re.findall(r"[.!?](?:\s|$)", text.text)) for text in texts]
    assert min(sentences) >= 2
    assert max(sentences) <= 5


def test_no_sentence_of_the_texts_is_used_twice() -> None:
    sentences = [part for text in sample_texts() for part in re.split(r"(?<=[.!?])\s+", text.text)]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("flag", "package"), [("--font", "fonts-noto-color-emoji"), ("--annotations", "unicode-cldr-core")]
)
def test_a_missing_source_is_one_line_that_names_the_package(
    flag: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Both are made absent, so that the result is the same on a machine that has neither.
    present = tmp_path / "present.xml"
    present.write_text("<ldml/>", encoding="utf-8")
    other = ["--annotations", str(present)] if flag == "--font" else []
    code = main([flag, str(tmp_path / "absent"), *other, "--out", str(tmp_path / "out.zip")])
    message = capsys.readouterr().err
    assert code != 0
    assert package in message
    assert message.count("\n") == 1


@pytest.mark.skipif(
    not (DEBIAN_FONT_PATH.is_file() and DEBIAN_ANNOTATIONS_PATH.is_file()),
    reason="Debian's font and annotations are absent",
)
def test_the_shipped_archive_is_what_the_script_renders() -> None:
    """Names must agree exactly, images up to what WebP loses."""
    rendered = {rendering.concept.id: rendering for rendering in render_all(DEBIAN_FONT_PATH, DEBIAN_ANNOTATIONS_PATH)}
    assert set(rendered) == {concept.id for concept in load_concepts()}
    for concept in load_concepts()[::25]:
        ours, shipped = rendered[concept.id].image.convert("RGBa"), load_rendering(concept).convert("RGBa")
        assert rendered[concept.id].concept.codepoint == concept.codepoint
        assert _mean_difference(ours, shipped) < 8.0


def _mean_difference(first: Image.Image, second: Image.Image) -> float:
    return float(np.abs(np.asarray(first, np.float32) - np.asarray(second, np.float32)).mean())

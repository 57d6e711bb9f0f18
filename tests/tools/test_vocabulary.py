from __future__ import annotations

from pathlib import Path

import pytest

from tools.vocabulary.check import check, count_table
from tools.vocabulary.rules import Exemption, load_rules
from tools.vocabulary.sources import ROOT, Finding

MODULE = "src/penstock/store/sample.py"
HEAD = '"""Samples for the check."""\n'


def findings(folder: Path, code: str, path: str = MODULE, *, head: str = HEAD) -> list[Finding]:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(head + code if path.endswith(".py") else code, encoding="utf-8")
    return check(folder, [path])


def rules_of(folder: Path, code: str, path: str = MODULE, *, head: str = HEAD) -> list[str]:
    return [finding.rule for finding in findings(folder, code, path, head=head)]


@pytest.mark.parametrize(
    "phrase",
    ["a film", "Pictures", "the film of it", "sent at once", "up to so many events", "for ever", "kept for good",
     "begun anew", "likewise", "meanwhile", "as reckoned", "whoever holds it", "is told", "nobody waits",
     "as AAC, say.", "Of these partitions, none.", "for who holds it"],
)  # fmt: skip
def test_dialect_is_found_in_a_comment(tmp_path: Path, phrase: str) -> None:
    assert rules_of(tmp_path, f"# {phrase}\n") == ["word"]


@pytest.mark.parametrize(
    "phrase",
    ["a video", "so many that none fits", "for good reason", "tells them apart", "asking the broker",
     "Of course, none.", "the profile", "soundness", "the ask command", "say it"],
)  # fmt: skip
def test_ordinary_english_passes(tmp_path: Path, phrase: str) -> None:
    assert rules_of(tmp_path, f"# {phrase}\n") == []


def test_a_phrase_is_found_across_lines_and_reported_where_it_begins(tmp_path: Path) -> None:
    code = "LIMIT = 1\n# Batches that are sent at\n# once.\n"
    assert [str(finding) for finding in findings(tmp_path, code)] == [
        f"{MODULE}:3: 'at once' in a comment (write concurrently, or immediately)"
    ]


def test_messages_docstrings_and_documents_are_checked(tmp_path: Path) -> None:
    assert rules_of(tmp_path, 'TEXT = f"no film at {1}"\n') == ["word"]
    assert rules_of(tmp_path, 'TEXT = 1\n"""Seconds of a film."""\n') == ["word"]
    assert rules_of(tmp_path, "# Films\n", "docs/page.md") == ["word"]
    assert rules_of(tmp_path, "film:\n", "Makefile") == ["word"]


def test_strings_of_tests_are_data(tmp_path: Path) -> None:
    assert rules_of(tmp_path, 'QUESTION = "a picture of a heron"\n', "tests/test_sample.py") == []
    assert rules_of(tmp_path, "# a picture of a heron\n", "tests/test_sample.py") == ["word"]


def test_a_docstring_does_not_open_with_a_noun_clause(tmp_path: Path) -> None:
    assert rules_of(tmp_path, "", head='"""What is stored."""\n') == ["opening"]
    assert rules_of(tmp_path, 'def _read() -> int:\n    """How far it is."""\n    return 1\n') == ["opening"]


def test_public_definitions_have_a_docstring(tmp_path: Path) -> None:
    assert rules_of(tmp_path, "X = 1\n", head="") == ["docstring"]
    code = "class Store:\n    def read(self) -> int:\n        return 1\n"
    assert rules_of(tmp_path, code) == ["docstring", "docstring"]
    assert rules_of(tmp_path, code, "tests/sample.py", head="") == []


def test_a_document_in_the_package_needs_no_docstring(tmp_path: Path) -> None:
    assert rules_of(tmp_path, "# Models\n", "src/penstock/encoders/MODELS.md") == []


def test_private_nested_and_special_definitions_need_no_docstring(tmp_path: Path) -> None:
    code = (
        "class _Store:\n    def read(self) -> int:\n        def inner() -> int:\n            return 1\n"
        "        return inner()\n"
        'class Store:\n    """A store."""\n    def __len__(self) -> int:\n        return 1\n'
    )
    assert rules_of(tmp_path, code) == []


def test_a_method_whose_base_documents_it_needs_no_docstring(tmp_path: Path) -> None:
    base = (
        HEAD + 'class Store:\n    """A store."""\n    def read(self) -> int:\n        """Reads."""\n        return 1\n'
    )
    (tmp_path / "src/penstock/store").mkdir(parents=True)
    (tmp_path / "src/penstock/store/base.py").write_text(base, encoding="utf-8")
    code = 'class Lite(Store):\n    """A store."""\n    def read(self) -> int:\n        return 1\n'
    assert rules_of(tmp_path, code) == []
    assert rules_of(tmp_path, code + "    def write(self) -> int:\n        return 1\n") == ["docstring"]


@pytest.mark.parametrize(
    ("docstring", "rules"),
    [
        ("Returns the rows.", []),
        ("Atomically replaces the rows.", []),
        ("The rows of an asset.", ["verb"]),
        ("Whether it has rows.", ["verb"]),
        ("Bytes of a row.", ["verb"]),
        ("Returns " + "very " * 20 + "many rows.", ["long-opening"]),
    ],
)
def test_a_function_docstring_opens_with_a_verb_and_is_short(tmp_path: Path, docstring: str, rules: list[str]) -> None:
    assert rules_of(tmp_path, f'def rows() -> int:\n    """{docstring}"""\n    return 1\n') == rules


def test_properties_and_commands_need_no_verb(tmp_path: Path) -> None:
    code = 'class Row:\n    """A row."""\n    @property\n    def size(self) -> int:\n        """The size."""\n'
    assert rules_of(tmp_path, code) == []
    assert rules_of(tmp_path, 'def up() -> None:\n    """Start all."""\napp.command("up")(up)\n') == []


@pytest.mark.parametrize(
    "code",
    ["one = 1\n", "for found in ():\n    pass\n", "X = [each for each in ()]\n", "def _f(told: int) -> None: ...\n",
     "with open('x') as made:\n    pass\n", "def _f(*, wanted: int) -> None: ...\n"],
)  # fmt: skip
def test_empty_names_are_found(tmp_path: Path, code: str) -> None:
    assert "name" in rules_of(tmp_path, code)
    assert "name" in rules_of(tmp_path, code, "tests/sample.py")


def test_names_of_things_pass(tmp_path: Path) -> None:
    assert rules_of(tmp_path, "for record in ():\n    one_record = record\n") == []


def test_class_names_are_unique(tmp_path: Path) -> None:
    assert rules_of(tmp_path, "class _Part: ...\n") == []
    assert rules_of(tmp_path, "class _Part: ...\nclass _Other:\n    class _Part: ...\n") == ["class-twice"] * 2
    findings(tmp_path, "class _Part: ...\n", "src/penstock/media/sample.py")
    (twice,) = findings(tmp_path, "class _Part: ...\n")
    assert "src/penstock/media/sample.py:2" in twice.message


def test_class_names_do_not_shadow_pythons_own_but_for_milvus_words(tmp_path: Path) -> None:
    assert rules_of(tmp_path, 'class Mapping:\n    """A map."""\n') == ["class-shadows"]
    assert rules_of(tmp_path, 'class Collection:\n    """A set of rows."""\n') == []


@pytest.mark.parametrize(
    "code",
    ["FILM_MS = 1\n", "class _FilmReader: ...\n", "def _hear_s() -> None: ...\n", "import numpy as films\n",
     "def _f(picture: int) -> None: ...\n"],
)  # fmt: skip
def test_identifiers_of_the_package_keep_to_the_modalities(tmp_path: Path, code: str) -> None:
    assert rules_of(tmp_path, code) == ["identifier"]
    assert rules_of(tmp_path, code, "benchmarks/sample.py") == []


def test_a_module_name_is_an_identifier(tmp_path: Path) -> None:
    assert rules_of(tmp_path, "", "src/penstock/media/film.py") == ["identifier"]
    assert rules_of(tmp_path, "FILTER = HEART = PROFILM = 1\n") == []


@pytest.mark.parametrize(
    ("code", "subject"),
    [
        ("X = 1\n" * 400, MODULE),
        ("def _long() -> None:\n" + "    pass\n" * 60, "_long"),
        ("class _Wide:\n" + "".join(f"    def m{number}(self) -> None: ...\n" for number in range(21)), "_Wide"),
        ("class _Full:\n" + "".join(f"    field{number}: int\n" for number in range(16)), "_Full"),
        (
            "class _Full:\n    def __init__(self) -> None:\n" + "".join(f"        self.a{n} = 1\n" for n in range(16)),
            "_Full",
        ),
    ],
)
def test_sizes_over_the_limit_are_found(tmp_path: Path, code: str, subject: str) -> None:
    assert [(finding.rule, finding.subject) for finding in findings(tmp_path, code)] == [("size", subject)]


def test_a_docstring_can_give_the_reason_for_a_size(tmp_path: Path) -> None:
    code = 'def _long() -> None:\n    """Runs. Over the limit because\n    a table is clearer in one place."""\n'
    assert rules_of(tmp_path, code + "    pass\n" * 60) == []
    assert rules_of(tmp_path, "def _fits() -> None:\n" + "    pass\n" * 59) == []


@pytest.mark.parametrize(
    ("signature", "rules"),
    [
        ("value: Any", ["any"]),
        ("value: dict[str, Any] | None", ["any"]),
        ("value: 'Any'", ["any"]),
        ("value: Ref", ["any"]),
        ("value: NDArray[Any]", []),
        ("value: int", []),
    ],
)
def test_any_is_found_in_public_signatures(tmp_path: Path, signature: str, rules: list[str]) -> None:
    code = f'Ref: TypeAlias = Any\ndef put({signature}) -> None:\n    """Puts."""\n'
    assert rules_of(tmp_path, code) == rules
    assert rules_of(tmp_path, code.replace("put", "_put")) == []


def test_an_exception_covers_its_own_place_only() -> None:
    exemption = Exemption("word", "a question", ("src/*",), "bees tell each other")
    covered = Finding("src/a.py", 1, "word", "", "tell", "how bees tell each other", 9)
    assert exemption.covers(covered)
    assert not exemption.covers(Finding("docs/a.md", 1, "word", "", "tell", "how bees tell each other", 9))
    assert not exemption.covers(Finding("src/a.py", 1, "word", "", "tell", "tell how bees tell each other", 0))


def test_an_exception_that_covers_nothing_is_reported() -> None:
    rules = load_rules()
    unused = list(rules.without_exempt([], report_unused=True))
    assert len(unused) == len(rules.exemptions) > 0
    assert {finding.rule for finding in unused} == {"exception"}


def test_counts_are_by_package_and_rule() -> None:
    table = count_table([Finding(path, 1, "word", "", "") for path in (MODULE, MODULE, "docs/page.md")])
    assert [line.split() for line in table.splitlines()] == [
        ["word", "total"], ["docs", "1", "1"], ["src/penstock/store", "2", "2"], ["total", "3", "3"]
    ]  # fmt: skip


def test_the_check_and_the_glossary_keep_to_the_vocabulary() -> None:
    assert check(ROOT, ["tools", "tests/tools", "docs/glossary.md"]) == []

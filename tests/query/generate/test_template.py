"""The file of the prompt's text: what it may hold, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import GenerateSettings
from penstock.errors import ConfigError
from penstock.query.generate.template import PACKAGED_TEMPLATE, load_template, packaged_template, parse_template

GOOD = "# mine\n[system]\nBe short: {x} $y.\n\n[user]\n{{sources}}\n{{history}}\nQ: {{ question }}\n"
VALUES = {"sources": "S", "history": "", "question": "Q?", "profile": "", "language": ""}


def test_a_template_of_a_user_is_read_and_filled(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(GOOD, "utf-8")
    template = load_template(GenerateSettings(template=path))
    assert template.system == "Be short: {x} $y."
    assert template.placeholders == {"sources", "history", "question"}
    assert template.fill(VALUES) == "S\nQ: Q?"
    assert template.fill(VALUES | {"history": "H"}) == "S\nH\nQ: Q?"


def test_what_is_put_in_is_not_looked_through_again() -> None:
    template = parse_template(GOOD, "x")
    assert template.fill(VALUES | {"sources": "{{question}} \\1 {{history}}"}) == "{{question}} \\1 {{history}}\nQ: Q?"


def test_the_packaged_template_has_every_placeholder_and_is_the_default() -> None:
    assert packaged_template().placeholders == {"sources", "history", "question", "profile", "language"}
    assert load_template(GenerateSettings()) == packaged_template()
    assert PACKAGED_TEMPLATE.is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x: there is no heading \[system\]"),
        ("hello\n[system]\n", r"x:1: text before the first heading"),
        ("[system]\nBe short.\n", r"x: there is no heading \[user\]"),
        (GOOD + "[user]\n", r"x:9: \[user\] is there twice"),
        (GOOD + "{{answer}}\n", r"x:9: \{\{answer\}\} is no placeholder; there are \{\{history\}\}, \{\{language\}\}"),
        (GOOD + "{{question}}\n", r"x:9: \{\{question\}\} is there twice"),
        (GOOD.replace("{{sources}}", ""), r"x: \[user\] has no \{\{sources\}\}"),
        (GOOD.replace("$y", "{{language}}"), r"x:3: \{\{language\}\} in \[system\]"),
    ],
)
def test_a_template_that_cannot_work_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_template(text, "x")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_template(GenerateSettings(template=tmp_path / "none.txt"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_template(GenerateSettings(template=tmp_path / "binary"))


def test_a_template_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(GOOD.replace("Be short", "Be short. " * 400), "utf-8")
    with pytest.raises(ConfigError, match="context_tokens leaves 768 for a prompt"):
        load_template(GenerateSettings(template=tmp_path / "long.txt", context_tokens=1_024, max_tokens=256))

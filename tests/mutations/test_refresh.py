"""Checks that patches follow changes of the sources around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.__main__ import refresh
from tests.mutations.catalog import Mutation, read, save
from tests.mutations.runner import git

OLD = "src/penstock/old.py"
NEW = "src/penstock/sub/new.py"
LINES = [f"value_{number} = {number}\n" for number in range(20)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Makes a repository with one source file and a patch of its line 10."""
    root = tmp_path / "root"
    (root / OLD).parent.mkdir(parents=True)
    git(root, "init", "--quiet")
    (root / OLD).write_text("".join(LINES))
    commit(root)
    (root / OLD).write_text("".join(LINES).replace("= 10\n", "= -1\n"))
    save(Mutation("break it", ("tests/a.py",), git(root, "diff", "--full-index").stdout), tmp_path)
    git(root, "checkout", "--quiet", "--", ".")
    return root


def commit(root: Path) -> None:
    git(root, "add", "--all")
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    assert git(root, *identity, "commit", "--quiet", "--message", "Change").returncode == 0


def refreshed(
    root: Path, moves: dict[str, str] | None = None, renames: dict[str, str] | None = None
) -> tuple[int, Mutation]:
    patch = root.parent / "break-it.patch"
    status = refresh([read(patch)], moves or {}, renames or {}, root, root.parent)
    return status, read(patch)


def test_a_patch_without_need_stays_as_it_is(root: Path) -> None:
    before = read(root.parent / "break-it.patch")
    assert refreshed(root) == (0, before)


def test_changed_context_is_merged(root: Path) -> None:
    (root / OLD).write_text("".join(["import os\n", *LINES]).replace("value_8 ", "renamed "))
    status, mutation = refreshed(root)
    assert status == 0
    assert " renamed = 8\n" in mutation.diff
    assert "-value_10 = 10\n+value_10 = -1\n" in mutation.diff
    assert git(root, "apply", "--check", "-", stdin=mutation.diff).returncode == 0


def test_a_change_in_the_next_line_is_no_conflict(root: Path) -> None:
    (root / OLD).write_text("".join(LINES).replace("value_9 ", "renamed "))
    status, mutation = refreshed(root)
    assert status == 0
    assert " renamed = 9\n-value_10 = 10\n+value_10 = -1\n" in mutation.diff


@pytest.mark.parametrize("committed", [True, False])
def test_a_moved_file_is_followed(root: Path, committed: bool) -> None:
    (root / NEW).parent.mkdir()
    (root / OLD).rename(root / NEW)
    (root / NEW).write_text("".join(LINES).replace("value_9 ", "renamed "))
    if committed:
        commit(root)
    status, mutation = refreshed(root)
    assert (status, mutation.file) == (0, NEW)
    assert git(root, "apply", "--check", "-", stdin=mutation.diff).returncode == 0


def test_a_new_path_can_be_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / NEW).parent.mkdir()
    (root / OLD).unlink()
    (root / NEW).write_text("".join(LINES[9:14]))
    assert refreshed(root)[0] == 1
    assert f"--path {OLD}=NEW" in capsys.readouterr().out
    status, mutation = refreshed(root, {OLD: NEW})
    assert (status, mutation.file) == (0, NEW)


def test_a_conflict_is_shown_and_the_patch_is_left(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read(root.parent / "break-it.patch")
    (root / OLD).write_text("".join(LINES).replace("value_10 ", "renamed "))
    assert refreshed(root) == (1, before)
    output = capsys.readouterr().out
    assert "WRITE AGAIN break-it.patch" in output
    assert "renamed = 10" in output
    assert "value_10 = -1" in output


def test_a_name_in_the_changed_line_can_be_given(root: Path) -> None:
    (root / OLD).write_text("".join(LINES).replace("value_10 ", "renamed "))
    status, mutation = refreshed(root, renames={"value_10": "renamed"})
    assert status == 0
    assert "-renamed = 10\n+renamed = -1\n" in mutation.diff


def test_a_patch_that_adds_a_lost_name_is_not_merged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch = root.parent / "break-it.patch"
    patch.write_text(patch.read_text().replace("+value_10 = -1", "+value_10 = value_2"))
    (root / OLD).write_text("".join(LINES).replace("value_2 ", "renamed "))
    assert refreshed(root)[0] == 1
    assert "it uses value_2" in capsys.readouterr().out
    status, mutation = refreshed(root, renames={"value_2": "renamed"})
    assert status == 0
    assert "+value_10 = renamed\n" in mutation.diff


def test_a_hunk_edited_by_hand_is_completed(root: Path) -> None:
    (root / OLD).write_text("".join(LINES).replace("value_10 ", "renamed "))
    patch = root.parent / "break-it.patch"
    header = patch.read_text().partition("\n@@")[0]
    patch.write_text(f"{header}\n@@ -5,9 +5,9 @@\n value_9 = 9\n-renamed = 10\n+renamed = -1\n value_11 = 11\n")
    status, mutation = refreshed(root)
    assert status == 0
    assert " value_7 = 7\n" in mutation.diff

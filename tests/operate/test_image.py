"""The images are built from the lock here, and run with a read-only root, without rights and without a network."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.operate.containers import image_mb, layers_mb, run_once
from tests.operate.guide import document
from tests.operate.programs import ROOT

pytestmark = [pytest.mark.operate, pytest.mark.timeout(7200)]  # the first run builds, for an hour at the worst

_WRITES = "id --user; id --group; ! touch /opt/penstock/x; touch /data/x /tmp/x"
_CHART = ROOT / "helm" / "penstock"


def test_the_demo_answers_every_question_without_network_and_rights(whole_image: str) -> None:
    done = run_once(whole_image, "penstock", "demo", "--once", timeout_s=900)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    counted = re.search(r"^(\d+) of (\d+) sample queries got a right answer", output, re.MULTILINE)
    assert counted is not None, output[-4000:]
    assert counted[1] == counted[2]
    assert int(counted[2]) >= 15


@pytest.mark.parametrize("program", ["bash", "wget", "grep", "ray", "penstock", "python3"])
def test_programs_that_the_operator_of_ray_runs_are_on_the_path(cpu_image: str, program: str) -> None:
    done = run_once(cpu_image, "bash", "-c", f"command -v {program}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", ["pip", "pip3", "uv", "gcc", "cc"])
def test_nothing_that_builds_is_left(cpu_image: str, program: str) -> None:
    assert run_once(cpu_image, "bash", "-c", f"command -v {program}").returncode == 1


def test_it_runs_as_a_user_without_rights(cpu_image: str) -> None:
    done = run_once(cpu_image, "bash", "-c", _WRITES, options=("--volume", "/data"))
    assert (done.returncode, done.stdout.split()) == (0, ["10001", "10001"])


def test_ray_and_penstock_are_those_of_the_chart(cpu_image: str) -> None:
    values = yaml.safe_load((_CHART / "values.yaml").read_text("utf-8"))
    chart = yaml.safe_load((_CHART / "Chart.yaml").read_text("utf-8"))
    assert values["ray"]["version"] in run_once(cpu_image, "ray", "--version").stdout
    assert chart["appVersion"] in run_once(cpu_image, "penstock", "--version").stdout


def test_a_change_of_the_source_rebuilds_one_small_layer(cpu_image: str) -> None:
    newest_mb = next(size_mb for _, size_mb in layers_mb(cpu_image) if size_mb > 1)
    assert 5 <= newest_mb <= 60


def test_the_models_of_the_default_profile_work_without_a_network(cpu_image: str) -> None:
    done = run_once(cpu_image, "penstock", "models", "check", "--json", timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sizes_are_documented(whole_image: str, cpu_image: str) -> None:
    documented = dict(re.findall(r"^\| `(cpu|all)` \|.*?\| ([\d.]+) GB \|", document(), re.MULTILINE))
    for target, image in (("all", whole_image), ("cpu", cpu_image)):
        assert float(documented[target]) == pytest.approx(image_mb(image) / 1000, rel=0.1)

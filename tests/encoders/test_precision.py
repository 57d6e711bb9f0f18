from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock.encoders.precision import choose_device, choose_precision, cpu_flags, may_have_gpu, speech_device
from penstock.errors import ConfigError


@dataclass
class FakeCuda:
    count: int = 0
    bf16: bool = True

    def is_available(self) -> bool:
        return self.count > 0

    def device_count(self) -> int:
        return self.count

    def is_bf16_supported(self, including_emulation: bool = True) -> bool:
        return self.bf16 or including_emulation


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"fpu", "avx2", "avx512f", "avx512_bf16"}, "bf16"),
        ({"fpu", "amx_tile", "amx_bf16"}, "bf16"),
        ({"fpu", "avx2", "avx512f", "avx512_vnni", "amx_tile"}, "fp32"),
        (set(), "fp32"),
    ],
)
def test_auto_takes_bf16_only_on_a_cpu_that_multiplies_it(flags: set[str], precision: str) -> None:
    assert choose_precision("auto", "cpu", flags=lambda: frozenset(flags)) == precision


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_only_on_a_gpu_that_multiplies_it(bf16: bool, precision: str) -> None:
    assert choose_precision("auto", "cuda:1", cuda=FakeCuda(2, bf16)) == precision


def test_a_requested_precision_is_used() -> None:
    assert choose_precision("fp32", "cpu", flags=lambda: frozenset({"amx_bf16"})) == "fp32"
    assert choose_precision("bf16", "cpu", flags=frozenset) == "bf16"
    assert choose_precision("fp16", "cuda") == "fp16"


@pytest.mark.parametrize(("requested", "device"), [("fp16", "cpu"), ("int8", "cpu")])
def test_an_impossible_precision_is_refused(requested: str, device: str) -> None:
    with pytest.raises(ConfigError, match=requested):
        choose_precision(requested, device)


def test_an_apple_gpu_is_taken_where_it_is_named_and_there() -> None:
    assert choose_device("mps", has_mps=lambda: True) == "mps"
    assert choose_device("auto", cuda=FakeCuda(0), has_mps=lambda: True) == "cpu"
    assert choose_precision("auto", "mps") == "fp32"
    assert choose_precision("fp16", "mps") == "fp16"
    with pytest.raises(ConfigError, match="torch sees no Apple GPU here"):
        choose_device("mps", has_mps=lambda: False)


def test_speech_runs_on_the_cpu_of_a_machine_with_an_apple_gpu() -> None:
    assert [speech_device(device) for device in ("mps", "cuda:1", "cpu")] == ["cpu", "cuda:1", "cpu"]


def test_auto_takes_a_gpu_where_there_is_one() -> None:
    assert choose_device("auto", cuda=FakeCuda(1)) == "cuda"
    assert choose_device("auto", cuda=FakeCuda(0)) == "cpu"
    assert choose_device("cuda:1", cuda=FakeCuda(2)) == "cuda:1"


@pytest.mark.parametrize(("requested", "count"), [("cuda", 0), ("cuda:2", 2), ("tpu", 1), ("cuda:", 1)])
def test_a_device_that_is_not_there_is_refused(requested: str, count: int) -> None:
    with pytest.raises(ConfigError, match=requested):
        choose_device(requested, cuda=FakeCuda(count))


def test_cpu_flags_are_read_as_linux_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_tile\nbugs\t\t: none\n\nflags\t\t: other\n")
    assert cpu_flags(file) == {"fpu", "avx512_bf16", "amx_tile"}
    assert cpu_flags(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize(
    ("devices", "system", "expected"),
    [
        ((), "linux", False),
        (("null", "nvidia-caps"), "linux", False),
        (("nvidiactl",), "linux", True),
        (("kfd",), "linux", True),
        ((), "darwin", True),
    ],
)
def test_torch_is_asked_for_gpus_only_where_there_may_be_one(
    devices: tuple[str, ...], system: str, expected: bool, tmp_path: Path
) -> None:
    for name in devices:
        (tmp_path / name).touch()
    assert may_have_gpu(tmp_path, system=system) is expected

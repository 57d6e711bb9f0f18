"""Sets up the programs that these tests run, from Debian and in Go, or says in one line what is missing.

Packages of Debian are installed as root. Go's are built once, by pinned versions, into a folder of the user's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pytest

ROOT = Path(__file__).parents[2]
CACHE = platformdirs.user_cache_path("penstock") / "operate"

KUBERNETES = "v1.36.3"
KUBERAY = "v1.6.2"
KWOK = "v0.8.0"
HELM = "v4.2.3"
_GO = (1, 26)

# The package of Debian that has a program.
_PACKAGES: Mapping[str, str] = {
    "buildah": "buildah",
    "podman": "podman",
    "runc": "runc",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
}


def run(*command: str | Path, **options: object) -> str:
    """Runs a command and returns what it wrote to stdout. A failure shows the end of both outputs."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        ends = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        pytest.fail(f"`{' '.join(map(str, command))}` ended with {done.returncode}:\n{ends}", pytrace=False)
    output: str = done.stdout
    return output


def need_root() -> None:
    """Fails in one line unless this is root, as containers with networks of their own need."""
    if os.geteuid() != 0:
        pytest.fail("images and pods are built and run as root: run `sudo make test-operate`", pytrace=False)


def need_packages(*programs: str) -> None:
    """Installs the packages of Debian that have these programs; fails in one line where that is not possible."""
    missing = sorted({_PACKAGES[program] for program in programs if shutil.which(program) is None})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail(f"run `apt-get install {' '.join(missing)}` as root, which this test needs", pytrace=False)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", env=environment)
    run("apt-get", "install", "--yes", "--no-install-recommends", *missing, env=environment)


def etcd() -> Path:
    """Returns Debian's etcd, unpacked and not installed: its package would start a server."""
    folder = CACHE / "etcd"
    program = folder / "usr" / "bin" / "etcd"
    if not program.exists():
        if shutil.which("dpkg") is None:
            pytest.fail("there is no dpkg, which unpacks Debian's etcd: run this on Debian", pytrace=False)
        folder.mkdir(parents=True, exist_ok=True)
        run("apt-get", "download", "etcd-server", cwd=folder)
        run("dpkg", "--extract", next(folder.glob("etcd-server_*.deb")), folder)
    return program


@dataclass(frozen=True, slots=True)
class GoProgram:
    """One program in Go.

    Attributes:
        name: of the program.
        version: of its module, which is also the version of the file in the cache.
        package: import path.
    """

    name: str
    version: str
    package: str

    def path(self) -> Path:
        """Returns the program, which the first call builds: a minute to ten on two cores."""
        program = CACHE / f"{self.name}-{self.version}"
        if not program.exists():
            _need_go()
            CACHE.mkdir(parents=True, exist_ok=True)
            partial = CACHE / f"{self.name}-{self.version}.partial-{os.getpid()}"
            self.build(partial)
            partial.replace(program)
        return program

    def build(self, target: Path) -> None:
        """Builds the program into a file."""
        folder = CACHE / "bin"
        run("go", "install", "-ldflags", "-s -w", f"{self.package}@{self.version}", env=_go(GOBIN=str(folder)))
        (folder / self.name).replace(target)


class KubernetesProgram(GoProgram):
    """A program of Kubernetes, whose module replaces its own parts, so that `go install` refuses it."""

    __slots__ = ()

    def build(self, target: Path) -> None:
        """Builds the program from a module that pins each part of Kubernetes to the same release."""
        folder = CACHE / "kubernetes"
        (folder / self.name).mkdir(parents=True, exist_ok=True)
        (folder / "go.mod").write_text(_kubernetes_module(), encoding="utf-8")
        (folder / self.name / "main.go").write_text(_MAIN % (self.name, self.package), encoding="utf-8")
        major, minor, _ = KUBERNETES.removeprefix("v").split(".")
        versions = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
        flags = ["-s", "-w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in versions.items())]
        command = ("go", "build", "-mod=mod", "-ldflags", " ".join(flags), "-o", target, f"./{self.name}")
        run(*command, cwd=folder, env=_go())


API_SERVER = KubernetesProgram("kube-apiserver", KUBERNETES, "NewAPIServerCommand")
CONTROLLERS = KubernetesProgram("kube-controller-manager", KUBERNETES, "NewControllerManagerCommand")
SCHEDULER = KubernetesProgram("kube-scheduler", KUBERNETES, "NewSchedulerCommand")
NODES = GoProgram("kwok", KWOK, "sigs.k8s.io/kwok/cmd/kwok")
OPERATOR = GoProgram("ray-operator", KUBERAY, "github.com/ray-project/kuberay/ray-operator")
HELM_CLIENT = GoProgram("helm", HELM, "helm.sh/helm/v4/cmd/helm")


def go_module(module: str, version: str) -> Path:
    """Returns the folder of a module's source, which the first call downloads."""
    _need_go()
    document = json.loads(run("go", "mod", "download", "-json", f"{module}@{version}", cwd="/", env=_go()))
    return Path(document["Dir"])


def _need_go() -> None:
    """Fails in one line unless Go is there, in a version that takes Kubernetes' modules."""
    version = shutil.which("go") and run("go", "env", "GOVERSION").strip().removeprefix("go")
    numbers = tuple(int(part) for part in version.split(".")[:2]) if version else ()
    if numbers < _GO:
        oldest = ".".join(map(str, _GO))
        pytest.fail(
            f"the control plane is built by Go {oldest} or later; on the PATH is {version or 'none'}", pytrace=False
        )


def _go(**more: str) -> dict[str, str]:
    return os.environ | {"GOFLAGS": "-buildvcs=false"} | more


def _kubernetes_module() -> str:
    """Returns a go.mod that requires Kubernetes and replaces each of its parts by the release of the same number."""
    source = go_module("k8s.io/kubernetes", KUBERNETES)
    lines = (source / "go.mod").read_text("utf-8").splitlines()
    parts = sorted({line.split()[0] for line in lines if line.startswith("\tk8s.io/") and line.split()[1] == "v0.0.0"})
    release = f"v0.{KUBERNETES.removeprefix('v1.')}"
    version = next(line for line in lines if line.startswith("go "))
    replaced = "\n".join(f"\t{part} => {part} {release}" for part in parts)
    return f"module control-plane\n\n{version}\n\nrequire k8s.io/kubernetes {KUBERNETES}\n\nreplace (\n{replaced}\n)\n"


_MAIN = """package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/%s/app"
)

func main() { os.Exit(cli.Run(app.%s())) }
"""

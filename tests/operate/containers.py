"""Builds the images by buildah and runs containers by podman, both as root and without a registry."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

from tests.operate.programs import CACHE, ROOT, need_packages, need_root, run

_BASE = "localhost/penstock-base"
PODMAN = ("podman",)
_BUILDAH = ("buildah",)
# Without limits of its own, a container in a container gets higher ones than it may have.
LIMITS = ("--runtime", "runc", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000")
_FILES = "penstock.files"
_SYSTEM_CERTIFICATES = Path("/etc/ssl/certs")


def build_image(target: str) -> str:
    """Builds a target of the Dockerfile, unless it was built from the same files, and returns its tag."""
    need_root()
    need_packages("buildah", "podman", "runc", "mmdebstrap")
    _build_base()
    tag = f"localhost/penstock:{target}"
    digest = _context_digest()
    if _label(tag, _FILES) == digest:
        return tag
    run(
        *(*_BUILDAH, "bud", "--format", "docker", "--isolation", "chroot", "--network", "host", "--layers"),
        # A host behind a proxy with a certificate of its own trusts that one while it builds, and the image does not.
        *("--volume", f"{_SYSTEM_CERTIFICATES}:{_SYSTEM_CERTIFICATES}:ro"),
        *("--ignorefile", ROOT / "deploy" / "Dockerfile.dockerignore", "--build-arg", f"BASE={_BASE}"),
        *(
            "--label",
            f"{_FILES}={digest}",
            "--target",
            target,
            "--tag",
            tag,
            "--file",
            ROOT / "deploy" / "Dockerfile",
            ROOT,
        ),
    )
    return tag


def _context_digest() -> str:
    """Returns a digest of all files that an image is built from. Comparing layers would read gigabytes instead."""
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    names = ["deploy/Dockerfile", *(line.removeprefix("!") for line in ignored if line.startswith("!"))]
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *names, cwd=ROOT)
    digest = hashlib.sha256()
    for name in sorted(filter(None, listed.split("\0"))):
        path = ROOT / name
        if path.is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _label(image: str, name: str) -> str | None:
    """Returns a label of an image; None without it, or without the image."""
    done = subprocess.run([*PODMAN, "image", "inspect", image], capture_output=True, text=True, check=False)
    labels = json.loads(done.stdout)[0].get("Labels") if done.returncode == 0 else None
    return (labels or {}).get(name)


def run_once(
    image: str, *command: str, options: tuple[str, ...] = (), timeout_s: float = 600
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a container without network and rights, on a read-only root, and removes the container."""
    return subprocess.run(
        [*PODMAN, "run", "--rm", *LIMITS, *RESTRICTED, "--network", "none", *options, image, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


RESTRICTED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")


def layers_mb(image: str) -> list[tuple[str, float]]:
    """Returns what made each layer of an image, and its size in MB, the newest first."""
    history = json.loads(run(*PODMAN, "history", "--no-trunc", "--format", "json", image))
    return [(layer["CreatedBy"], layer["size"] / 1e6) for layer in history]


def image_mb(image: str) -> float:
    """Returns the size of an image in MB, not compressed."""
    return float(json.loads(run(*PODMAN, "image", "inspect", image))[0]["Size"]) / 1e6


def _build_base() -> None:
    """Makes the base image from packages of Debian, since there may be no registry: once."""
    if subprocess.run([*_BUILDAH, "inspect", _BASE], capture_output=True, check=False).returncode == 0:
        return
    folder = CACHE / "base"
    folder.mkdir(parents=True, exist_ok=True)
    run("mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder / "base.tar")
    (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n", encoding="utf-8")
    run(*_BUILDAH, "bud", "--isolation", "chroot", "--tag", _BASE, folder)
    (folder / "base.tar").unlink()


def podman(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
    """Runs podman and returns its status and outputs, whatever the status is."""
    done = subprocess.run([*PODMAN, *arguments], input=stdin, capture_output=True, check=False)
    texts = (output.decode(errors="replace") for output in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)

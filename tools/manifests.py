"""Writes `k8s/` from the chart: `python tools/manifests.py`, or `--check`, which says what differs.

Each case is the chart rendered with the example of the same name, one file per template, and a kustomization that lists them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CHART = REPOSITORY / "helm" / "trenza"
MANIFESTS = REPOSITORY / "k8s"
CASES = ("cpu", "gpu", "kind")
NAME = "trenza"
NAMESPACE_FILE = f"""apiVersion: v1
kind: Namespace
metadata:
  name: {NAME}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""


def files_of(case: str, helm: str) -> dict[str, str]:
    """Names and contents of a case's files."""
    command = [helm, "template", NAME, str(CHART), "--namespace", NAME, "--set", "tests.enabled=false"]
    values = CHART / "ci" / f"{case}-values.yaml"
    told = subprocess.run([*command, "--values", str(values)], capture_output=True, text=True, check=False)
    if told.returncode:
        sys.exit(told.stderr)
    files = {"namespace.yaml": NAMESPACE_FILE}
    for part in told.stdout.split("---\n# Source: ")[1:]:
        source, _, content = part.partition("\n")
        content = content.strip().replace(
            "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize"
        )
        name = Path(source).name
        files[name] = f"{files[name]}---\n{content}\n" if name in files else f"{content}\n"
    return {"kustomization.yaml": kustomization(case, sorted(files)), **files}


def kustomization(case: str, names: list[str]) -> str:
    """What kustomize reads first."""
    listed = "\n".join(f"  - {name}" for name in names)
    return f"""# The chart rendered with helm/trenza/ci/{case}-values.yaml; `make k8s` makes it anew. Build on it with an overlay.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {NAME}
resources:
{listed}
"""


def all_files(helm: str) -> dict[Path, str]:
    """Paths and contents of everything that is made."""
    return {MANIFESTS / case / name: content for case in CASES for name, content in files_of(case, helm).items()}


def main() -> None:
    """Writes the files, or lists those that are out of date."""
    tool = subprocess.run(
        [sys.executable, REPOSITORY / "tools" / "binaries.py", "helm"], capture_output=True, text=True, check=True
    )
    wanted = all_files(tool.stdout.splitlines()[-1])
    there = {path for case in CASES for path in (MANIFESTS / case).glob("*")}
    if "--check" in sys.argv:
        differing = sorted(there ^ wanted.keys()) + sorted(
            p for p in there & wanted.keys() if p.read_text() != wanted[p]
        )
        if differing:
            names = "\n".join(str(path.relative_to(REPOSITORY)) for path in differing)
            sys.exit(f"these are not what the chart makes, run make k8s:\n{names}")
        return
    for path in there - wanted.keys():
        path.unlink()
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()

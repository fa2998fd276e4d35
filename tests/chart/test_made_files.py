"""What is made from the chart and committed is what the chart makes now: `k8s/` and `docs/chart.md`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from chart.rendering import RELEASE, REPOSITORY

CASES = ("cpu", "gpu", "kind")


def said_by(tool: str, repository: Path) -> tuple[int, str]:
    """Exit status and complaint of a tool that is asked whether its files are up to date."""
    command = [sys.executable, str(repository / "tools" / tool), "--check"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.returncode, told.stderr


@pytest.fixture
def copy(tmp_path: Path, helm: Path) -> Path:
    """A copy of what the tools read and write, to spoil."""
    for name in ("helm", "k8s", "tools"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    (tmp_path / "docs").mkdir()
    shutil.copy(REPOSITORY / "docs" / "chart.md", tmp_path / "docs" / "chart.md")
    return tmp_path


@pytest.mark.parametrize("tool", ["manifests.py", "chart_docs.py"])
def test_up_to_date(tool: str, helm: Path) -> None:
    assert said_by(tool, REPOSITORY) == (0, "")


def test_a_change_of_the_chart_is_found_in_both(copy: Path) -> None:
    values = copy / "helm" / "trenza" / "values.yaml"
    values.write_text(values.read_text().replace("noticeSeconds: 10", "noticeSeconds: 11"))
    code, said = said_by("manifests.py", copy)
    assert code == 1
    assert "k8s/cpu/gateway.yaml" in said
    assert "k8s/kind" not in said  # it has a notice of its own
    code, said = said_by("chart_docs.py", copy)
    assert code == 1
    assert "make chart-docs" in said


def test_a_file_too_many_is_found(copy: Path) -> None:
    (copy / "k8s" / "cpu" / "old.yaml").write_text("{}\n")
    assert said_by("manifests.py", copy)[0] == 1


def test_a_value_without_a_comment_is_refused(copy: Path) -> None:
    values = copy / "helm" / "trenza" / "values.yaml"
    values.write_text(values.read_text().replace("  # -- `json` (one object a line) or `human`.\n", ""))
    code, said = said_by("chart_docs.py", copy)
    assert code == 1
    assert "logs.format has no comment" in said


@pytest.mark.parametrize("case", CASES)
def test_kustomize_finds_every_file(case: str) -> None:
    folder = REPOSITORY / "k8s" / case
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = kustomization["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in folder.iterdir())
    objects = [item for name in listed for item in yaml.safe_load_all((folder / name).read_text())]
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert len(names) == len(objects)
    assert {"Namespace", "Deployment", "Service", "NetworkPolicy"} <= {kind for kind, _ in names}
    assert ("Deployment", f"{RELEASE}-gateway") in names
    for item in objects:
        kubernetes_validate.validate(item, "1.36.0", strict=True)


def test_nothing_secret_or_random_is_committed() -> None:
    for case in CASES:
        for path in (REPOSITORY / "k8s" / case).iterdir():
            assert "kind: Secret" not in path.read_text()

"""Fixtures of the chart's tests: a real helm, and what it makes of the chart."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
from chart.rendering import REPOSITORY, VARIANTS, Chart, Objects

BUILD_S = 900.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where helm has to be built first, whichever test comes first waits for it."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(BUILD_S))


def built(name: str) -> Path:
    """Where a tool lies; it is built if it is not there yet."""
    command = [sys.executable, str(REPOSITORY / "tools" / "binaries.py"), name]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_S)
    assert told.returncode == 0, told.stdout + told.stderr
    return Path(told.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def helm() -> Path:
    """The command."""
    return built("helm")


@pytest.fixture(scope="session")
def crds() -> Path:
    """A folder with the schemas of cert-manager's, KEDA's, the Prometheus operator's and the Gateway API's objects."""
    return built("crds")


@pytest.fixture(scope="session")
def chart(helm: Path) -> Chart:
    """The chart, each set of values rendered once."""
    return Chart(helm)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    """Every example in the chart's `ci` folder."""
    return str(request.param)


@pytest.fixture
def objects(chart: Chart, variant: str) -> Objects:
    """What it makes."""
    return chart.variant(variant)


@pytest.fixture(scope="session", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """Kubernetes' schemas are megabytes, and the validator would read them again for every object."""
    with pytest.MonkeyPatch.context() as patched:
        read = kubernetes_validate.utils.schema_contents
        patched.setattr(kubernetes_validate.utils, "schema_contents", functools.cache(read))
        yield

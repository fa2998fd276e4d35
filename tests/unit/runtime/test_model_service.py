"""What every model service does with its settings; the rest of it is judged with real services, in tests/wire."""

from __future__ import annotations

import pytest
from trenza_runtime.model_service import to_preload


@pytest.mark.parametrize(
    ("names", "wanted", "loaded"),
    [
        (["a"], "auto", ["a"]),
        (["a", "b"], "auto", []),
        ([], "auto", []),
        (["a"], "none", []),
        (["a", "b"], "b, c", ["b", "c"]),
    ],
)
def test_preload(names: list[str], wanted: str, loaded: list[str]) -> None:
    assert to_preload(names, wanted) == loaded

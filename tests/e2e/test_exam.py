"""What `helm test` asks and expects is what the starter models answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mesh import Mesh

SCRIPT = Path(__file__).parents[2] / "helm" / "trenza" / "tests" / "examine.py"


@pytest.mark.timeout(600)
def test_the_starter_models_pass(full_mesh: Mesh) -> None:
    models = "starter-chat,starter-voice,starter-whisper,starter-draw,starter-vision"
    exam = {
        "EXAM_URL": full_mesh.http_url,
        "EXAM_KEY": "none is needed on loopback",
        "EXAM_MODELS": models,
        "EXAM_SECONDS": "500",
    }
    told = subprocess.run(
        [sys.executable, str(SCRIPT)], env={**os.environ, **exam}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "5 of 5 right" in told.stdout

"""What operators may say of expected models and of patience, and what becomes of it."""

from __future__ import annotations

import pytest
from trenza.common.v1 import common_pb2
from trenza_scheduler.core.domain import ModelKey
from trenza_scheduler.settings import SchedulerSettings, expected_models

CHAT, IMAGES = common_pb2.MODALITY_CHAT, common_pb2.MODALITY_IMAGES


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("", {}),
        (" , ", {}),
        ("chat/starter-chat:4,images/sdxl-turbo:1", {(CHAT, "starter-chat"): 4, (IMAGES, "sdxl-turbo"): 1}),
        (" chat/a , chat/b:0 ", {(CHAT, "a"): 0, (CHAT, "b"): 0}),
        ("chat/Org/Model.v1:q4:2", {(CHAT, "Org/Model.v1:q4"): 2}),
        ("chat/llama:instruct", {(CHAT, "llama:instruct"): 0}),
        ("chat/a:2,chat/a:8,chat/a", {(CHAT, "a"): 8}),
        ("chat/same:1,images/same:1", {(CHAT, "same"): 1, (IMAGES, "same"): 1}),
    ],
)
def test_expected_models(text: str, models: dict[tuple[int, str], int]) -> None:
    assert expected_models(text) == {ModelKey(*key): slots for key, slots in models.items()}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("starter-chat", "form"),
        ("chat/", "form"),
        ("chat/:4", "form"),
        ("talk/a", "chat, audio, vision, images"),
        ("chat/a:70000", "more than"),
        ("chat/" + "x" * 300, "form"),
        (",".join(f"chat/m{number}" for number in range(5000)), "too many"),
    ],
)
def test_expected_models_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        expected_models(text)


def test_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = SchedulerSettings().limits()
    assert (usual.suspect_after_s, usual.dead_after_s) == (5.0, 20.0)
    for name, value in {"HEARTBEAT_INTERVAL_MS": 1000, "SUSPECT_AFTER_BEATS": 6, "DEAD_AFTER_BEATS": 3}.items():
        monkeypatch.setenv(f"TRENZA_SCHEDULER_{name}", str(value))
    for name in ("ABSENCE_WAIT_S", "LOAD_PATIENCE_S", "ACTIVITY_HOLD_S"):
        monkeypatch.setenv(f"TRENZA_SCHEDULER_{name}", "33")
    limits = SchedulerSettings().limits()
    assert (limits.suspect_after_s, limits.dead_after_s) == (6.0, 12.0), "nobody is forgotten before he is suspect"
    assert (limits.absence_wait_s, limits.load_patience_s, limits.activity_hold_s) == (33, 33, 33)

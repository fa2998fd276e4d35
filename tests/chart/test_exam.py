"""The examination that `helm test` holds: right answers pass, a wrong one fails, and what is not there is skipped plainly."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from chart.rendering import CHART, RELEASE, Chart
from PIL import Image

ALL = "starter-chat,starter-voice,starter-whisper,starter-draw,starter-vision"
KEY = "trz-right"


def drawn(background: str, middle: str | tuple[int, int, int]) -> str:
    """A picture as the gateway sends it."""
    picture = Image.new("RGB", (64, 64), background)
    picture.paste(Image.new("RGB", (32, 32), middle), (16, 16))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


class Mesh:
    """Answers as a gateway does; whatever `wrong` names it answers wrongly."""

    def __init__(self) -> None:
        self.wrong: set[str] = set()
        self.refusals = 0
        self.keys: set[str] = set()
        self._spoken = ""

    def answer(self, path: str, body: bytes) -> bytes:
        if path == "/v1/audio/transcriptions":
            text = "nothing at all" if "audio" in self.wrong else body.split(b"SOUND:")[1].split(b"\r\n")[0].decode()
            return json.dumps({"text": text.upper() + "."}).encode()
        asked = json.loads(body)
        if path == "/v1/audio/speech":
            return b"SOUND:" + asked["input"].encode()
        if path == "/v1/images/generations":
            middle = "red" if "images" in self.wrong else (30, 60, 230)
            return json.dumps({"data": [{"b64_json": drawn("yellow", middle)}]}).encode()
        content = asked["messages"][0]["content"]
        text = self._seen(content) if asked["model"] == "starter-vision" else self._sum(content)
        if not asked.get("stream"):
            return json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        events = [json.dumps({"choices": [{"delta": {"content": letter}}]}) for letter in text]
        end = [] if "stream" in self.wrong else ["[DONE]"]
        return "".join(f"data: {event}\n\n" for event in [": keep-alive", *events, *end] if event[0] != ":").encode()

    def _sum(self, question: str) -> str:
        one, other = map(int, re.findall(r"\d+", question))
        return f"{one} + {other} is {one + other + ('chat' in self.wrong)}."

    def _seen(self, content: list[dict[str, Any]]) -> str:
        url = content[1]["image_url"]["url"]
        picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
        if "vision" in self.wrong:
            return "There is a green circle."
        red, _, blue = picture.getpixel((picture.width // 2, picture.height // 2))  # type: ignore[misc]  # of three bands
        drawn_one = picture.getpixel((0, 0)) != (255, 255, 255)
        return f"There is a {'red' if red > blue else 'blue'} {'star' if drawn_one else 'square'}."


@pytest.fixture
def mesh() -> Iterator[tuple[Mesh, str]]:
    mesh = Mesh()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            mesh.keys.add(self.headers["authorization"])
            refused = mesh.refusals > 0
            mesh.refusals -= refused
            self.send_response(503 if refused else 200)
            self.end_headers()
            self.wfile.write(b'{"error": "the model is loading"}' if refused else mesh.answer(self.path, body))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield mesh, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def examined(url: str, models: str = ALL, seconds: float = 60, key: str = KEY) -> tuple[int, str]:
    """Exit status and output of the examination, by a Python that knows nothing but its own library."""
    environment = {"EXAM_URL": url, "EXAM_MODELS": models, "EXAM_SECONDS": str(seconds), "EXAM_KEY": key}
    command = [sys.executable, "-I", "-S", str(CHART / "tests" / "examine.py")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return told.returncode, told.stdout + told.stderr


def test_right_answers_pass(mesh: tuple[Mesh, str]) -> None:
    code, said = examined(mesh[1])
    assert code == 0, said
    assert "5 of 5 right" in said
    assert mesh[0].keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("chat", "wrong: chat"),
        ("stream", "wrong: chat"),
        ("audio", "wrong: audio"),
        ("images", "wrong: images"),
        ("vision", "wrong: vision, images and vision"),
    ],
)
def test_a_wrong_answer_fails(mesh: tuple[Mesh, str], wrong: str, told: str) -> None:
    mesh[0].wrong = {wrong}
    code, said = examined(mesh[1])
    assert code == 1
    assert told in said


def test_what_is_not_there_is_skipped_plainly(mesh: tuple[Mesh, str]) -> None:
    code, said = examined(mesh[1], "starter-chat,starter-draw")
    assert code == 0
    assert "audio: SKIPPED, since starter-voice and starter-whisper is not served here" in said
    assert "vision: SKIPPED" in said
    assert "2 of 2 right" in said


def test_nothing_to_ask_is_no_success(mesh: tuple[Mesh, str]) -> None:
    assert examined(mesh[1], "")[0] == 2


def test_a_model_that_still_loads_is_waited_for(mesh: tuple[Mesh, str]) -> None:
    mesh[0].refusals = 1
    code, said = examined(mesh[1], "starter-chat")
    assert code == 0
    assert "503" in said


def test_no_mesh_is_a_failure_in_time() -> None:
    code, said = examined("http://127.0.0.1:9", "starter-chat", seconds=1)
    assert code == 1
    assert "WRONG" in said


def test_no_key_is_a_failure(mesh: tuple[Mesh, str]) -> None:
    code, said = examined(mesh[1], key="")
    assert code == 1
    assert "tests.apiKeySecret" in said


def exam(chart: Chart, values: dict[str, Any]) -> dict[str, Any]:
    """The environment of the examining pod."""
    container = chart.render(values).get("Pod", f"{RELEASE}-exam")["spec"]["containers"][0]
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container["env"]}


def test_the_pod_asks_for_the_starter_models_that_are_served(chart: Chart) -> None:
    assert set(exam(chart, {})["EXAM_MODELS"].split(",")) == set(ALL.split(","))
    pools = {"vision": {"enabled": False}, "images": {"storage": {"type": "pvc"}, "models": {"other": {}}}}
    assert set(exam(chart, {"pools": pools})["EXAM_MODELS"].split(",")) == {
        "starter-chat",
        "starter-voice",
        "starter-whisper",
    }


def test_the_pod_has_the_key_and_the_address(chart: Chart) -> None:
    made = exam(chart, {})
    assert made["EXAM_KEY"]["secretKeyRef"] == {"name": f"{RELEASE}-api-keys", "key": "key", "optional": True}
    assert made["EXAM_URL"] == f"http://{RELEASE}-gateway.ai.svc:8080"
    given = exam(
        chart,
        {
            "gateway": {
                "apiKeys": {"existingSecret": "ours"},
                "tls": {"secretName": "front"},
                "service": {"httpPort": 443},
            },
            "tests": {"apiKeySecret": {"name": "plain", "key": "alice"}},
        },
    )
    assert given["EXAM_KEY"]["secretKeyRef"] == {"name": "plain", "key": "alice", "optional": True}
    assert given["EXAM_URL"] == f"https://{RELEASE}-gateway.ai.svc:443"


def test_the_pod_is_a_test_and_cleans_up_after_itself(chart: Chart) -> None:
    objects = chart.render()
    annotations = objects.get("Pod", f"{RELEASE}-exam")["metadata"]["annotations"]
    assert annotations == {"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"}
    script = objects.get("ConfigMap", f"{RELEASE}-exam")["data"]["examine.py"]
    assert script == (CHART / "tests" / "examine.py").read_text()
    assert chart.render({"tests": {"enabled": False}}).of("Pod") == []

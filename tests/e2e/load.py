"""What end-to-end tests ask, and how they look at the mesh while it answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import openai
from mesh import Mesh

MODEL = "starter-chat"
SEVEN_AND_FIVE = [{"role": "user", "content": "What is 7 + 5?"}]
# Far longer than the model would talk of its own accord, so that there is something to interrupt.
LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Hello!"}],
    "extra_body": {"ignore_eos": True},
    "temperature": 1.0,
}


def client_of(mesh: Mesh) -> openai.OpenAI:
    """The official client, with retries off so that every failure shows."""
    return openai.OpenAI(base_url=f"{mesh.http_url}/v1", api_key="none", max_retries=0, timeout=120)


def ask(client: openai.OpenAI, question: str, **options: Any) -> str:
    """One question, greedily answered."""
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": question}], temperature=0, **options
    )
    return answer.choices[0].message.content or ""


def slots_used(mesh: Mesh) -> dict[str, int]:
    """Slots taken by replica, as the replicas themselves report."""
    replicas = mesh.snapshot().snapshot.replicas
    return {view.state.replica_id: sum(model.slots_used for model in view.state.models) for view in replicas}


def leased_slots(mesh: Mesh) -> dict[str, int]:
    """Slots under lease by replica, as the scheduler counts them."""
    return {view.state.replica_id: view.leased_slots for view in mesh.snapshot().snapshot.replicas}


def waiting(mesh: Mesh) -> int:
    """Tickets in the scheduler's queue."""
    return sum(queue.waiting_tickets for queue in mesh.snapshot().queues)


class Crowd:
    """Threads that each run one call; what they returned or raised is kept in order of ending."""

    def __init__(self) -> None:
        self.ended: list[tuple[object, object]] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def send(self, label: object, call: Callable[[], object]) -> None:
        def run() -> None:
            try:
                result: object = call()
            except Exception as error:  # whatever it is, the test looks at it
                result = error
            with self._lock:
                self.ended.append((label, result))

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, limit_s: float = 120) -> list[tuple[object, object]]:
        end = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        alive = sum(thread.is_alive() for thread in self._threads)
        assert not alive, f"{alive} of {len(self._threads)} calls are still running after {limit_s} s"
        return self.ended

    def errors(self) -> list[Exception]:
        return [result for _, result in self.ended if isinstance(result, Exception)]

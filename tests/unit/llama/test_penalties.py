from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from trenza_llama.engine import GenerateRequest, Sampling, TextPrompt
from trenza_llama.engines.sampler import Penalties

VOCABULARY = SimpleNamespace(size=5, end_tokens=frozenset({4}))
LOGITS = [2.0, -2.0, 1.0, 0.0, 3.0]


def adjusted(sampling: Sampling, prompt: list[int], generated: list[int], ignore_eos: bool = False) -> list[float]:
    request = GenerateRequest(TextPrompt("…"), sampling, ignore_eos=ignore_eos)
    penalties = Penalties(request, VOCABULARY, prompt)  # type: ignore[arg-type]  # a vocabulary without a model
    for token in generated:
        penalties.remember(token)
    logits = np.array(LOGITS, dtype=np.float32)
    penalties.apply(logits)
    return logits.tolist()


@pytest.mark.parametrize(
    ("sampling", "prompt", "generated", "expected"),
    [
        pytest.param(Sampling(), [0, 1], [0], LOGITS, id="all off"),
        pytest.param(Sampling(presence_penalty=1), [0, 1], [], LOGITS, id="presence does not count the prompt"),
        pytest.param(Sampling(presence_penalty=1), [], [2, 2], [2, -2, 0, 0, 3], id="presence counts once"),
        pytest.param(Sampling(frequency_penalty=0.5), [2], [2, 2], [2, -2, 0, 0, 3], id="frequency counts every time"),
        pytest.param(
            Sampling(presence_penalty=1, frequency_penalty=0.5), [], [0, 3, 3], [0.5, -2, 1, -2, 3], id="both add up"
        ),
        pytest.param(Sampling(repeat_penalty=2), [0, 1], [2], [1, -4, 0.5, 0, 3], id="repeat counts the prompt too"),
        pytest.param(Sampling(repeat_penalty=2), [0] + [3] * 64, [], [2, -2, 1, 0, 3], id="the last 64 tokens only"),
        pytest.param(Sampling(repeat_penalty=2), [0] + [3] * 63, [], [1, -2, 1, 0, 3], id="all of the last 64"),
        pytest.param(Sampling(repeat_penalty=2), [0] + [3] * 63, [3], LOGITS, id="the window moves on"),
        pytest.param(Sampling(logit_bias=((1, 5.0), (0, -1.5))), [], [], [0.5, 3, 1, 0, 3], id="bias"),
        pytest.param(Sampling(logit_bias=((1, 1.0), (1, 1.0))), [], [], [2, 0, 1, 0, 3], id="bias given twice"),
    ],
)
def test_logits_after_penalties(
    sampling: Sampling, prompt: list[int], generated: list[int], expected: list[float]
) -> None:
    assert adjusted(sampling, prompt, generated) == expected


def test_ignoring_the_end_makes_it_impossible() -> None:
    assert adjusted(Sampling(), [], [], ignore_eos=True)[4] == -np.inf

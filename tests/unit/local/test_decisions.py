"""What the launcher decides without starting anything: order, restarts, the mesh, ports, words."""

from __future__ import annotations

import json
import logging
import shlex
import socket
from graphlib import CycleError
from pathlib import Path

import pytest
from trenza.common.v1 import common_pb2
from trenza.scheduler.v1 import scheduler_pb2
from trenza_local.command import up
from trenza_local.components import Component, components
from trenza_local.core.order import waves
from trenza_local.core.restarts import LONGEST_DELAY_S, STABLE_S, STILLBIRTH_LIMIT, History
from trenza_local.fleet import summarise
from trenza_local.output import Output, read
from trenza_local.ports import ConfigurationError, Port, require_free
from trenza_local.summary import Model, commands, listening, summary


def mesh_of(**environment: str) -> dict[str, Component]:
    return {component.name: component for component in components(environment, ["chat"], cores=8)}


def test_delays_double_up_to_a_limit_and_are_forgotten_after_a_healthy_while() -> None:
    history, delays = History(), []
    for _ in range(9):
        history = history.died(exit_code=1, lived_s=1, was_ready=True)
        delays.append(history.delay_s)
    assert delays[:4] == [0.5, 1, 2, 4]
    assert delays[-1] == LONGEST_DELAY_S
    assert history.died(exit_code=1, lived_s=STABLE_S, was_ready=True).delay_s == delays[0]


@pytest.mark.parametrize(
    ("deaths", "hopeless"),
    [
        ([(2, False)], True),
        ([(1, False)], False),
        ([(1, False)] * (STILLBIRTH_LIMIT - 1), False),
        ([(1, False)] * STILLBIRTH_LIMIT, True),
        ([(-9, True)] + [(2, False)] * 5, False),
        ([(1, True)] * 50, False),
        ([], False),
    ],
)
def test_only_a_process_that_never_ran_is_given_up(deaths: list[tuple[int, bool]], hopeless: bool) -> None:
    history = History()
    for exit_code, was_ready in deaths:
        history = history.died(exit_code, lived_s=1, was_ready=was_ready)
    assert history.is_hopeless == hopeless


def test_waves_respect_what_comes_after_what() -> None:
    assert waves({"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": []}) == [["a"], ["b", "c"], ["d"]]
    with pytest.raises(CycleError):
        waves({"a": ["b"], "b": ["a"]})


def test_the_mesh_starts_with_the_scheduler_and_stops_with_the_gateway_first() -> None:
    mesh = mesh_of(TRENZA_CHAT_REPLICAS="2")
    assert waves({name: component.needs for name, component in mesh.items()})[0] == ["scheduler"]
    before = {name: (*component.needs, *component.uses) for name, component in mesh.items()}
    assert list(reversed(waves(before))) == [["gateway"], ["chat-0", "chat-1"], ["scheduler"]]


def test_everybody_is_told_where_the_scheduler_is() -> None:
    mesh = mesh_of(TRENZA_SCHEDULER_GRPC_PORT="7001", TRENZA_SCHEDULER_HOST="0.0.0.0")
    assert mesh["scheduler"].ports[0] == Port("0.0.0.0", 7001, "TRENZA_SCHEDULER_GRPC_PORT")
    assert mesh["chat-0"].environment["TRENZA_CHAT_SCHEDULER_ADDRESS"] == "127.0.0.1:7001"
    assert mesh["gateway"].environment["TRENZA_GATEWAY_SCHEDULER_ADDRESS"] == "127.0.0.1:7001"


def test_replicas_have_names_and_ports_of_their_own_and_share_the_cores() -> None:
    mesh = mesh_of(TRENZA_CHAT_REPLICAS="4", TRENZA_CHAT_REPLICA_ID="mine")
    replicas = [mesh[f"chat-{index}"] for index in range(4)]
    assert [replica.environment["TRENZA_CHAT_REPLICA_ID"] for replica in replicas] == [f"chat-{n}" for n in range(4)]
    assert {port.number for replica in replicas for port in replica.ports} == {0, -1}
    assert {replica.environment["TRENZA_CHAT_THREADS"] for replica in replicas} == {"2"}
    assert "TRENZA_CHAT_THREADS" not in mesh_of()["chat-0"].environment
    assert (
        mesh_of(TRENZA_CHAT_REPLICAS="4", TRENZA_CHAT_THREADS="7")["chat-3"].environment["TRENZA_CHAT_THREADS"] == "7"
    )


def test_a_modality_can_be_left_out() -> None:
    assert list(mesh_of(TRENZA_MODALITIES="")) == ["scheduler", "gateway"]
    assert [component.name for component in components({}, [], cores=1)] == ["scheduler", "gateway"]


@pytest.mark.parametrize(
    "environment",
    [
        {"TRENZA_CHAT_REPLICAS": "many"},
        {"TRENZA_CHAT_REPLICAS": "-1"},
        {"TRENZA_GATEWAY_HTTP_PORT": "99999"},
        {"TRENZA_GATEWAY_GRPC_PORT": "-1"},
        {"TRENZA_SCHEDULER_GRPC_PORT": "0"},
        {"TRENZA_MODALITIES": "chat,smell"},
        {"TRENZA_CHAT_GRPC_PORT": "7000", "TRENZA_CHAT_REPLICAS": "2"},
    ],
)
def test_nonsense_is_refused_by_name(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(environment))):
        mesh_of(**environment)


def test_a_taken_port_is_named_with_the_variable_that_changes_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"^port {number} is taken .* TRENZA_X_PORT=…$"):
            require_free([Port("127.0.0.1", number, "TRENZA_X_PORT")])
    require_free([Port("127.0.0.1", number, "TRENZA_X_PORT")])


def test_a_port_given_twice_is_found() -> None:
    with pytest.raises(ConfigurationError, match="given twice, as A and as B"):
        require_free([Port("127.0.0.1", 9090, "A"), Port("127.0.0.1", 9090, "B")])
    require_free([Port("127.0.0.1", 0, "A"), Port("127.0.0.1", 0, "B"), Port("127.0.0.1", -1, "C")])


@pytest.mark.parametrize("word", ["chat", "chat=", "chat=two", "smell=2"])
def test_replicas_on_the_command_line_must_make_sense(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert up(["--replicas", word]) == 1
    assert capsys.readouterr().err.startswith(f"error: --replicas {word} is not like")


def test_a_line_is_read_for_its_level_and_without_ornaments() -> None:
    record = {
        "time": "now",
        "level": "warning",
        "component": "chat",
        "event": "slow",
        "wait_s": 2,
        "exception": "a\nB: c",
    }
    line = read(json.dumps(record))
    assert (line.level, line.text) == (logging.WARNING, "slow wait_s=2 (B: c)")
    for text in ("llama: noise", "{not json", '{"level": "loud", "event": "x"}', "{}"):
        assert (read(text).level, read(text).text) == (logging.DEBUG, text)


def test_the_last_words_are_the_confession_or_else_the_last_line(tmp_path: Path) -> None:
    output = Output(tmp_path / "log")
    assert output.last_words() == ""
    for raw in (b"one\n", b"error: no such file\n", b"three\n", b"\n"):
        output.add(raw)
    assert output.last_words() == "no such file"
    output.forget()
    output.add(b"Traceback\n")
    output.add(b"KeyError: \xff\n")
    assert output.last_words() == "KeyError: �"
    output.close()
    assert output.path.read_text().splitlines() == [
        "one",
        "error: no such file",
        "three",
        "",
        "Traceback",
        "KeyError: �",
    ]


def test_the_log_file_stays_inside_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trenza_local.output.FILE_BYTES", 1000)
    output = Output(tmp_path / "log")
    for _ in range(500):
        output.add(b"x" * 50)
    output.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    assert len(list(tmp_path.iterdir())) == 2


def state(
    name: str, load_state: common_pb2.LoadState.ValueType, progress: float = 0.0, failure: str = ""
) -> scheduler_pb2.ModelState:
    model = common_pb2.Model(
        name=name, modality=common_pb2.MODALITY_CHAT, load_state=load_state, load_progress=progress
    )
    return scheduler_pb2.ModelState(model=model, failure=failure)


def test_a_model_is_as_far_as_on_its_best_replica() -> None:
    models = summarise(
        [
            state("b", common_pb2.LOAD_STATE_FAILED, failure="the file is cut short"),
            state("a", common_pb2.LOAD_STATE_LOADABLE),
            state("a", common_pb2.LOAD_STATE_LOADED),
            state("a", common_pb2.LOAD_STATE_FAILED),
            state("c", common_pb2.LOAD_STATE_LOADING, progress=0.42),
            state("d", common_pb2.LOAD_STATE_LOADABLE),
        ]
    )
    assert [str(model) for model in models] == [
        "a (ready)",
        "b (cannot be loaded: the file is cut short)",
        "c (loading, 42%)",
        "d (loads when it is first asked for)",
    ]
    assert [model.settled for model in models] == [True, True, False, True]


def test_the_summary_has_a_line_to_paste() -> None:
    gateway = mesh_of(TRENZA_GATEWAY_HOST="0.0.0.0")["gateway"]
    models = [Model("big", "chat", "ready", True), Model("starter-chat", "chat", "ready", True)]
    text = summary(gateway, {"http_port": 81, "grpc_port": 91}, models, Path("logs"), keys_needed=False)
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith("curl ")]
    words = shlex.split(line)
    assert words[1] == "http://127.0.0.1:81/v1/chat/completions"
    assert json.loads(words[-1])["model"] == "starter-chat"
    assert "starter-chat (ready)" in text


def test_the_lines_to_paste_follow_what_there_is() -> None:
    asking_for_keys = 'curl http://h/v1/models -H "authorization: Bearer $TRENZA_API_KEY"'
    assert commands("http://h", [], keys_needed=True) == [asking_for_keys]
    (other,) = commands("http://h", [Model("it's", "chat", "ready", True)], keys_needed=False)
    assert json.loads(shlex.split(other)[-1])["model"] == "it's"


@pytest.mark.parametrize(
    ("models", "paths"),
    [
        ({"starter-voice": "audio"}, ["audio/speech"]),
        ({"starter-whisper": "audio"}, ["models"]),
        ({"starter-whisper": "audio", "starter-voice": "audio"}, ["audio/speech", "audio/transcriptions"]),
        ({"a": "images", "starter-draw": "images"}, ["images/generations"]),
        ({"c": "chat", "i": "images"}, ["chat/completions", "images/generations"]),
        ({"c": "chat", "v": "vision"}, ["chat/completions", "chat/completions"]),
    ],
)
def test_each_modality_has_its_line(models: dict[str, str], paths: list[str]) -> None:
    lines = commands("http://h", [Model(name, kind, "ready", True) for name, kind in models.items()], keys_needed=False)
    assert [shlex.split(line)[1] for line in lines] == [f"http://h/v1/{path}" for path in paths]


def test_addresses_are_shown_as_one_types_them() -> None:
    component = Component("x", "m", host="::1")
    assert listening(component, {"grpc_port": 5, "metrics_port": 6}) == "gRPC [::1]:5   metrics http://[::1]:6/metrics"

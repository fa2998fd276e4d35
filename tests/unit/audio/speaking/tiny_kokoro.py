"""Writes an ONNX graph with Kokoro's inputs and output that hums: as long as its tokens over its speed, as loud as its style."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, save

VOICES = ("af_heart", "af_nova", "am_onyx", "bf_emma", "bm_george", "ef_dora", "em_alex", "if_sara")
SAMPLES_PER_TOKEN = 2400
HZ = 200
_RATE_HZ = 24_000


def write_kokoro(folder: Path, whole_speeds: bool = False) -> tuple[Path, Path]:
    """Writes the graph and the file of voices; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    model, voices = folder / "kokoro.onnx", folder / "voices.bin"
    save(_graph(whole_speeds), model)
    styles: dict[str, Any] = {
        name: np.full((510, 1, 256), 0.1 + 0.08 * index, np.float32) for index, name in enumerate(VOICES)
    }
    with voices.open("wb") as file:
        np.savez(file, **styles)
    return model, voices


def _graph(whole_speeds: bool) -> ModelProto:
    constants = {
        "per_token": np.float32(SAMPLES_PER_TOKEN),
        "zero": np.float32(0),
        "one": np.float32(1),
        "step": np.float32(2 * np.pi * HZ / _RATE_HZ),
        "axis": np.array([1], np.int64),
        "scalar": np.zeros(0, np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["tokens"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["count"]),
        helper.make_node("Cast", ["count"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["speed"], ["pace"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["length", "pace"], ["slowed"]),
        helper.make_node("Mul", ["slowed", "per_token"], ["samples"]),
        helper.make_node("Reshape", ["samples", "scalar"], ["end"]),
        helper.make_node("Range", ["zero", "end", "one"], ["moments"]),
        helper.make_node("Mul", ["moments", "step"], ["phase"]),
        helper.make_node("Sin", ["phase"], ["wave"]),
        helper.make_node("ReduceMean", ["style"], ["loudness"], keepdims=0),
        helper.make_node("Mul", ["wave", "loudness"], ["audio"]),
    ]
    inputs = [
        helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "length"]),
        helper.make_tensor_value_info("style", TensorProto.FLOAT, [1, 256]),
        helper.make_tensor_value_info("speed", TensorProto.INT32 if whole_speeds else TensorProto.FLOAT, [1]),
    ]
    output = helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["samples"])
    initial = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "hum", inputs, [output], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model

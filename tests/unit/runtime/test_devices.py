"""Memory limits of containers, and what a replica says of its devices."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY
from trenza_runtime.devices import Device, Devices, cgroup_memory


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def own(tmp_path: Path, text: str) -> Path:
    (tmp_path / "own").write_text(text)
    return tmp_path / "own"


def test_version_2_counts_what_the_kernel_cannot_drop(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(root / "pod", memory__max="1000\n", memory__current="700\n", memory__stat="anon 400\ninactive_file 250\n")
    assert cgroup_memory(root, own(tmp_path, "0::/pod\n")) == (1000, 450)


def test_the_tightest_limit_above_counts(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(root, memory__stat="")
    write(root / "slice", memory__max="500", memory__current="100")
    write(root / "slice" / "pod", memory__max="max", memory__current="50")
    assert cgroup_memory(root, own(tmp_path, "0::/slice/pod\n")) == (500, 100)


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(root, memory__max="1000", memory__current="300")
    assert cgroup_memory(root, own(tmp_path, "0::/kubepods/as/the/host/names/it\n")) == (1000, 300)


def test_version_1(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(
        root / "memory" / "docker",
        memory__limit_in_bytes="2000",
        memory__usage_in_bytes="900",
        memory__stat="inactive_file 1\ntotal_inactive_file 100\n",
    )
    text = "9:name=systemd:/docker\n4:memory:/docker\n3:cpu,cpuacct:/docker\n"
    assert cgroup_memory(root, own(tmp_path, text)) == (2000, 800)


def test_no_limit(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    write(root / "memory", memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="900")
    assert cgroup_memory(root, own(tmp_path, "4:memory:/\n")) is None
    assert cgroup_memory(tmp_path / "nothing", tmp_path / "nowhere") is None


def test_this_machine_has_a_cpu_with_memory() -> None:
    cpu = Devices().read()[0]
    assert cpu.name == "cpu"
    assert 0 < cpu.memory_free_bytes <= cpu.memory_total_bytes
    assert 0 <= cpu.utilisation <= 1
    assert cpu.to_proto().memory_total_bytes == cpu.memory_total_bytes


class NVMLError(Exception):
    """What NVIDIA's library raises."""


def fake_nvml(broken: bool = False, lost: Collection[int] = (2,)) -> SimpleNamespace:
    """Three GPUs: a healthy one, a part of one that tells no utilisation, and one that has fallen off the bus, as `lost` says."""

    def init() -> None:
        if broken:
            raise NVMLError("Driver Not Loaded")

    def memory(handle: int) -> SimpleNamespace:
        if handle in lost:
            raise NVMLError("GPU is lost")
        return SimpleNamespace(total=1000 + handle, free=400)

    def utilisation(handle: int) -> SimpleNamespace:
        if handle == 1:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=25)

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=init,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetUtilizationRates=utilisation,
    )


def test_gpus_that_answer_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {2}
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(lost=lost))
    devices = Devices()
    assert devices.read()[1:] == [Device("cuda:0", 1000, 400, 0.25), Device("cuda:1", 1001, 400, -1.0)]
    shown = {"device": "cuda:1", "figure": "total"}
    assert REGISTRY.get_sample_value("trenza_device_memory_bytes", shown) == 1001
    assert REGISTRY.get_sample_value("trenza_device_memory_bytes", {**shown, "figure": "free"}) == 400
    lost.add(1)
    assert [device.name for device in devices.read()] == ["cpu", "cuda:0"]
    assert REGISTRY.get_sample_value("trenza_device_memory_bytes", shown) is None


@pytest.mark.parametrize("library", [None, fake_nvml(broken=True)])
def test_no_library_or_no_driver_means_no_gpu(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert [device.name for device in Devices().read()] == ["cpu"]

"""The memory and the accelerators that this process may use, as facts for the scheduler and for the memory plan."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import Gauge
from trenza.scheduler.v1 import scheduler_pb2

log = logging.getLogger(__name__)

CPU = "cpu"
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_MEMORY_BYTES = Gauge(
    "trenza_device_memory_bytes", "Memory that this replica may use, and what of it is free.", ["device", "figure"]
)


@dataclass(frozen=True, slots=True)
class Device:
    """One device at one moment. Memory in bytes; `utilisation` from 0 to 1, negative where it is not known."""

    name: str
    memory_total_bytes: int
    memory_free_bytes: int
    utilisation: float

    def to_proto(self) -> scheduler_pb2.DeviceState:
        """The device as a heartbeat tells it."""
        return scheduler_pb2.DeviceState(
            name=self.name,
            memory_total_bytes=self.memory_total_bytes,
            memory_free_bytes=self.memory_free_bytes,
            utilisation=self.utilisation,
        )


class Devices:
    """Reads the CPU's memory (a container's limit counts) and every NVIDIA GPU, where `nvidia-ml-py` is installed."""

    def __init__(self) -> None:
        self._read_gpus = _gpu_reader()
        self._shown: set[str] = set()
        psutil.cpu_percent()  # the first call only sets the mark from which the next one measures

    def read(self) -> list[Device]:
        """The devices as they are now, the CPU first; one that fails is left out. Takes a few milliseconds."""
        devices = [_cpu(), *self._read_gpus()]
        names = {device.name for device in devices}
        for gone in self._shown - names:
            _MEMORY_BYTES.remove_by_labels({"device": gone})
        self._shown = names
        for device in devices:
            _MEMORY_BYTES.labels(device.name, "total").set(device.memory_total_bytes)
            _MEMORY_BYTES.labels(device.name, "free").set(device.memory_free_bytes)
        return devices


def _cpu() -> Device:
    machine = psutil.virtual_memory()
    total_bytes, free_bytes = int(machine.total), int(machine.available)
    limit = cgroup_memory()
    if limit is not None and limit[0] < total_bytes:
        total_bytes, free_bytes = limit[0], min(free_bytes, max(0, limit[0] - limit[1]))
    return Device(CPU, total_bytes, free_bytes, psutil.cpu_percent() / 100)


def cgroup_memory(root: Path = _CGROUP_ROOT, own: Path = _OWN_CGROUP) -> tuple[int, int] | None:
    """Limit and use of this process's control group in bytes, None without a limit. Reads version 2, then version 1.

    The use leaves out files that the kernel caches and can drop at once, as the kubelet does. The tightest limit of
    the group and those above it counts.
    """
    groups = _own_groups(own)
    found = [_group_memory(folder, "memory.max", "memory.current") for folder in _folders(root, groups.get(""))]
    if not any(found):
        found = [
            _group_memory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")
            for folder in _folders(root / "memory", groups.get("memory"))
        ]
    return min((memory for memory in found if memory is not None), default=None)


def _own_groups(own: Path) -> dict[str, str]:
    """This process's group by controller; version 2 has the empty name."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    return {controller: path for _, controllers, path in parts for controller in controllers.split(",")}


def _folders(root: Path, group: str | None) -> list[Path]:
    """The group's folder and those above it; the root where a container names its group as only the host sees it."""
    own = root / (group or "/").lstrip("/")
    inside = [folder for folder in (own, *own.parents) if folder.is_relative_to(root) and folder.is_dir()]
    return inside or [root]


def _group_memory(folder: Path, limit_name: str, use_name: str) -> tuple[int, int] | None:
    try:
        limit, use = (folder / limit_name).read_text().strip(), int((folder / use_name).read_text())
    except (OSError, ValueError):
        return None
    if not limit.isdigit() or int(limit) >= 2**60:  # "max", or version 1's way of saying so
        return None
    return int(limit), max(0, use - _cached_bytes(folder))


def _cached_bytes(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        entries = dict(line.split() for line in lines if line.count(" ") == 1)
        return int(entries.get("total_inactive_file", entries.get("inactive_file", "0")))
    except (OSError, ValueError):
        return 0


def _gpu_reader() -> Callable[[], list[Device]]:
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return list
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return list  # no driver: a machine without an NVIDIA GPU
    return lambda: [device for index, handle in enumerate(handles) if (device := _gpu(pynvml, index, handle))]


def _gpu(pynvml: Any, index: int, handle: Any) -> Device | None:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError as error:
        log.warning("a GPU does not answer", extra={"device": f"cuda:{index}", "error": str(error)})
        return None
    try:
        utilisation = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:
        utilisation = -1.0  # parts of a shared GPU do not tell
    return Device(f"cuda:{index}", int(memory.total), int(memory.free), utilisation)

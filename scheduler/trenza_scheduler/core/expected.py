"""Models that the scheduler was told to expect: the cluster can serve them even while no replica announces them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trenza_scheduler.core.domain import ModelKey, ReplicaReport


class Expected:
    """By model: the slots that one replica is expected to have, 0 where that is not known; and how the last one described it.

    The models never change, so that what is remembered of them is bounded.
    """

    def __init__(self, slots: Mapping[ModelKey, int]) -> None:
        self._slots = dict(slots)
        self._described: dict[ModelKey, object] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def __iter__(self) -> Iterator[ModelKey]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    def slots(self, key: ModelKey) -> int:
        """Slots of one replica of it, as far as was told; 0 where nothing was."""
        return self._slots.get(key, 0)

    def note(self, report: ReplicaReport) -> None:
        """Remembers how a replica describes its models, for the time when it is gone."""
        for name, model in report.models.items():
            key = ModelKey(report.modality, name)
            if key in self._slots and model.original is not None:
                self._described[key] = model.original

    def description(self, key: ModelKey) -> object | None:
        """How a replica described it last, in its own words; None where none has."""
        return self._described.get(key)

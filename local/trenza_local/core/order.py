"""In which order components start and stop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import TopologicalSorter


def waves(after: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of names such that each stands in a later group than all it comes `after`; a group's members are independent.

    Raises graphlib.CycleError when that cannot be.
    """
    sorter = TopologicalSorter(after)
    sorter.prepare()
    groups = []
    while sorter.is_active():
        group = list(sorter.get_ready())
        groups.append(group)
        sorter.done(*group)
    return groups

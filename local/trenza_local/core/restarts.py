"""When a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
STABLE_S = 30.0
"""A process that lived this long counts as healthy again."""
EXIT_CONFIGURATION = 2
"""Exit code of a process that cannot start as it is configured; starting it again would not help."""


@dataclass(frozen=True)
class History:
    """How many times in a row a process has died young."""

    early_deaths: int = 0

    def died(self, lived_s: float) -> History:
        """The history after another death."""
        return replace(self, early_deaths=1 if lived_s >= STABLE_S else self.early_deaths + 1)

    @property
    def delay_s(self) -> float:
        """How long to wait before the next start."""
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (self.early_deaths - 1)) if self.early_deaths else 0.0


def is_hopeless(exit_code: int, was_ready: bool) -> bool:
    """Whether a process that ended so will not do better next time: it said so, and has never run."""
    return exit_code == EXIT_CONFIGURATION and not was_ready

"""When a process that died is started again, and when that is no use."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
STABLE_S = 30.0
"""A process that lived this long counts as healthy again."""
STILLBIRTH_LIMIT = 3
"""A process that died so often without ever having been ready will not do better next time."""
EXIT_CONFIGURATION = 2
"""Exit code of a process that cannot start as it is configured."""


@dataclass(frozen=True)
class History:
    """What is remembered of a process between its lives."""

    early_deaths: int = 0
    ever_ready: bool = False
    last_exit_code: int = 0

    def died(self, exit_code: int, lived_s: float, was_ready: bool) -> History:
        """The history after another death."""
        early_deaths = 1 if lived_s >= STABLE_S else self.early_deaths + 1
        return History(early_deaths, self.ever_ready or was_ready, exit_code)

    @property
    def delay_s(self) -> float:
        """How long to wait before the next start."""
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (self.early_deaths - 1)) if self.early_deaths else 0.0

    @property
    def is_hopeless(self) -> bool:
        """Whether to give up. A process that has run once is always given another chance."""
        if self.ever_ready or not self.early_deaths:
            return False
        return self.last_exit_code == EXIT_CONFIGURATION or self.early_deaths >= STILLBIRTH_LIMIT

"""The init step: `python -m trenza_fetch --config FILE --into DIR`; `--check` only reads the configuration.

Exit codes: 0 every model is in place; 2 the configuration is wrong; 3 a source does not answer; 4 a source refuses, or has no such
thing; 5 a checksum is wrong; 6 the volume is full or cannot be written; 7 another process holds a model's lock; 8 what was fetched
is no model; 143 stopped by a signal; 1 a mistake of this program. Of several failures the first one counts; every model is tried.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event, Thread

from trenza_runtime.telemetry import logs

from trenza_fetch.config import Config, read_config
from trenza_fetch.failures import ExitCode, FetchFailure, Stopped
from trenza_fetch.fetching import Fetcher
from trenza_fetch.volume import Volume

log = logging.getLogger(__name__)

UNWIND_S = 5.0
"""After a signal: until the lock is freed and the process ends, whatever a library is still doing."""


def main() -> int:
    """Fetches what the configuration names; returns the exit code."""
    arguments = _arguments()
    try:
        logs.configure("fetch")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  there is no log to write it to
        return ExitCode.CONFIGURATION
    for chatty in ("boto3", "botocore", "s3transfer", "urllib3", "httpx2", "httpcore2", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        config = read_config(arguments.config)
        if arguments.check:
            log.info("the configuration is in order", extra={"models": len(config.model)})
            return ExitCode.DONE
        stopping = Event()
        return _run(config, Fetcher(Volume(arguments.into), config.limits, stopping), stopping)
    except FetchFailure as failure:
        log.error("nothing was fetched", extra={"why": str(failure), "code": int(failure.code)})
        return failure.code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trenza_fetch", description="Fetches models into a models root.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file with the models")
    parser.add_argument("--into", type=Path, help="the models root; it has to be there")
    parser.add_argument("--check", action="store_true", help="only read the configuration")
    arguments = parser.parse_args()
    if not arguments.check and arguments.into is None:
        parser.error("--into is missing")
    return arguments


def _run(config: Config, fetcher: Fetcher, stopping: Event) -> int:
    """Works in a thread of its own, so that no library can keep a signal from being heard."""
    codes: list[int] = []
    done = Event()

    def work() -> None:
        try:
            codes.append(_fetch_all(config, fetcher))
        except Exception:
            log.exception("crashed")
            codes.append(ExitCode.CRASHED)
        finally:
            done.set()

    def on_signal(number: int, _: object) -> None:
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    Thread(target=work, name="fetch", daemon=True).start()
    while not done.wait(0.2):
        if stopping.is_set() and not done.wait(UNWIND_S):
            fetcher.abandon()
            logging.shutdown()
            os._exit(ExitCode.STOPPED)
    return codes[0]


def _fetch_all(config: Config, fetcher: Fetcher) -> int:
    """Every model is tried, since the others may be of use without one."""
    first_failure = ExitCode.DONE
    for model in config.model:
        try:
            fetcher.fetch(model)
        except Stopped:
            return ExitCode.STOPPED
        except FetchFailure as failure:
            log.error(
                "a model could not be fetched",
                extra={"model": model.name, "why": str(failure), "code": int(failure.code)},
            )
            first_failure = first_failure or failure.code
    return first_failure


if __name__ == "__main__":
    sys.exit(main())

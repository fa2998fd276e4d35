"""`trenza models` and `trenza status`: what the fleet offers and how it is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing

from trenza.cli.gateway import GatewayApi, add_gateway_options


def models(arguments: Sequence[str]) -> int:
    """List the models of the fleet."""
    parser = argparse.ArgumentParser(prog="trenza models", description=models.__doc__)
    add_gateway_options(parser)
    with closing(GatewayApi(parser.parse_args(arguments).url)) as api:
        found = api.models()
    rows = [("MODEL", "MODALITY", "STATE", "CONTEXT", "SLOTS")]
    for model in found:
        context = str(model.get("context_length") or "-")
        rows.append((model["id"], model["modality"], model["state"], context, str(model["slots"])))
    print(table(rows))
    return 0


def status(arguments: Sequence[str]) -> int:
    """Say whether the gateway can serve requests, and if not, what is missing (exit code 1)."""
    parser = argparse.ArgumentParser(prog="trenza status", description=status.__doc__)
    add_gateway_options(parser)
    with closing(GatewayApi(parser.parse_args(arguments).url)) as api:
        report = api.readiness()
    print(f"gateway    {report['status']}")
    for missing in report["missing"]:
        print(f"           {missing}")
    print(f"scheduler  {report['scheduler']}")
    print(f"replicas   {report['live_replicas']} live")
    print(f"models     {', '.join(report['models']) or 'none'}")
    return 1 if report["missing"] else 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

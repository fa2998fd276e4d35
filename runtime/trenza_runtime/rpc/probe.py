"""Asks a process whether it serves: `python -m trenza_runtime.rpc.probe HOST:PORT [SERVICE]`; exit code 0 means yes."""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

LIMIT_S = 4.0


def main() -> int:
    """Asks the standard health service, without TLS; says the answer on standard output."""
    if not 2 <= len(sys.argv) <= 3:
        print(__doc__, file=sys.stderr)  # noqa: T201  for the person who called it
        return 2
    service = sys.argv[2] if len(sys.argv) == 3 else ""
    try:
        with grpc.insecure_channel(sys.argv[1]) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # its types know no methods
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT_S)
    except grpc.RpcError as error:
        print(error.code().name)  # noqa: T201  Docker keeps it
        return 1
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))  # noqa: T201  Docker keeps it
    return int(answer.status != health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main())

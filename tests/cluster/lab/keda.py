"""Does what KEDA's operator does with a ScaledObject, since KEDA itself does not run here: asks its external scaler, and scales.

From and to zero it goes by `StreamIsActive` and `IsActive`, with the object's cool-down. Between one and the most it takes what an
HPA would take of `GetMetricSpec` and `GetMetrics`. Polling is faster than KEDA's.
"""

from __future__ import annotations

import math
import threading
import time

import grpc
from cluster.lab.cluster import Object
from cluster.lab.running import RunningMesh
from trenza.keda.v1 import externalscaler_pb2, externalscaler_pb2_grpc

POLL_S = 0.5
CALL_LIMIT_S = 10.0


class KedaStandIn:
    """Follows one ScaledObject of a release. `scaled` are the numbers of replicas that it set, in order."""

    def __init__(self, mesh: RunningMesh, name: str, cooldown_s: float) -> None:
        self._mesh, self._cooldown_s = mesh, cooldown_s
        path = mesh.release.path("scaledobjects", name, group="keda.sh/v1alpha1")
        self._spec = mesh.cluster.get(path)["spec"]
        (trigger,) = self._spec["triggers"]
        assert trigger["type"] == "external-push"
        self._address = mesh.network.resolve(trigger["metadata"]["scalerAddress"], mesh.release.namespace)
        metadata = {key: str(value) for key, value in trigger["metadata"].items() if key != "scalerAddress"}
        self._object = externalscaler_pb2.ScaledObjectRef(
            name=name, namespace=mesh.release.namespace, scaler_metadata=metadata
        )
        self._target = mesh.release.path("deployments", f"{self._spec['scaleTargetRef']['name']}/scale")
        self.scaled: list[int] = []
        self.pushes: list[bool] = []
        self.troubles: list[str] = []
        self._pushed = threading.Event()
        self._stopping = threading.Event()
        self._active_at = time.monotonic()
        self._channel = grpc.insecure_channel(self._address)
        self._stub = externalscaler_pb2_grpc.ExternalScalerStub(self._channel)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._listen, self._poll)]

    def __enter__(self) -> KedaStandIn:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._pushed.set()
        self._channel.close()
        for thread in self._threads:
            thread.join(60)

    def replicas(self) -> int:
        """How many the Deployment is to have now."""
        return int(self._mesh.cluster.get(self._target)["spec"].get("replicas", 0))

    def _listen(self) -> None:
        """The push: activity is acted on at once, inactivity waits for the poll."""
        while not self._stopping.is_set():
            try:
                for answer in self._stub.StreamIsActive(self._object):
                    self.pushes.append(answer.result)
                    if answer.result:
                        self._pushed.set()
            except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
                self._note(error)
            self._stopping.wait(POLL_S)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            try:
                self._decide()
            except (grpc.RpcError, ValueError) as error:
                self._note(error)
            self._pushed.wait(POLL_S)
            self._pushed.clear()

    def _decide(self) -> None:
        now, present = time.monotonic(), self.replicas()
        if self._stub.IsActive(self._object, timeout=CALL_LIMIT_S).result:
            self._active_at = now
            self._scale(present, max(1, self._wanted()))
        elif now - self._active_at > self._cooldown_s:
            self._scale(present, int(self._spec["minReplicaCount"]))

    def _wanted(self) -> int:
        """What an HPA makes of the metric and its target."""
        (spec,) = self._stub.GetMetricSpec(self._object, timeout=CALL_LIMIT_S).metric_specs
        asked = externalscaler_pb2.GetMetricsRequest(scaled_object_ref=self._object, metric_name=spec.metric_name)
        (metric,) = self._stub.GetMetrics(asked, timeout=CALL_LIMIT_S).metric_values
        wanted = math.ceil(metric.metric_value_float / spec.target_size_float)
        return min(max(wanted, int(self._spec["minReplicaCount"])), int(self._spec["maxReplicaCount"]))

    def _scale(self, present: int, wanted: int) -> None:
        if wanted != present:
            body: Object = {"spec": {"replicas": wanted}}
            self._mesh.cluster.patch(self._target, body)
            self.scaled.append(wanted)

    def _note(self, error: Exception) -> None:
        """A scheduler that does not know yet says so, and everything stays as it is; nothing else may go wrong."""
        unknown = isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE
        if not unknown and not self._stopping.is_set():
            self.troubles.append(str(error))

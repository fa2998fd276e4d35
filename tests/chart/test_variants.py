"""What holds for every object of every example of the chart."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from chart.rendering import CHART, NAMESPACE, RELEASE, VARIANTS, Chart, Objects, values_of
from pydantic_settings import BaseSettings
from trenza_audio.settings import AudioSettings
from trenza_chat.settings import ChatSettings
from trenza_gateway.settings import Settings as GatewaySettings
from trenza_images.settings import ImagesSettings
from trenza_runtime.rpc.tls import TlsSettings
from trenza_scheduler.settings import SchedulerSettings
from trenza_vision.settings import VisionSettings

KUBERNETES = ("1.31.0", "1.36.0")
FOREIGN = ("cert-manager.io", "keda.sh", "monitoring.coreos.com", "gateway.networking.k8s.io")
EXPECTED_VARIANTS = {
    *("default", "cpu", "gpu", "kind", "hpa", "keda", "mtls-certmanager", "mtls-secret", "mig", "timeslicing"),
    *("models-hub", "models-s3", "gateway-api", "ingress", "monitoring", "everything"),
}
SETTINGS: tuple[type[BaseSettings], ...] = (
    *(GatewaySettings, SchedulerSettings, ChatSettings, AudioSettings, VisionSettings, ImagesSettings, TlsSettings),
)
LOGS = {"TRENZA_LOG_LEVEL", "TRENZA_LOG_FORMAT"}


def test_every_example_is_walked() -> None:
    assert set(VARIANTS) == EXPECTED_VARIANTS


def test_lint(chart: Chart, variant: str) -> None:
    said = chart.run("lint", "--strict", str(CHART), values=values_of(variant))
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


@functools.cache
def schemas_of(folder: Path) -> dict[tuple[str, str], Any]:
    """Schemas of foreign objects, by apiVersion and kind."""
    found = {}
    for path in folder.glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            found[key] = closed(version["schema"]["openAPIV3Schema"])
    return found


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as the API server warns of them."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and isinstance(schema.get("type"), str) and "additionalProperties" not in schema:
        made["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields", False))
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


def own(item: dict[str, Any]) -> dict[str, Any]:
    """A foreign object without what every object has, which its own schema does not spell out."""
    return {key: value for key, value in item.items() if key != "metadata"}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(objects: Objects, version: str) -> None:
    for item in objects:
        if not item["apiVersion"].partition("/")[0].endswith(FOREIGN):
            kubernetes_validate.validate(item, version, strict=True)


def test_foreign_objects_keep_to_their_schemas(objects: Objects, crds: Path) -> None:
    for item in objects:
        if item["apiVersion"].partition("/")[0].endswith(FOREIGN):
            schema = schemas_of(crds)[item["apiVersion"], item["kind"]]
            schema = {**schema, "properties": {k: v for k, v in schema["properties"].items() if k != "metadata"}}
            jsonschema.Draft202012Validator(schema).validate(own(item))


def test_foreign_schemas_find_mistakes(chart: Chart, crds: Path) -> None:
    (certificate, *_) = chart.variant("mtls-certmanager").of("Certificate")
    certificate["spec"]["dnsName"] = "a field that there is not"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schemas_of(crds)[certificate["apiVersion"], "Certificate"]).validate(
            certificate
        )


def test_no_two_objects_have_one_name(objects: Objects) -> None:
    names = [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


def test_every_object_says_whose_it_is(objects: Objects, variant: str) -> None:
    values = values_of(variant)
    given = len(values.get("extraObjects", []))
    ours = [item for item in objects if item["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "trenza"]
    assert len(ours) == len(list(objects)) - given
    for item in ours:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == RELEASE
        assert labels.items() >= values.get("commonLabels", {}).items()
        assert item["metadata"].get("annotations", {}).items() >= values.get("commonAnnotations", {}).items()
        assert f"{item['metadata']['name']}-".startswith(f"{RELEASE}-")
        assert all(re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value) for value in labels.values())


def test_the_same_values_make_the_same_objects(chart: Chart, variant: str) -> None:
    """Apart from a key that is made, nothing is left to chance, and GitOps tools see no change."""
    one, other = (made.variant(variant) for made in (chart, Chart(chart._helm)))
    random = f"{RELEASE}-api-keys"
    assert [item for item in one if item["metadata"]["name"] != random] == [
        item for item in other if item["metadata"]["name"] != random
    ]


def test_pods_are_restricted(objects: Objects, variant: str) -> None:
    """The rules of the restricted Pod Security profile; and the root filesystem is read-only unless values say otherwise."""
    for name, _, pod in objects.pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not context.get("privileged")
            assert context["readOnlyRootFilesystem"] is (variant != "timeslicing" or name != "trenza-pool-chat")
            assert not any("hostPort" in port for port in container.get("ports", []))
        kinds = {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]}
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "image"}
        assert kinds <= allowed | ({"hostPath"} if variant == "models-s3" else set())


def test_nobody_may_ask_the_api_server(objects: Objects) -> None:
    rights = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
    assert not [item["kind"] for item in objects if item["kind"] in rights]
    assert all(item["automountServiceAccountToken"] is False for item in objects.of("ServiceAccount"))
    assert all(pod["automountServiceAccountToken"] is False for _, _, pod in objects.pods())
    used = {pod["serviceAccountName"] for _, _, pod in objects.pods() if "serviceAccountName" in pod}
    assert used == objects.names("ServiceAccount")


def test_containers_ask_for_what_they_need_and_are_held_to_it(objects: Objects) -> None:
    for _, _, pod in objects.pods():
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys()
            # Models in a folder of the pod count as the pod's; the folder has a limit of its own.
            own_folder = any("emptyDir" in volume for volume in pod["volumes"] if volume["name"] == "models")
            held = {"memory"} if own_folder else {"memory", "ephemeral-storage"}
            assert container["resources"]["limits"].keys() & {"memory", "ephemeral-storage"} == held


def test_probes_ask_the_health_port(objects: Objects) -> None:
    for item in objects.of("Deployment"):
        container = item["spec"]["template"]["spec"]["containers"][0]
        prefix = f"TRENZA_{container['name'].upper()}"
        environment = {one["name"]: one.get("value") for one in container["env"]}
        port = int(environment[f"{prefix}_HEALTH_PORT"])
        assert {"name": "health", "containerPort": port, "protocol": "TCP"} in container["ports"]
        asked = {probe: container[probe]["grpc"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert asked == {
            "startupProbe": {"port": port, "service": "startup"},
            "readinessProbe": {"port": port, "service": "readiness"},
            "livenessProbe": {"port": port, "service": "liveness"},
        }


def test_grace_is_longer_than_the_drain(objects: Objects) -> None:
    for item in objects.of("Deployment"):
        pod = item["spec"]["template"]["spec"]
        container = pod["containers"][0]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        prefix = f"TRENZA_{container['name'].upper()}"
        slept = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain = float(environment[f"{prefix}_DRAIN_S"]) + float(environment.get(f"{prefix}_NOTICE_S", 0))
        assert pod["terminationGracePeriodSeconds"] >= slept + drain + 10


def test_every_setting_exists_and_is_accepted(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        f"{settings.model_config.get('env_prefix', '')}{name}".upper()
        for settings in SETTINGS
        for name in settings.model_fields
    }
    for item in objects.of("Deployment"):
        for container in item["spec"]["template"]["spec"]["containers"][:1]:
            variables = {
                one["name"]: one.get("value", "1") for one in container["env"] if one["name"].startswith("TRENZA_")
            }
            assert variables.keys() <= known | LOGS
            (settings,) = [
                one for one in SETTINGS if one.model_config.get("env_prefix") == f"TRENZA_{container['name'].upper()}_"
            ]
            with monkeypatch.context() as patched:
                for name, value in variables.items():
                    patched.setenv(name, value)
                settings()


def test_services_reach_pods(objects: Objects) -> None:
    pods = objects.pods()
    for service in objects.of("Service"):
        chosen = [pod for _, labels, pod in pods if service["spec"]["selector"].items() <= labels.items()]
        assert len(chosen) == 1
        ports = {port["name"] for port in chosen[0]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_selectors_tell_deployments_apart(objects: Objects) -> None:
    for kind in ("Deployment", "PodDisruptionBudget"):
        for item in objects.of(kind):
            wanted = item["spec"]["selector"]["matchLabels"].items()
            assert [name for name, labels, _ in objects.pods() if wanted <= labels.items()] == [
                item["metadata"]["name"]
            ]


def test_every_mount_has_a_volume_and_every_own_object_is_there(objects: Objects, variant: str) -> None:
    certificates = {item["spec"]["secretName"] for item in objects.of("Certificate")}
    for _, _, pod in objects.pods():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = {
            mount["name"]
            for one in (*pod.get("initContainers", []), *pod["containers"])
            for mount in one["volumeMounts"]
        }
        assert mounted == volumes.keys()
        for volume in volumes.values():
            name = volume.get("configMap", {}).get("name") or volume.get("persistentVolumeClaim", {}).get(
                "claimName", ""
            )
            secret = volume.get("secret", {}).get("secretName", "")
            if name.startswith(f"{RELEASE}-"):
                assert name in objects.names("ConfigMap") | objects.names("PersistentVolumeClaim")
            if secret.startswith(f"{RELEASE}-") and variant not in ("cpu", "gpu", "kind"):
                assert secret in objects.names("Secret") | certificates


def test_namespaced_objects_name_their_namespace(objects: Objects) -> None:
    ours = [item for item in objects if item["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "trenza"]
    assert {item["metadata"]["namespace"] for item in ours} == {NAMESPACE}

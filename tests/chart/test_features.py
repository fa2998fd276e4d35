"""What values make of the objects, feature by feature."""

from __future__ import annotations

import base64
import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from chart.rendering import CHART, RELEASE, Chart, Objects, values_of
from trenza_audio.settings import AudioSettings
from trenza_chat.settings import ChatSettings
from trenza_fetch.config import read_config
from trenza_gateway.auth.keys import find_owner, parse_keys
from trenza_images.settings import ImagesSettings
from trenza_runtime.model_service import ModelServiceSettings
from trenza_vision.settings import VisionSettings

GATEWAY, SCHEDULER = f"{RELEASE}-gateway", f"{RELEASE}-scheduler"
SERVICES: dict[str, type[ModelServiceSettings]] = {
    "chat": ChatSettings,
    "audio": AudioSettings,
    "vision": VisionSettings,
    "images": ImagesSettings,
}


def pool(name: str) -> str:
    return f"{RELEASE}-pool-{name}"


def with_chat(**values: Any) -> dict[str, Any]:
    """Values that say something of the pool `chat`."""
    return {"pools": {"chat": values}}


# ---- parts


def test_with_no_values_there_is_all_of_a_mesh(chart: Chart) -> None:
    objects = chart.render()
    assert objects.names("Deployment") == {GATEWAY, SCHEDULER, *map(pool, SERVICES)}
    replicas = {item["metadata"]["name"]: item["spec"]["replicas"] for item in objects.of("Deployment")}
    assert replicas == {GATEWAY: 2, SCHEDULER: 1, **{pool(name): 1 for name in SERVICES}}
    assert not [item for item in objects.pods() if "nvidia" in str(item)]


def test_there_is_one_scheduler_at_a_time(chart: Chart) -> None:
    assert chart.render().get("Deployment", SCHEDULER)["spec"]["strategy"] == {"type": "Recreate"}


def test_pools_are_headless_and_the_others_have_an_address(chart: Chart) -> None:
    objects = chart.render()
    headless = {item["metadata"]["name"] for item in objects.of("Service") if item["spec"].get("clusterIP") == "None"}
    assert headless == {*map(pool, SERVICES), f"{GATEWAY}-metrics"}


def test_a_pool_has_what_it_says_then_its_modality_then_all_pools(chart: Chart) -> None:
    objects = chart.render(
        {
            "poolDefaults": {"replicas": 3, "drainSeconds": 50, "priorityClassName": "models"},
            "modalityDefaults": {"chat": {"replicas": 4, "drainSeconds": 60}},
            "pools": {"chat": {"replicas": 5}, "more": {"modality": "chat", "enabled": True}},
        }
    )
    found = {name: objects.get("Deployment", pool(name))["spec"] for name in ("chat", "more", "audio")}
    assert {name: spec["replicas"] for name, spec in found.items()} == {"chat": 5, "more": 4, "audio": 3}
    drains = {name: objects.environment(pool(name)) for name in found}
    assert drains["chat"]["TRENZA_CHAT_DRAIN_S"] == drains["more"]["TRENZA_CHAT_DRAIN_S"] == "60"
    assert drains["audio"]["TRENZA_AUDIO_DRAIN_S"] == "50"
    assert all(spec["template"]["spec"]["priorityClassName"] == "models" for spec in found.values())


@pytest.mark.parametrize("off", [{"enabled": False}, None])
def test_a_pool_can_be_left_out(chart: Chart, off: Any) -> None:
    assert pool("images") not in chart.render({"pools": {"images": off}}).names("Deployment")


def test_nothing_that_says_false_or_nought_is_lost(chart: Chart) -> None:
    """Merging of values is where those go missing."""
    objects = chart.render({"pools": {"chat": {"replicas": 0, "pdb": {"enabled": False}, "drainSeconds": 0}}})
    assert objects.get("Deployment", pool("chat"))["spec"]["replicas"] == 0
    assert pool("chat") not in objects.names("PodDisruptionBudget")
    assert objects.environment(pool("chat"))["TRENZA_CHAT_DRAIN_S"] == "0"


def test_replicas_tell_the_scheduler_who_and_where_they_are(chart: Chart) -> None:
    found = chart.render().environment(pool("vision"))
    assert found["TRENZA_VISION_ADVERTISE_ADDRESS"] == "$(POD_IP):9092"
    assert found["TRENZA_VISION_REPLICA_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert found["TRENZA_VISION_POOL"] == "vision"
    assert found["TRENZA_VISION_SCHEDULER_ADDRESS"] == f"{SCHEDULER}.ai.svc.cluster.local:9091"
    assert next(iter(found)) == "POD_IP"  # a variable is only put into those behind it
    six = chart.render({"network": {"ipFamily": "IPv6"}}).environment(pool("vision"))
    assert six["TRENZA_VISION_ADVERTISE_ADDRESS"] == "[$(POD_IP)]:9092"
    assert six["TRENZA_VISION_HOST"] == "::"


def test_environment_of_values_wins(chart: Chart) -> None:
    env = {
        "TRENZA_CHAT_PRELOAD": "none",
        "LIMIT": 75497472,
        "FLAG": True,
        "FROM": {"valueFrom": {"fieldRef": {"fieldPath": "x"}}},
    }
    container = chart.render(with_chat(env=env)).container(pool("chat"))
    names = [item["name"] for item in container["env"]]
    assert len(names) == len(set(names))
    found = {item["name"]: item.get("value") for item in container["env"]}
    assert (found["TRENZA_CHAT_PRELOAD"], found["LIMIT"], found["FLAG"]) == ("none", "75497472", "true")


def test_images_are_named_by_registry_component_and_variant(chart: Chart) -> None:
    objects = chart.variant("everything")
    assert objects.container(GATEWAY)["image"] == "registry.example.com/ai/trenza/gateway:1.2.3"
    assert objects.container(pool("chat"))["image"] == "registry.example.com/ai/trenza/chat:1.2.3"
    assert objects.container(pool("chat-gpu"))["image"] == "registry.example.com/ai/trenza/chat:1.2.3-cuda"
    assert objects.pod(pool("chat-gpu"))["initContainers"][0]["image"] == "registry.example.com/ai/trenza/fetch:1.2.3"
    assert all(pod["imagePullSecrets"] == [{"name": "registry"}] for _, _, pod in objects.pods())
    assert chart.render().container(GATEWAY)["image"] == "trenza/gateway:0.1.0"
    own = chart.render(with_chat(image={"reference": "registry.example.com/ours@sha256:1"}))
    assert own.container(pool("chat"))["image"] == "registry.example.com/ours@sha256:1"


# ---- GPUs


def test_gpus_come_from_the_device_plugin(chart: Chart) -> None:
    objects = chart.variant("gpu")
    pod, container = objects.pod(pool("chat")), objects.container(pool("chat"))
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["resources"]["limits"]["memory"] == "32Gi"
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert "nvidia.com/gpu" not in str(objects.pod(pool("audio")))


def test_slices_and_shares_are_resources_of_other_names(chart: Chart) -> None:
    mig = chart.variant("mig")
    assert mig.container(pool("chat"))["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert mig.container(pool("chat-large"))["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == 1
    assert {item["key"] for item in mig.pod(pool("chat"))["tolerations"]} == {
        "nvidia.com/mig-1g.10gb",
        "nvidia.com/gpu",
    }
    shared = chart.variant("timeslicing")
    assert shared.container(pool("chat"))["resources"]["limits"]["nvidia.com/gpu.shared"] == 1
    assert shared.get("Deployment", pool("chat"))["spec"]["replicas"] == 3


def test_a_pool_with_gpus_makes_room_before_it_starts_anew(chart: Chart) -> None:
    objects = chart.variant("gpu")
    updates = {
        name: objects.get("Deployment", pool(name))["spec"]["strategy"]["rollingUpdate"] for name in ("chat", "audio")
    }
    assert updates == {"chat": {"maxSurge": 0, "maxUnavailable": 1}, "audio": {"maxSurge": 1, "maxUnavailable": 0}}


def test_a_cuda_build_without_gpus_sees_none(chart: Chart) -> None:
    objects = chart.render({"image": {"variant": "cuda"}, "pools": {"images": {"gpu": {"count": 1}}}})
    assert objects.container(pool("chat"))["image"].endswith("-cuda")
    assert objects.environment(pool("chat"))["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in objects.environment(pool("images"))
    assert not objects.container(GATEWAY)["image"].endswith("-cuda")


def test_threads_follow_a_limit_of_the_cpu(chart: Chart) -> None:
    limited = chart.render().environment(pool("chat"))["TRENZA_CHAT_THREADS"]["resourceFieldRef"]
    assert (limited["resource"], limited["containerName"]) == ("limits.cpu", "chat")
    free = chart.render(with_chat(resources={"limits": {"cpu": None}}))
    assert "TRENZA_CHAT_THREADS" not in free.environment(pool("chat"))


def test_shared_memory_is_memory(chart: Chart) -> None:
    pod = chart.render().pod(pool("images"))
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}} in pod["volumes"]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
    assert "/dev/shm" not in str(chart.render().pod(pool("chat")))


# ---- models


def fetch_config(objects: Objects, name: str, folder: Path) -> Any:
    """The configuration of a pool's fetching container, as that reads it."""
    path = folder / "fetch.toml"
    path.write_text(objects.get("ConfigMap", f"{pool(name)}-models")["data"]["fetch.toml"])
    return read_config(path)


def test_models_of_a_hub_are_fetched_onto_a_volume(chart: Chart, tmp_path: Path) -> None:
    objects = chart.variant("models-hub")
    pod = objects.pod(pool("chat"))
    (fetch,) = pod["initContainers"]
    assert fetch["args"] == ["--config", "/etc/trenza/fetch.toml", "--into", "/models"]
    assert fetch["envFrom"] == [{"secretRef": {"name": "hub-token"}}]
    (model,) = fetch_config(objects, "chat", tmp_path).model
    assert (model.name, model.modality) == ("mistral-7b", "chat")
    assert model.source == "hub://bartowski/Mistral-7B-Instruct-v0.3-GGUF@main"
    assert model.files == ("Mistral-7B-Instruct-v0.3-Q4_K_M.gguf",)
    assert len(model.sha256["Mistral-7B-Instruct-v0.3-Q4_K_M.gguf"]) == 64
    assert tomllib.loads(model.manifest)["context"]["length"] == 8192
    claim = objects.get("PersistentVolumeClaim", f"{pool('chat')}-models")
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "shared",
        "resources": {"requests": {"storage": "20Gi"}},
    }
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_replicas_read_what_was_fetched_and_cannot_write_it(chart: Chart) -> None:
    objects = chart.variant("models-hub")
    (fetch,), container = objects.pod(pool("chat"))["initContainers"], objects.container(pool("chat"))
    written = {mount["name"]: mount for mount in fetch["volumeMounts"]}["models"]
    read = {mount["name"]: mount for mount in container["volumeMounts"]}["models"]
    assert written["mountPath"] == read["mountPath"] == "/models"
    assert (written.get("readOnly", False), read.get("readOnly", False)) == (False, True)
    assert objects.environment(pool("chat"))["TRENZA_CHAT_MODELS_ROOT"] == "/models"
    assert "hub-token" not in str(container)


def test_other_models_replace_the_pods_and_the_same_do_not(chart: Chart) -> None:
    def checksum(files: list[str], replicas: int = 1) -> str:
        model = {"source": "hub://org/m", "files": files}
        values = with_chat(models={"m": model}, storage={"type": "pvc"}, replicas=replicas)
        template = chart.render(values).get("Deployment", pool("chat"))["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/models"])

    assert checksum(["a"]) == checksum(["a"], replicas=2) != checksum(["b"])


def test_models_of_buckets_folders_nodes_and_images(chart: Chart, tmp_path: Path) -> None:
    objects = chart.variant("models-s3")
    volumes = {
        name: {item["name"]: item for item in objects.pod(pool(name))["volumes"]}["models"]
        for name in ("chat", "vision", "images")
    }
    assert volumes["chat"]["emptyDir"] == {"sizeLimit": "30Gi"}
    assert volumes["vision"]["hostPath"] == {"path": "/srv/models", "type": "DirectoryOrCreate"}
    assert volumes["images"]["image"] == {
        "reference": "registry.example.com/models/drawing:1",
        "pullPolicy": "IfNotPresent",
    }
    assert [model.source for model in fetch_config(objects, "chat", tmp_path).model] == ["s3://models/house-model"]
    assert [model.source for model in fetch_config(objects, "vision", tmp_path).model] == ["file:///share/house-eyes"]
    mounts = {
        mount["name"]: mount["mountPath"] for mount in objects.pod(pool("vision"))["initContainers"][0]["volumeMounts"]
    }
    assert mounts["share"] == "/share"
    assert "initContainers" not in objects.pod(pool("images"))


def test_a_pod_is_not_evicted_for_its_own_models(chart: Chart) -> None:
    pod = chart.variant("models-s3").pod(pool("chat"))
    assert pod["containers"][0]["resources"]["requests"]["ephemeral-storage"] == "30Gi"
    assert all(
        "ephemeral-storage" not in one["resources"]["limits"] for one in (*pod["containers"], *pod["initContainers"])
    )


def test_awkward_texts_reach_the_fetching_container_unharmed(chart: Chart, tmp_path: Path) -> None:
    manifest = 'name = "m"\nmodality = "chat"\ndescription = "a \\"quoted\\" <text> & ünïcode"\n'
    models = {"m": {"source": "hub://org/m", "files": ['we"ird [1]*.gguf'], "manifest": manifest}}
    objects = chart.render(with_chat(models=models, storage={"type": "pvc"}))
    (model,) = fetch_config(objects, "chat", tmp_path).model
    assert model.files == ('we"ird [1]*.gguf',)
    assert model.manifest == manifest


def test_a_claim_of_ones_own_is_used(chart: Chart) -> None:
    objects = chart.variant("mig")
    assert objects.of("PersistentVolumeClaim") == []
    volumes = {item["name"]: item for item in objects.pod(pool("chat-large"))["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "large-models"}


# ---- stopping, spreading, disruption


def test_a_gateway_gives_notice_before_it_drains(chart: Chart) -> None:
    objects = chart.render({"gateway": {"noticeSeconds": 7, "drainSeconds": 90, "preStopSleepSeconds": 3}})
    found = objects.environment(GATEWAY)
    assert (found["TRENZA_GATEWAY_NOTICE_S"], found["TRENZA_GATEWAY_DRAIN_S"]) == ("7", "90")
    assert objects.pod(GATEWAY)["terminationGracePeriodSeconds"] == 3 + 7 + 90 + 15
    assert objects.container(GATEWAY)["lifecycle"] == {"preStop": {"sleep": {"seconds": 3}}}


def test_by_default_no_drain_cuts_a_request_that_is_inside_its_limit(chart: Chart) -> None:
    objects = chart.render({"gateway": {"requestSeconds": 5000}})
    gateway = objects.environment(GATEWAY)
    assert float(gateway["TRENZA_GATEWAY_DRAIN_S"]) >= float(gateway["TRENZA_GATEWAY_REQUEST_S"]) == 5000
    assert objects.pod(GATEWAY)["terminationGracePeriodSeconds"] > 5000
    for modality in SERVICES:
        found = objects.environment(pool(modality))
        limit = float(found[f"TRENZA_{modality.upper()}_REQUEST_LIMIT_S"])
        assert float(found[f"TRENZA_{modality.upper()}_DRAIN_S"]) >= limit == 5000


def test_a_long_load_is_not_a_failed_start(chart: Chart) -> None:
    objects = chart.render(with_chat(startupSeconds=7200))
    probe = objects.container(pool("chat"))["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 7200
    assert objects.get("Deployment", pool("chat"))["spec"]["progressDeadlineSeconds"] > 7200


def test_pods_spread_and_are_not_taken_all_at_once(chart: Chart) -> None:
    objects = chart.render()
    for item in objects.of("Deployment"):
        name = item["metadata"]["name"]
        assert objects.get("PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
        spread = item["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        assert {one["topologyKey"] for one in spread} == (
            set() if name == SCHEDULER else {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        )
        assert all(one["labelSelector"]["matchLabels"] == item["spec"]["selector"]["matchLabels"] for one in spread)
    (own,) = chart.variant("everything").pod(pool("chat-gpu"))["topologySpreadConstraints"]
    assert own["whenUnsatisfiable"] == "DoNotSchedule"
    assert own["labelSelector"]["matchLabels"]["trenza.dev/pool"] == "chat-gpu"


def test_services_names_do_not_become_settings(chart: Chart) -> None:
    """Of a Service `trenza-gateway` Kubernetes would make TRENZA_GATEWAY_PORT, which begins as a setting does."""
    assert all(pod["enableServiceLinks"] is False for _, _, pod in chart.render().pods())


# ---- keys


def test_a_key_is_made_that_the_gateway_accepts(chart: Chart) -> None:
    data = chart.render().get("Secret", f"{RELEASE}-api-keys")["data"]
    key, lines = (base64.b64decode(data[name]).decode() for name in ("key", "keys"))
    assert len(key) > 40
    assert find_owner(parse_keys(lines), key) == "default"
    assert lines == f"default:{hashlib.sha256(key.encode()).hexdigest()}\n"
    other = Chart(chart._helm).render().get("Secret", f"{RELEASE}-api-keys")["data"]
    assert other["key"] != data["key"]


def test_the_gateway_reads_the_keys_and_nothing_else_of_the_secret(chart: Chart) -> None:
    for values, secret, key in (
        ({}, f"{RELEASE}-api-keys", "keys"),
        ({"gateway": {"apiKeys": {"existingSecret": "ours", "secretKey": "hashes"}}}, "ours", "hashes"),
    ):
        objects = chart.render(values)
        volume = {item["name"]: item for item in objects.pod(GATEWAY)["volumes"]}["api-keys"]["secret"]
        assert (volume["secretName"], volume["items"]) == (secret, [{"key": key, "path": "keys"}])
        assert objects.environment(GATEWAY)["TRENZA_GATEWAY_API_KEYS_FILE"] == "/etc/trenza/keys/keys"
        (mount,) = [item for item in objects.container(GATEWAY)["volumeMounts"] if item["name"] == "api-keys"]
        assert mount["mountPath"] == "/etc/trenza/keys"
        assert "subPath" not in mount  # such a mount never sees a change
        assert objects.names("Secret") == ({secret} if not values else set())


# ---- mutual TLS


def identities(objects: Objects) -> dict[str, str]:
    """The first name of each certificate, by the Secret that it lies in."""
    return {
        item["spec"]["secretName"]: item["spec"].get("dnsNames", ["authority"])[0] for item in objects.of("Certificate")
    }


def test_certificates_say_who_each_is(chart: Chart) -> None:
    objects = chart.variant("mtls-certmanager")
    names = identities(objects)
    assert names == {
        f"{RELEASE}-mesh-ca": "authority",
        f"{GATEWAY}-mesh": "gateway.trenza.mesh",
        f"{SCHEDULER}-mesh": "scheduler.trenza.mesh",
        f"{RELEASE}-keda-mesh": "keda.trenza.mesh",
        **{f"{pool(modality)}-mesh": f"{modality}.trenza.mesh" for modality in SERVICES},
    }
    for item in objects.of("Certificate"):
        if not item["spec"].get("isCA"):
            assert {"server auth", "client auth"} <= set(item["spec"]["usages"])
            assert item["spec"]["issuerRef"]["name"] == f"{RELEASE}-mesh"
    for name in objects.names("Deployment"):
        volume = {item["name"]: item for item in objects.pod(name)["volumes"]}["mesh"]["secret"]
        assert volume["secretName"] in names
        found = objects.environment(name)
        assert [found[f"TRENZA_TLS_{part}_FILE"] for part in ("CERT", "KEY", "CA")] == [
            f"/etc/trenza/mesh/{file}" for file in ("tls.crt", "tls.key", "ca.crt")
        ]


def test_an_authority_of_ones_own_issues(chart: Chart) -> None:
    objects = chart.variant("everything")
    assert objects.of("Issuer") == []
    assert not [item for item in objects.of("Certificate") if item["spec"].get("isCA")]
    assert all(
        item["spec"]["issuerRef"] == {"name": "house", "kind": "ClusterIssuer", "group": "cert-manager.io"}
        for item in objects.of("Certificate")
    )


def test_given_certificates_are_mounted(chart: Chart) -> None:
    objects = chart.variant("mtls-secret")
    assert objects.of("Certificate") == objects.of("Issuer") == []
    used = {
        name: {item["name"]: item for item in objects.pod(name)["volumes"]}["mesh"]["secret"]["secretName"]
        for name in objects.names("Deployment")
    }
    assert used == {name: "gateway-certificate" if name == GATEWAY else "mesh-certificate" for name in used}
    front = objects.environment(GATEWAY)
    assert front["TRENZA_GATEWAY_TLS_CERT_FILE"] == "/etc/trenza/tls/tls.crt"
    assert front["TRENZA_GATEWAY_TLS_KEY_FILE"] == "/etc/trenza/tls/tls.key"


def test_without_it_there_is_no_trace(chart: Chart) -> None:
    assert "TRENZA_TLS" not in str(list(chart.render()))


# ---- autoscaling


def test_an_hpa_for_each_pool_that_is_scaled_so(chart: Chart) -> None:
    objects = chart.variant("hpa")
    assert objects.names("HorizontalPodAutoscaler") == {GATEWAY, pool("chat"), pool("audio"), pool("images")}
    for item in objects.of("HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        assert "replicas" not in objects.get(target["kind"], target["name"])["spec"]  # or upgrades would set them back
    assert objects.get("Deployment", pool("vision"))["spec"]["replicas"] == 1


def demand(item: dict[str, Any]) -> dict[str, str]:
    """What an HPA aims at, by model."""
    found = {}
    for metric in item["spec"]["metrics"]:
        external = metric["external"]
        assert external["metric"]["name"] == "trenza_demand_slots"
        assert external["target"]["type"] == "AverageValue"
        labels = external["metric"]["selector"]["matchLabels"]
        found[f"{labels['modality']}/{labels['model']}"] = external["target"]["averageValue"]
    return found


def test_each_model_is_a_metric_of_its_own(chart: Chart) -> None:
    objects = chart.variant("hpa")
    assert demand(objects.get("HorizontalPodAutoscaler", pool("chat"))) == {"chat/starter-chat": "3200m"}
    assert demand(objects.get("HorizontalPodAutoscaler", pool("audio"))) == {
        "audio/starter-voice": "6400m",
        "audio/starter-whisper": "6400m",
    }


def test_up_at_once_and_down_slowly(chart: Chart) -> None:
    behavior = chart.variant("hpa").get("HorizontalPodAutoscaler", pool("chat"))["spec"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert {"type": "Percent", "value": 100, "periodSeconds": 15} in behavior["scaleUp"]["policies"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
    own = with_chat(autoscaling={"mode": "hpa", "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}})
    changed = chart.render(own).get("HorizontalPodAutoscaler", pool("chat"))["spec"]["behavior"]
    assert changed["scaleDown"]["stabilizationWindowSeconds"] == 5
    assert changed["scaleUp"] == behavior["scaleUp"]


@pytest.mark.parametrize("modality", SERVICES)
def test_slots_that_nobody_names_are_the_service_s_own(chart: Chart, modality: str) -> None:
    usual = SERVICES[modality].model_fields["slots"].default
    expected = expected_models(chart.render({"autoscaling": {"mode": "keda"}}))
    assert {int(slots) for name, slots in expected.items() if name.startswith(f"{modality}/")} == {usual}


def expected_models(objects: Objects) -> dict[str, str]:
    """Slots by model of what the scheduler is told to expect."""
    text = objects.environment(SCHEDULER)["TRENZA_SCHEDULER_EXPECTED_MODELS"]
    return dict(entry.rpartition(":")[::2] if ":" in entry else (entry, "") for entry in text.split(","))


def test_the_scheduler_expects_the_models_of_scaled_pools(chart: Chart) -> None:
    assert "TRENZA_SCHEDULER_EXPECTED_MODELS" not in chart.render().environment(SCHEDULER)
    assert expected_models(chart.variant("hpa")) == {
        "chat/starter-chat": "4",
        "audio/starter-voice": "8",
        "audio/starter-whisper": "8",
        "images/starter-draw": "8",
    }
    more = {"scheduler": {"expectPools": "all"}, "pools": {"images": {"replicas": 0}, "vision": {"enabled": False}}}
    assert expected_models(chart.render(more)) == {
        "chat/starter-chat": "4",
        "audio/starter-voice": "8",
        "audio/starter-whisper": "8",
    }
    everything = expected_models(chart.variant("everything"))
    assert everything["chat/org/large-model"] == "16"
    assert everything["audio/by-hand"] == ""
    assert not [name for name in everything if name.startswith("vision/")]


def test_keda_asks_the_scheduler_about_each_model(chart: Chart) -> None:
    objects = chart.variant("keda")
    assert objects.of("HorizontalPodAutoscaler") == []
    chat, audio = (objects.get("ScaledObject", pool(name))["spec"] for name in ("chat", "audio"))
    assert (chat["minReplicaCount"], chat["maxReplicaCount"]) == (1, 8)
    assert (audio["minReplicaCount"], audio["maxReplicaCount"]) == (0, 4)
    assert chat["scaleTargetRef"]["name"] == pool("chat")
    (trigger,) = chat["triggers"]
    assert trigger["type"] == "external-push"
    assert trigger["metadata"] == {
        "scalerAddress": f"{SCHEDULER}.ai.svc.cluster.local:9091",
        "modality": "chat",
        "model": "starter-chat",
        "targetSlots": "3",
    }
    assert {one["metadata"]["model"]: one["metadata"]["targetSlots"] for one in audio["triggers"]} == {
        "starter-voice": "6.4",
        "starter-whisper": "6.4",
    }
    assert all("replicas" not in objects.get("Deployment", pool(name))["spec"] for name in SERVICES)


def test_keda_shows_its_certificate(chart: Chart) -> None:
    objects = chart.variant("mtls-certmanager")
    (authentication,) = objects.of("TriggerAuthentication")
    references = {one["parameter"]: (one["name"], one["key"]) for one in authentication["spec"]["secretTargetRef"]}
    secret = f"{RELEASE}-keda-mesh"
    assert references == {
        "caCert": (secret, "ca.crt"),
        "tlsClientCert": (secret, "tls.crt"),
        "tlsClientKey": (secret, "tls.key"),
    }
    for item in objects.of("ScaledObject"):
        for trigger in item["spec"]["triggers"]:
            assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
            assert trigger["metadata"]["enableTLS"] == "true"
            # KEDA expects the name by which it calls; the scheduler's certificate has it.
            host = trigger["metadata"]["scalerAddress"].partition(":")[0]
            assert host in objects.get("Certificate", f"{SCHEDULER}-mesh")["spec"]["dnsNames"]


# ---- the front door


def test_an_ingress_lets_answers_stream_and_waits_long_enough(chart: Chart) -> None:
    objects = chart.variant("ingress")
    http, grpc = (objects.get("Ingress", name) for name in (GATEWAY, f"{GATEWAY}-grpc"))
    prefix = "nginx.ingress.kubernetes.io/"
    found = http["metadata"]["annotations"]
    assert found[f"{prefix}proxy-buffering"] == found[f"{prefix}proxy-request-buffering"] == "off"
    assert (
        float(found[f"{prefix}proxy-read-timeout"])
        > 1200
        == float(objects.environment(GATEWAY)["TRENZA_GATEWAY_REQUEST_S"])
    )
    assert found[f"{prefix}proxy-body-size"] == "72m"
    assert found[f"{prefix}backend-protocol"] == "HTTP"
    assert grpc["metadata"]["annotations"][f"{prefix}backend-protocol"] == "GRPC"
    assert http["spec"]["tls"] == [{"secretName": "ai-example-com", "hosts": ["ai.example.com"]}]
    (rule,) = grpc["spec"]["rules"]
    assert rule["host"] == "grpc.ai.example.com"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": GATEWAY, "port": {"name": "grpc"}}
    assert objects.get("Ingress", GATEWAY)["spec"]["ingressClassName"] == "nginx"


def test_behind_its_own_tls_an_ingress_speaks_tls(chart: Chart) -> None:
    objects = chart.variant("everything")
    key = "nginx.ingress.kubernetes.io/backend-protocol"
    assert objects.get("Ingress", GATEWAY)["metadata"]["annotations"][key] == "HTTPS"
    assert objects.get("Ingress", f"{GATEWAY}-grpc")["metadata"]["annotations"][key] == "GRPCS"


def test_routes_wait_long_enough_and_name_ports_that_there_are(chart: Chart) -> None:
    objects = chart.variant("gateway-api")
    http, grpc = (objects.get(kind, GATEWAY)["spec"] for kind in ("HTTPRoute", "GRPCRoute"))
    assert http["rules"][0]["timeouts"] == {"request": "630s", "backendRequest": "630s"}
    ports = {port["name"]: port["port"] for port in objects.get("Service", GATEWAY)["spec"]["ports"]}
    assert http["rules"][0]["backendRefs"] == [{"name": GATEWAY, "port": ports["http"]}]
    assert grpc["rules"][0]["backendRefs"] == [{"name": GATEWAY, "port": ports["grpc"]}]
    assert grpc["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
    assert http["hostnames"] == ["ai.example.com"]


def test_links_to_pictures_are_shared_or_clients_stick(chart: Chart) -> None:
    affinity = {
        name: chart.variant(name).get("Service", GATEWAY)["spec"]["sessionAffinity"] for name in ("default", "ingress")
    }
    assert affinity == {"default": "ClientIP", "ingress": "None"}
    found = chart.variant("ingress").environment(GATEWAY)
    assert found["TRENZA_GATEWAY_MEDIA_STORE"] == "s3"
    assert found["TRENZA_GATEWAY_MEDIA_S3_BUCKET"] == "pictures"
    assert found["AWS_ACCESS_KEY_ID"] == {"secretKeyRef": {"name": "bucket-credentials", "key": "AWS_ACCESS_KEY_ID"}}
    assert found["TRENZA_GATEWAY_PICTURE_URLS"] == "true"


def test_a_load_balancer_never_shows_metrics(chart: Chart) -> None:
    service = chart.variant("everything").get("Service", GATEWAY)["spec"]
    assert service["type"] == "LoadBalancer"
    assert service["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert {port["name"] for port in service["ports"]} == {"http", "grpc"}


# ---- hooks for what nobody thought of


def test_everything_can_be_added_to(chart: Chart) -> None:
    objects = chart.variant("everything")
    chat = objects.container(pool("chat-gpu"))
    assert {"name": "notes", "mountPath": "/notes"} in chat["volumeMounts"]
    template = objects.get("Deployment", SCHEDULER)["spec"]["template"]
    assert template["metadata"]["annotations"]["example.com/note"] == "scheduler"
    assert template["metadata"]["labels"]["team"] == "ai"
    assert objects.get("ServiceAccount", pool("chat"))["metadata"]["annotations"]["example.com/role"] == "models"
    assert objects.get("ConfigMap", "house-rules")["data"] == {"rule": "be kind"}
    assert f"{RELEASE}-note" in objects.names("ConfigMap")


def test_labels_of_values_cannot_break_selection(chart: Chart) -> None:
    values = {
        "commonLabels": {"app.kubernetes.io/name": "other"},
        "gateway": {"podLabels": {"app.kubernetes.io/component": "x"}},
    }
    labels = chart.render(values).get("Deployment", GATEWAY)["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "trenza"
    assert labels["app.kubernetes.io/component"] == "gateway"


def test_names_follow_the_release_or_what_is_said(chart: Chart) -> None:
    assert chart.render(release="mine").names("Deployment") >= {"mine-gateway", "mine-pool-chat"}
    assert "house-gateway" in chart.render({"fullnameOverride": "house"}).names("Deployment")


@pytest.mark.parametrize("variant", ["default", "keda", "everything", "cpu"])
def test_the_notes_tell_what_to_do_next(chart: Chart, variant: str) -> None:
    said = chart.run(
        "install", RELEASE, str(CHART), "-n", "ai", "--dry-run=client", values=values_of(variant)
    ).partition("NOTES:")[2]
    assert "helm test trenza -n ai --logs" in said
    key = "kubectl -n ai get secret trenza-api-keys"
    assert (key in said) == (variant != "cpu")
    if variant == "keda":
        assert "images: images, starter-draw, 0 to 4 replicas by keda" in said

"""Typing mistakes in values are refused before anything is sent, in words that name the place."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from chart.rendering import CHART, Chart, Refused

MISTAKES: dict[str, tuple[str, str]] = {
    "unknown top key": ("gatway: {replicas: 2}", "gatway"),
    "unknown gateway key": ("gateway: {replica: 2}", "replica"),
    "unknown pool key": ("pools: {chat: {modality: chat, replica: 2}}", "replica"),
    "pool without modality": ("pools: {fast: {replicas: 1}}", "modality"),
    "unknown modality": ("pools: {fast: {modality: text}}", "modality"),
    "pool name": ("pools: {Fast_Pool: {modality: chat}}", "Fast_Pool"),
    "unknown modality default": ("modalityDefaults: {text: {}}", "text"),
    "replicas as text": ("gateway: {replicas: two}", "replicas"),
    "negative replicas": ("pools: {chat: {replicas: -1}}", "replicas"),
    "half a replica": ("gateway: {replicas: 1.5}", "replicas"),
    "quoted truth": ("networkPolicy: {enabled: 'yes'}", "enabled"),
    "variant": ("image: {variant: rocm}", "variant"),
    "tag with a colon": ("image: {tag: 'v1:latest'}", "tag"),
    "registry with a scheme": ("image: {registry: 'https://registry.example.com'}", "registry"),
    "pull policy": ("image: {pullPolicy: Sometimes}", "pullPolicy"),
    "pull secret as text": ("image: {pullSecrets: [registry]}", "pullSecrets"),
    "log level": ("logs: {level: verbose}", "level"),
    "gpu resource without a domain": ("pools: {chat: {gpu: {count: 1, resource: gpu}}}", "resource"),
    "gpus as a limit": ("pools: {chat: {gpu: {limit: 1}}}", "limit"),
    "too many gpus": ("pools: {chat: {gpu: {count: 1000}}}", "count"),
    "memory unit": ("pools: {chat: {resources: {requests: {memory: 4GB}}}}", "memory"),
    "unknown resource": ("pools: {chat: {resources: {limits: {mem: 4Gi}}}}", "mem"),
    "resources without a list": ("pools: {chat: {resources: {memory: 4Gi}}}", "memory"),
    "storage type": ("pools: {chat: {storage: {type: nfs}}}", "type"),
    "relative host path": ("pools: {chat: {storage: {type: hostPath, hostPath: {path: models}}}}", "path"),
    "access mode": ("poolDefaults: {storage: {pvc: {accessModes: [RWX]}}}", "accessModes"),
    "source": ("pools: {chat: {models: {m: {source: 'https://example.com/m'}}}}", "source"),
    "file source that is relative": ("pools: {chat: {models: {m: {source: 'file://m'}}}}", "source"),
    "digest": ("pools: {chat: {models: {m: {sha256: {a.gguf: abc}}}}}", "sha256"),
    "files as a map": ("pools: {chat: {models: {m: {files: {a.gguf: abc}}}}}", "files"),
    "slots": ("pools: {chat: {models: {m: {slots: 0}}}}", "slots"),
    "models as a list": ("pools: {chat: {models: [m]}}", "models"),
    "scaling mode": ("autoscaling: {mode: vpa}", "mode"),
    "a pool's scaling mode": ("pools: {chat: {autoscaling: {mode: auto}}}", "mode"),
    "target in percent": ("pools: {chat: {autoscaling: {target: 80}}}", "target"),
    "behaviour": ("pools: {chat: {autoscaling: {behavior: {scaleup: {}}}}}", "scaleup"),
    "strategy": ("pools: {chat: {strategy: {type: BlueGreen}}}", "type"),
    "toleration": ("pools: {chat: {tolerations: [{key: a, effects: NoSchedule}]}}", "effects"),
    "toleration effect": ("pools: {chat: {tolerations: [{key: a, effect: Never}]}}", "effect"),
    "spread without a key": ("pools: {chat: {topologySpreadConstraints: [{maxSkew: 1}]}}", "topologySpreadConstraints"),
    "env as a list": ("gateway: {env: [{name: A, value: b}]}", "env"),
    "env name": ("gateway: {env: {'A-B': c}}", "A-B"),
    "env from nowhere": ("gateway: {env: {A: {valueFrom: {secret: x}}}}", "secret"),
    "label that is a number": ("commonLabels: {team: 7}", "team"),
    "security context": ("pools: {chat: {securityContext: {readOnlyRootFileSystem: false}}}", "readOnlyRootFileSystem"),
    "mesh mode": ("mtls: {mode: certmanager}", "mode"),
    "mesh secret of nobody": ("mtls: {secretNames: {text: a}}", "text"),
    "duration": ("mtls: {duration: 90d}", "duration"),
    "network": ("gateway: {pictureUrls: {networks: ['10.0.0.0']}}", "networks"),
    "port": ("gateway: {service: {httpPort: 80800}}", "httpPort"),
    "host with a scheme": ("gateway: {ingress: {hosts: ['https://ai.example.com']}}", "hosts"),
    "route without a parent": ("gateway: {httpRoute: {enabled: true}}", "parentRefs"),
    "bucket without a name": ("gateway: {media: {store: s3}}", "bucket"),
    "expected model without a modality": ("scheduler: {expectedModels: [my-model]}", "expectedModels"),
    "scheduler replicas": ("scheduler: {replicas: 2}", "replicas"),
    "dns peer": ("networkPolicy: {dns: {to: [{namespace: kube-system}]}}", "namespace"),
    "interval": ("monitoring: {serviceMonitors: {interval: often}}", "interval"),
    "monitoring switch": ("monitoring: {serviceMonitor: {enabled: true}}", "serviceMonitor"),
    "key's name": ("gateway: {apiKeys: {name: 'a b'}}", "name"),
    "test key": ("tests: {apiKeySecret: my-secret}", "apiKeySecret"),
}
SENTENCES: dict[str, tuple[str, str]] = {
    "source without room": (
        "pools: {chat: {models: {m: {source: 'hub://a/b'}}}}",
        "pools.chat: models with a source need storage.type pvc, emptyDir or hostPath",
    ),
    "image volume of nothing": ("pools: {chat: {storage: {type: image}}}", "pools.chat: storage.type image needs"),
    "empty for ever": ("pools: {chat: {storage: {type: emptyDir}}}", "pools.chat: storage.type emptyDir begins empty"),
    "scaled by nothing": (
        "pools: {chat: {storage: {type: pvc}, autoscaling: {mode: hpa}}}",
        "pools.chat: autoscaling needs the names of its models",
    ),
    "scaled twice": (
        "{autoscaling: {mode: keda}, pools: {chat-2: {modality: chat}}}",
        "pools.chat and pools.chat-2 both scale with the demand for chat/starter-chat",
    ),
    "hpa to zero": (
        "pools: {chat: {autoscaling: {mode: hpa, minReplicas: 0}}}",
        "scale to zero needs autoscaling.mode keda",
    ),
    "hpa of a name": (
        "pools: {chat: {storage: {type: pvc}, models: {a/b: {}}, autoscaling: {mode: hpa}}}",
        'an HPA cannot select the model name "a/b"',
    ),
    "upside down": (
        "pools: {chat: {autoscaling: {mode: hpa, minReplicas: 5, maxReplicas: 4}}}",
        "pools.chat: autoscaling.maxReplicas is below minReplicas",
    ),
    "no certificate": (
        "mtls: {enabled: true, mode: secret, secretNames: {gateway: a}}",
        "set mtls.secretName, or mtls.secretNames.",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_typing_mistake_is_refused_and_named(chart: Chart, name: str) -> None:
    text, named = MISTAKES[name]
    with pytest.raises(Refused, match=re.escape(named)) as refusal:
        chart.render(yaml.safe_load(text))
    assert "values.schema.json" in str(refusal.value) or "meet the specifications of the schema" in str(refusal.value)


@pytest.mark.parametrize("name", SENTENCES)
def test_what_does_not_go_together_is_refused_in_a_sentence(chart: Chart, name: str) -> None:
    text, sentence = SENTENCES[name]
    with pytest.raises(Refused, match=re.escape(sentence)):
        chart.render(yaml.safe_load(text))


def test_too_long_a_name_is_refused_in_a_sentence(chart: Chart) -> None:
    with pytest.raises(Refused, match="longer than the 63 characters"):
        chart.render(
            {"pools": {"a-rather-long-name": {"modality": "chat"}}}, release="a-release-with-a-name-of-forty-characters"
        )


def described(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """A schema with its reference followed."""
    return root["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def undescribed(values: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> list[str]:
    """Paths of values that the schema does not name, and of what it names and no value shows."""
    schema = described(schema, root)
    if not isinstance(values, dict) or not values or "properties" not in schema:
        return []
    names = schema["properties"].keys()
    found = [f"{path}.{name} is in the values only" for name in values.keys() - names]
    found += [f"{path}.{name} is in the schema only" for name in names - values.keys() - {"global"}]
    for name in values.keys() & names:
        found += undescribed(values[name], schema["properties"][name], root, f"{path}.{name}")
    return found


def test_values_and_schema_name_the_same_keys() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    native = ("modalityDefaults", "resources", "matchExpressions")  # where values show a part of what there is
    assert [line for line in undescribed(values, schema, schema) if not any(name in line for name in native)] == []

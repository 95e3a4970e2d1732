"""The chart: rendered by Helm's own library, held against Kubernetes' schemas, and read as a node would read it."""

import itertools
import json
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from raftkv.core.environment import read_config

CHART = Path(__file__).parents[2] / "packaging" / "helm" / "raftkv"
KUBERNETES = ("1.27.0", "1.33.0")
NO_PART_OF_KUBERNETES = {"ServiceMonitor"}

CHOICES = {
    "as it comes": {},
    "all on": {
        "replicas": 5,
        "config": {"raft": {"election_timeout_s": 1.2, "snapshot_entries": 1000000}, "quorum": {"seeds": ["h:1"]}},
        "secret": {"existingSecret": "mine"},
        "auth": {"existingSecret": "mine-too"},
        "tls": {"http": "tls-http", "peers": "tls-peers"},
        "hosts": ["kv.example.org"],
        "etcd": {"enabled": True},
        "storage": {"storageClassName": "fast"},
        "antiAffinity": "required",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "kv", "operator": "Exists"}],
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
        ],
        "priorityClassName": "high",
        "podAnnotations": {"a": "b"},
        "imagePullSecrets": [{"name": "pull"}],
        "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "all off": {
        "auth": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": True},
    },
}


def rendered(values, name="kv"):
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values, name=name, namespace="stores", is_install=True)
    manifests = (text for path, text in texts.items() if not path.endswith(".txt"))
    return [one for one in itertools.chain.from_iterable(map(yaml.safe_load_all, manifests)) if one]


def only(manifests, kind):
    return [one for one in manifests if one["kind"] == kind]


def environment(manifests, pod):
    (container,) = only(manifests, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", pod) for one in container["env"]}


@pytest.mark.parametrize("values", CHOICES.values(), ids=CHOICES)
def test_helm_has_no_complaint(values):
    report = helm.lint(CHART, values, strict=True, namespace="stores")

    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", CHOICES.values(), ids=CHOICES)
def test_kubernetes_takes_all_that_is_rendered(values, version):
    manifests = rendered(values)
    for manifest in manifests:
        if manifest["kind"] not in NO_PART_OF_KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)

    kinds = {one["kind"] for one in manifests}
    assert {"StatefulSet", "Service"} <= kinds
    assert ("PodDisruptionBudget" in kinds) == (values is not CHOICES["all off"])
    spoiled = only(manifests, "StatefulSet")[0]
    spoiled["spec"]["replicas"] = "three"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoiled, version, strict=True)


@pytest.mark.parametrize("values", CHOICES.values(), ids=CHOICES)
def test_each_pod_is_a_node_of_a_cluster_that_starts(values):
    manifests = rendered(values)
    (workload,) = only(manifests, "StatefulSet")
    pods = [f"{workload['metadata']['name']}-{number}" for number in range(workload["spec"]["replicas"])]
    config = read_config(None, environment(manifests, pods[0]))

    assert [node.id for node in config.node] == pods
    assert environment(manifests, pods[0])["RAFTKV_ID"] == pods[0]
    assert config.node[0].http == f"{pods[0]}.{workload['spec']['serviceName']}.stores.svc.cluster.local:8001"
    (headless,) = [one for one in only(manifests, "Service") if one["spec"].get("clusterIP") == "None"]
    assert headless["metadata"]["name"] == workload["spec"]["serviceName"]
    assert headless["spec"]["publishNotReadyAddresses"] is True
    assert f"{headless['metadata']['name']}-client.stores.svc" in config.http.hosts
    assert config.auth.enabled != config.auth.open_to_anyone


def test_what_is_configured_reaches_the_nodes():
    config = read_config(None, environment(rendered(CHOICES["all on"]), "x"))

    assert (config.raft.election_timeout_s, config.raft.snapshot_entries) == (1.2, 1000000)
    assert config.quorum.seeds == ("h:1",)
    assert "kv.example.org" in config.http.hosts


def test_clients_of_etcd_find_its_own_port_where_that_is_wanted():
    manifests, without = rendered(CHOICES["all on"]), rendered({})
    services = only(manifests, "Service")
    (container,) = only(manifests, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"]
    (policy,) = only(manifests, "NetworkPolicy")
    nodes = read_config(None, environment(manifests, "x")).node

    assert [node.etcd for node in nodes] == [node.http.replace("8001", "2379") for node in nodes]
    assert {node.etcd_bind for node in nodes} == {"*:2379"}
    assert all({"name": "etcd", "port": 2379, "targetPort": "etcd"} in one["spec"]["ports"] for one in services)
    assert {"name": "etcd", "containerPort": 2379} in container["ports"]
    assert {"protocol": "TCP", "port": "etcd"} in policy["spec"]["ingress"][1]["ports"]
    assert "2379" not in str(without)


def test_every_file_that_a_node_is_told_of_is_mounted():
    for values in CHOICES.values():
        manifests = rendered(values)
        spec = only(manifests, "StatefulSet")[0]["spec"]["template"]["spec"]
        mounts = {one["mountPath"]: one["name"] for one in spec["containers"][0]["volumeMounts"]}
        volumes = {one["name"]: one for one in spec["volumes"]} | {"data": {}}
        files = [value for value in environment(manifests, "x").values() if value.startswith("/")]
        kept = {one["metadata"]["name"]: set(one["data"]) for one in only(manifests, "Secret")}

        assert set(mounts.values()) == set(volumes)
        for file in map(Path, files):
            name = mounts.get(str(file)) or mounts[str(file.parent)]
            secret = volumes[name].get("secret", {}).get("secretName")
            assert secret not in kept or file.name in kept[secret]
            assert volumes[name].get("secret", {}).get("defaultMode", 0o440) == 0o440


def test_what_disturbs_and_what_selects_means_the_pods():
    manifests = rendered(CHOICES["all on"])
    labels = only(manifests, "StatefulSet")[0]["spec"]["template"]["metadata"]["labels"].items()
    (budget,), (policy,) = only(manifests, "PodDisruptionBudget"), only(manifests, "NetworkPolicy")
    services = [one["spec"]["selector"] for one in only(manifests, "Service")]

    assert budget["spec"]["selector"]["matchLabels"].items() <= labels
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    assert all(selector.items() <= labels for selector in services)
    (monitor,) = only(manifests, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert sum(wanted <= one["metadata"]["labels"].items() for one in only(manifests, "Service")) == 1


def test_another_name_gives_other_names_and_a_long_one_is_cut():
    names = {one["metadata"]["name"] for one in rendered({}, name="x" * 50)}

    assert max(map(len, names)) <= 52
    assert not names & {one["metadata"]["name"] for one in rendered({})}
    assert json.dumps(rendered({"replicas": 1})).count("9001") >= 2

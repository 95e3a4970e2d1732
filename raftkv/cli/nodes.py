"""``raftkv up`` and ``raftkv node``: start a whole cluster on this machine, or one node of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

EMBEDDED_DIRECTORY: Final = Path("raftkv-data")


@click.command("up", short_help="Run every node of a cluster on this machine.")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--etcd", "has_etcd_ports", is_flag=True, help="Serve on etcd's ports too: 2379, 22379, 32379 ...")
def up(config: Path | None, *, has_etcd_ports: bool) -> int:
    """Run every node of CONFIG on this machine until Ctrl-C.

    Without CONFIG: three nodes on 127.0.0.1:8001-8003, with their data and their configuration under raftkv-data/ in
    the current directory.
    """
    from raftkv.core.config import parse_config  # noqa: PLC0415  commands load what they use
    from raftkv.core.environment import NODES  # noqa: PLC0415
    from raftkv.launch import config_file  # noqa: PLC0415
    from raftkv.launch.display import choose_display  # noqa: PLC0415
    from raftkv.launch.etcd_ports import nodes_as_toml, with_etcd_ports  # noqa: PLC0415
    from raftkv.launch.supervisor import check_addresses  # noqa: PLC0415
    from raftkv.launch.supervisor import up as run  # noqa: PLC0415
    from raftkv.process import streams  # noqa: PLC0415

    streams.lossy()  # a cluster outlives whoever reads of it
    path = EMBEDDED_DIRECTORY / config_file.EMBEDDED_NAME if config is None else config
    if config is None and not path.exists():
        first = parse_config(config_file.EMBEDDED)
        check_addresses(with_etcd_ports(first) if has_etcd_ports else first)  # before a directory is left for nothing
        config_file.embedded_config(EMBEDDED_DIRECTORY)
    if has_etcd_ports:
        os.environ[NODES] = nodes_as_toml(with_etcd_ports(config_file.load_cluster(path)))
    cluster = config_file.load_cluster(path)
    with choose_display(cluster.cluster.name, has_ring=cluster.cluster.mode == "quorum") as display:
        return run(cluster, path.resolve(), display)


@click.command("node", short_help="Run one node in the foreground.")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--id", "node_id", required=True, envvar="RAFTKV_ID", help="Which node of CONFIG; or set RAFTKV_ID.")
@click.option(
    "--join", multiple=True, metavar="HOST:PORT", help="Ask this node of a running cluster to be let in; repeat."
)
@click.option("--parent-fd", type=click.IntRange(min=0), hidden=True, help="End when this descriptor is at its end.")
@click.option("--experiment-fd", type=click.IntRange(min=0), hidden=True, help="Take orders to be faulty from here.")
def node(
    config: Path | None, node_id: str, join: tuple[str, ...], parent_fd: int | None, experiment_fd: int | None
) -> int:
    """Run one node of CONFIG in the foreground until Ctrl-C or SIGTERM.

    Variables of the environment say otherwise for single keys (RAFTKV_HTTP__WORKERS=2), or, without CONFIG, say it all.
    """
    from raftkv.core import environment  # noqa: PLC0415  commands load what they use
    from raftkv.core.config import ConfigError  # noqa: PLC0415
    from raftkv.core.errors import StartupError  # noqa: PLC0415
    from raftkv.launch import config_file  # noqa: PLC0415

    cluster = config_file.load_cluster(config, seeds=join)
    try:
        cluster.member(node_id)
    except ConfigError as error:
        raise StartupError(f"{config or environment.NODES}: {error}") from None
    config_file.ensure_secret(cluster)
    from raftkv.experiment import Experiment  # noqa: PLC0415
    from raftkv.node import run_node  # noqa: PLC0415  only now: a refused start needs none of it

    experiment = None if experiment_fd is None else Experiment(experiment_fd)
    return run_node(cluster, config and config.resolve(), node_id, parent_fd, experiment)

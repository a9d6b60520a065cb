"""A Ray cluster whose nodes are all on this machine."""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from unittest import mock

_PORTS = count(23000 + os.getpid() % 1000 * 30, 5)


def node(**more: Any) -> dict[str, Any]:
    """What a node is started with: small, and with ports of its own."""
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
    first = next(_PORTS)
    ports = {name: first + i for i, name in enumerate(names)}
    return {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False, **ports, **more}


@contextmanager
def clustered(nodes: int, **each: Any) -> Iterator[Any]:
    """So many nodes, and a head that runs nothing."""
    import ray
    from ray._private import services
    from ray.cluster_utils import Cluster

    unhurried = mock.patch.object(services, "start_raylet", _unhurried(services.start_raylet))
    with mock.patch.dict(os.environ, {"RAY_raylet_start_wait_time_s": "300", "OMP_NUM_THREADS": "1"}), unhurried:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # no node may claim GPUs beside it
        cluster = Cluster(initialize_head=True, head_node_args=node(num_cpus=0))
        try:
            for _ in range(nodes):
                cluster.add_node(**node(**each))
            cluster.wait_for_nodes(timeout=300)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def _unhurried(start: Callable[..., Any]) -> Callable[..., Any]:
    """A node dies whose agent hasn't told its port within 15 seconds, as on a busy machine: it is told before."""
    from ray._raylet import persist_port

    def started(*args: Any, **more: Any) -> Any:
        given = inspect.signature(start).bind(*args, **more).arguments
        name = "dashboard_agent_listen_port"
        persist_port(given["session_dir"], given["node_id"], name, given[name])
        return start(*args, **more)

    return started

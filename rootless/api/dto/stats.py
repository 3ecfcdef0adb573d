"""Statistics."""

from __future__ import annotations

from rootless.api.dto.times import ZERO, rfc3339
from rootless.model.records import CpuSample, NetworkSample, Stats


def _cpu(sample: CpuSample) -> dict[str, object]:
    body: dict[str, object] = {
        "cpu_usage": {
            "total_usage": sample.total_ns,
            "usage_in_kernelmode": sample.kernel_ns,
            "usage_in_usermode": sample.user_ns,
        },
        "throttling_data": {
            "periods": sample.periods,
            "throttled_periods": sample.throttled_periods,
            "throttled_time": sample.throttled_ns,
        },
    }
    if sample.system_ns:
        body["system_cpu_usage"] = sample.system_ns
        body["online_cpus"] = sample.online_cpus
    return body


def _network(sample: NetworkSample) -> dict[str, int]:
    return {
        "rx_bytes": sample.rx_bytes,
        "rx_packets": sample.rx_packets,
        "rx_errors": sample.rx_errors,
        "rx_dropped": sample.rx_dropped,
        "tx_bytes": sample.tx_bytes,
        "tx_packets": sample.tx_packets,
        "tx_errors": sample.tx_errors,
        "tx_dropped": sample.tx_dropped,
    }


def stats(found: Stats) -> dict[str, object]:
    """One sample in the shape of cgroup v2."""
    blkio = [
        {"major": 0, "minor": 0, "op": "read", "value": found.blkio_read},
        {"major": 0, "minor": 0, "op": "write", "value": found.blkio_write},
    ]
    memory: dict[str, object] = {}
    if found.memory_usage:
        memory = {
            "usage": found.memory_usage,
            "stats": dict(found.memory),
            "limit": found.memory_limit,
        }
    body: dict[str, object] = {
        "id": found.id,
        "name": f"/{found.name}",
        "read": rfc3339(found.read_ns),
        "preread": rfc3339(found.previous_ns) if found.previous_ns else ZERO,
        "num_procs": 0,
        "pids_stats": {"current": found.pids, "limit": found.pids_limit} if found.pids else {},
        "cpu_stats": _cpu(found.cpu),
        "precpu_stats": _cpu(found.previous),
        "memory_stats": memory,
        "blkio_stats": {
            "io_service_bytes_recursive": blkio if found.blkio_read or found.blkio_write else None,
            "io_serviced_recursive": None,
            "io_queue_recursive": None,
            "io_service_time_recursive": None,
            "io_wait_time_recursive": None,
            "io_merged_recursive": None,
            "io_time_recursive": None,
            "sectors_recursive": None,
        },
        "storage_stats": {},
    }
    if found.networks:
        body["networks"] = {sample.interface: _network(sample) for sample in found.networks}
    return body

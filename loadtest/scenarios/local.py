"""CPU per request with the origin next door: hits by size, two workers, misses by size.

Rounds are interleaved, A B C A B C, and a ratio is the median of the rounds' own ratios, because neighbours
on the machine change what a round costs for everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from loadtest import peers
from loadtest.bench import Bench, Meter
from loadtest.pattern import key_for
from loadtest.procs import Server
from loadtest.results import Figure, Result, ratio

KIB, MIB = 1 << 10, 1 << 20
CONNECTIONS = 16


class Shape(NamedTuple):
    """`keys` different objects, `requests` of a round; the quick run's in brackets. `reach` over nginx,
    rclone.
    """

    label: str
    size: int
    keys: int
    keys_quick: int
    requests: int
    requests_quick: int
    reach: tuple[float | None, float | None] = (None, None)


HITS = (
    Shape("4k", 4 * KIB, 20_000, 4_000, 20_000, 8_000, (1.6, 0.4)),
    Shape("40k", 40 * KIB, 5_000, 1_000, 10_000, 4_000),
    Shape("1m", MIB, 256, 96, 768, 288, (1.0, 0.25)),
    Shape("8m", 8 * MIB, 40, 16, 120, 48, (1.1, 0.25)),
    Shape("64m", 64 * MIB, 6, 3, 18, 6),
)
MISSES = (
    Shape("4 KiB", 4 * KIB, 0, 0, 2_000, 500),
    Shape("1 MiB", MIB, 0, 0, 100, 40),
    Shape("8 MiB", 8 * MIB, 0, 0, 24, 8),
)


def hit(shape: Shape, bench: Bench) -> Result:
    result = Result(f"hit_{shape.label}", f"Hits of {shape.label} objects: server CPU per request")
    keys = [key_for("hits", shape.size, n) for n in range(bench.scaled(shape.keys, shape.keys_quick))]
    with bench.place() as place, ExitStack() as stack:
        origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
        cores = bench.cores.server
        started = bench.start(
            stack,
            result,
            {
                "gateway": lambda: peers.start_gateway(origin.port, cores, place),
                "nginx": lambda: peers.start_nginx(origin.port, cores, place),
                "rclone": lambda: peers.start_rclone(keys, cores, place),
            },
        )
        if "direct" in bench.systems:
            started["direct"] = origin
        meters = {name: Meter(server, CONNECTIONS) for name, server in started.items()}
        for meter in meters.values():
            meter.warm(keys)
        for number in range(bench.rounds):
            chosen = bench.shuffled(keys, bench.scaled(shape.requests, shape.requests_quick), number)
            _hit_round(meters, chosen, origin, result)
    _compare(result, meters, shape)
    return result


def _hit_round(meters: dict[str, Meter], keys: list[str], origin: Server, result: Result) -> None:
    for name, meter in meters.items():
        before = peers.counted(origin)
        meter.round(keys)
        asked = peers.counted(origin).since(before).requests
        if asked and name != "direct":
            result.notes.append(f"{name}: the origin was asked {asked} times within a round of hits")


def _compare(result: Result, meters: dict[str, Meter], shape: Shape) -> None:
    result.rows = {name: meter.series.row() for name, meter in meters.items()}
    for peer, reach in zip(("nginx", "rclone"), shape.reach, strict=True):
        if "gateway" in meters and peer in meters:
            measured = ratio(meters["gateway"].series.cpu_us, meters[peer].series.cpu_us)
            result.figures.append(Figure(f"hit {shape.label}: CPU, gateway / {peer}", measured, reach))
        elif reach is not None:
            result.figures.append(Figure(f"hit {shape.label}: CPU, gateway / {peer}", None, reach))


def workers_2(bench: Bench) -> Result:
    """Both gateways on the server core: what is measured is the price of sharing, not of a second core. Each worker of
    two has as many connections as the one alone. The same connections shared out instead (`thin`) leave fewer
    requests to each turn of an event loop, which is dearer with two processes of any server; it is shown beside."""
    result = Result("workers_2", "Hits with two workers on one store against one worker: CPU per request")
    for shape in (HITS[0], HITS[2]):
        keys = [key_for("hits", shape.size, n) for n in range(bench.scaled(shape.keys, shape.keys_quick))]
        with bench.place() as place, ExitStack() as stack:
            origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
            started = bench.start(stack, result, _by_workers(origin, bench, place))
            meters = {name: Meter(server, CONNECTIONS * int(name[-1])) for name, server in started.items()}
            for meter in meters.values():
                meter.warm(keys)
            meters |= {f"{name} thin": Meter(started[name], CONNECTIONS) for name in started if "×2" in name}
            for number in range(bench.rounds):
                chosen = bench.shuffled(keys, bench.scaled(shape.requests, shape.requests_quick), number)
                _hit_round(meters, chosen, origin, result)
        result.rows |= {f"{name} {shape.label}": meter.series.row() for name, meter in meters.items()}
        for system, reach in (("gateway", 1.1), ("nginx", None)):
            for thin in ("", " thin"):
                two, one = meters.get(f"{system} ×2{thin}"), meters.get(f"{system} ×1")
                measured = ratio(two.series.cpu_us, one.series.cpu_us) if two and one else None
                what = f"two workers{thin} / one, {shape.label}: CPU, {system}"
                result.figures.append(Figure(what, measured, None if thin else reach))
    return result


def _by_workers(origin: Server, bench: Bench, place: Path) -> dict[str, Callable[[], Server]]:
    cores = bench.cores.server
    return {
        "gateway ×1": lambda: peers.start_gateway(origin.port, cores, place, workers=1),
        "gateway ×2": lambda: peers.start_gateway(origin.port, cores, place, workers=2),
        "nginx ×1": lambda: peers.start_nginx(origin.port, cores, place, workers=1),
        "nginx ×2": lambda: peers.start_nginx(origin.port, cores, place, workers=2),
    }


def miss(bench: Bench) -> Result:
    """Every request asks for an object that nobody has asked for; the fill to disk is part of the price."""
    result = Result("miss", "Misses, the origin next door: server CPU per request")
    for shape in MISSES:
        with bench.place() as place, ExitStack() as stack:
            origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
            cores = bench.cores.server
            started = bench.start(
                stack,
                result,
                {
                    "gateway": lambda: peers.start_gateway(origin.port, cores, place),  # noqa: B023
                    "nginx": lambda: peers.start_nginx(origin.port, cores, place),  # noqa: B023
                },
            )
            meters = {name: Meter(server, CONNECTIONS) for name, server in started.items()}
            count = bench.scaled(shape.requests, shape.requests_quick)
            for number in range(bench.rounds + 1):
                for meter in meters.values():
                    meter.round(
                        [key_for(f"miss{number}", shape.size, n) for n in range(count)], check_every=8
                    )
        for name, meter in meters.items():
            result.rows[f"{name} {shape.label}"] = meter.series.row()
        if len(meters) == 2:
            measured = ratio(meters["gateway"].series.cpu_us, meters["nginx"].series.cpu_us)
            result.figures.append(Figure(f"miss {shape.label}: CPU, gateway / nginx", measured))
    return result


SCENARIOS: dict[str, Callable[[Bench], Result]] = {
    **{f"hit_{shape.label}": partial(hit, shape) for shape in HITS},
    "workers_2": workers_2,
    "miss": miss,
}

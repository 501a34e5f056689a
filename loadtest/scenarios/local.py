"""CPU per request with the origin next door: hits by size, misses by size.

Rounds are interleaved, A B C A B C, and a ratio is the median of the rounds' own ratios, because neighbours
on the machine change what a round costs for everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
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
    rclone. `in_turn`: always in the same order, else in a random one.
    """

    label: str
    size: int
    keys: int
    keys_quick: int
    requests: int
    requests_quick: int
    reach: tuple[float | None, float | None] = (None, None)
    in_turn: bool = False

    def chosen(self, keys: list[str], bench: Bench, number: int) -> list[str]:
        """What round `number` asks for."""
        count = bench.scaled(self.requests, self.requests_quick)
        if self.in_turn:
            return [keys[at % len(keys)] for at in range(number * count, (number + 1) * count)]
        return bench.shuffled(keys, count, number)


HITS = (
    Shape("4k", 4 * KIB, 20_000, 4_000, 20_000, 8_000, (1.6, 0.4)),
    Shape("40k", 40 * KIB, 5_000, 1_000, 10_000, 4_000),
    Shape("1m", MIB, 256, 96, 768, 288, (1.0, 0.25)),
    Shape("8m", 8 * MIB, 40, 16, 120, 48, (1.1, 0.25)),
    Shape("64m", 64 * MIB, 6, 3, 18, 6),
    # More objects than a worker remembers (`frontend/hot.py`): whatever was learned of one is forgotten before its next
    # turn, so each hit is new to the worker.
    Shape("many", 4 * KIB, 36_000, 36_000, 18_000, 9_000, in_turn=True),
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
            _hit_round(meters, shape.chosen(keys, bench, number), origin, result)
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
    "miss": miss,
}

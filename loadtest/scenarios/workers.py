"""What a second worker on the same store costs: CPU per hit of two workers against that of one.

apart      each worker on a core of its own, and on that core a generator of its own: as a node runs them. The one
           worker has one core and one generator, too.
crowded    both workers on the server core, the generators on the other. Two processes of any program lose to each
           other there what they had in the core's caches.

Two busy cores are slower than one (what they share of caches, and of a physical core where the two are its threads).
So what is promised is judged against `1 + 1`: two gateways of one worker each, which share nothing but the machine.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from loadtest import peers
from loadtest.bench import ROUND_S_MAX, Bench, Meter, settle, signer_for
from loadtest.client import Call, Generator, LoadError, Outcome, gets
from loadtest.pattern import key_for
from loadtest.procs import Server, pin_workers
from loadtest.results import Figure, Result, Series, ratio
from loadtest.scenarios.local import CONNECTIONS, HITS

_fork = multiprocessing.get_context("fork")
WORKER = {"gateway": "gateway.node.worker", "nginx": "worker process"}


class Arranged(NamedTuple):
    """Some servers under load together. `cores`: of each worker, in the servers' order; `load`: of each generator.
    Every generator has connections to every server, as the kernel gives it some to every worker of one."""

    servers: list[Server]
    workers: int
    cores: list[int]
    load: list[int]
    series: Series

    def pin(self) -> None:
        for number, server in enumerate(self.servers):
            mine = self.cores[number * self.workers : (number + 1) * self.workers]
            pin_workers(server, WORKER[server.name], mine)

    def cpu_ns(self) -> int:
        return sum(server.cpu_ns() for server in self.servers)

    def settle(self) -> None:
        for server in self.servers:
            settle(server)

    def round(self, keys: Sequence[str]) -> None:
        self.pin()
        count = len(self.load)
        pipes = [_generator(self.servers, core, keys[number::count]) for number, core in enumerate(self.load)]
        for pipe in pipes:
            _received(pipe)
        self.settle()
        before = self.cpu_ns()
        for pipe in pipes:
            pipe.send("go")
        outcomes = [_received(pipe) for pipe in pipes]
        self.settle()
        self.series.add(self.cpu_ns() - before, _merged(outcomes))


def _generator(servers: Sequence[Server], core: int, keys: Sequence[str]) -> Connection:
    """A process that connects, says so, and when told to, loads the servers from its core."""
    signer = signer_for(servers[0])  # they judge the signature by the Host that is sent
    signer.redate()
    ours, theirs = _fork.Pipe()
    calls = gets(signer, peers.BUCKET, keys, check_every=64)
    ports = [server.port for server in servers]
    _fork.Process(target=_generate, args=(ports, core, calls, theirs), daemon=True).start()
    theirs.close()
    return ours


def _generate(ports: list[int], core: int, calls: list[Call], pipe: Connection) -> None:
    os.sched_setaffinity(0, {core})
    try:
        with Generator(ports, CONNECTIONS) as generator:
            pipe.send("ready")
            pipe.recv()
            pipe.send(generator.run(calls, seconds_max=ROUND_S_MAX))
    except (LoadError, OSError) as error:
        pipe.send(LoadError(str(error)))


def _received(pipe: Connection) -> Outcome:
    said = pipe.recv()
    if isinstance(said, LoadError):
        raise said
    return said  # type: ignore[no-any-return]


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    whole = Outcome(
        max(outcome.seconds for outcome in outcomes),
        sum(outcome.generator_cpu_s for outcome in outcomes),
        sum(outcome.body_bytes for outcome in outcomes),
    )
    for outcome in outcomes:
        whole.latencies.extend(outcome.latencies)
    return whole


def workers_2(bench: Bench) -> Result:
    result = Result("workers_2", "Hits with two workers on one store against one worker: CPU per request")
    both = sorted(bench.cores.server | bench.cores.load)[:2]
    for shape in (HITS[0], HITS[2]):
        keys = [key_for("hits", shape.size, n) for n in range(bench.scaled(shape.keys, shape.keys_quick))]
        arranged: dict[str, Arranged] = {}
        if len(both) == 2:
            with bench.place() as place, ExitStack() as stack:
                origin = stack.enter_context(peers.start_origin(bench.cores.load, place))
                started = bench.start(stack, result, _systems(origin, bench, place))
                arranged = _arranged(started, both)
                _warm(started, keys)
                count = bench.scaled(shape.requests, shape.requests_quick)
                for number in range(bench.rounds):
                    for one in arranged.values():
                        one.round(bench.shuffled(keys, count * len(one.load), number))
        result.rows |= {f"{name} {shape.label}": one.series.row() for name, one in arranged.items()}
        result.figures += _judged(arranged, shape.label)
    if len(both) < 2:
        result.notes.append("two workers need two cores")
    return result


def _systems(origin: Server, bench: Bench, place: Path) -> dict[str, Callable[[], Server]]:
    cores = bench.cores.server | bench.cores.load
    (other := place / "other").mkdir(mode=0o755)
    return {
        "gateway ×1": lambda: peers.start_gateway(origin.port, cores, place, workers=1),
        "gateway ×2": lambda: peers.start_gateway(origin.port, cores, place, workers=2),
        "gateway +1": lambda: peers.start_gateway(origin.port, cores, other, workers=1),
        "nginx ×1": lambda: peers.start_nginx(origin.port, cores, place, workers=1),
        "nginx ×2": lambda: peers.start_nginx(origin.port, cores, place, workers=2),
    }


def _arranged(started: dict[str, Server], both: list[int]) -> dict[str, Arranged]:
    here, there = both
    arranged: dict[str, Arranged] = {}
    for system in ("gateway", "nginx"):
        one, two, other = (started.get(f"{system} {which}") for which in ("×1", "×2", "+1"))
        if one is None or two is None:
            continue
        arranged[f"{system} ×1"] = Arranged([one], 1, [here], [here], Series())
        arranged[f"{system} ×2"] = Arranged([two], 2, both, both, Series())
        arranged[f"{system} ×1 crowded"] = Arranged([one], 1, [here], [there], Series())
        arranged[f"{system} ×2 crowded"] = Arranged([two], 2, [here, here], [there, there], Series())
        if other is not None:
            pair = [one, other]
            arranged[f"{system} 1 + 1"] = Arranged(pair, 1, both, both, Series())
            arranged[f"{system} 1 + 1 crowded"] = Arranged(pair, 1, [here, here], [there, there], Series())
    return arranged


def _warm(started: dict[str, Server], keys: Sequence[str]) -> None:
    """Of two workers each sees a key every other time, so theirs are read twice as often."""
    for name, server in started.items():
        for _ in range(2 if "×2" in name else 1):
            Meter(server, 2 * CONNECTIONS).warm(keys)


def _judged(arranged: dict[str, Arranged], label: str) -> list[Figure]:
    def figure(what: str, over: str, under: str, reach: float | None = None) -> Figure:
        two, one = arranged.get(over), arranged.get(under)
        measured = ratio(two.series.cpu_us, one.series.cpu_us) if two and one else None
        return Figure(f"{what}, {label}: CPU", measured, reach)

    return [
        figure("two workers / one, as busy a machine", "gateway ×2", "gateway 1 + 1", 1.1),
        figure("two workers / one alone", "gateway ×2", "gateway ×1"),
        figure("nginx: two workers / one alone", "nginx ×2", "nginx ×1"),
        figure("two workers crowded / one alone", "gateway ×2 crowded", "gateway ×1 crowded"),
        figure("1 + 1 crowded / one alone", "gateway 1 + 1 crowded", "gateway ×1 crowded"),
        figure("nginx: two workers crowded / one alone", "nginx ×2 crowded", "nginx ×1 crowded"),
    ]


SCENARIOS: dict[str, Callable[[Bench], Result]] = {"workers_2": workers_2}

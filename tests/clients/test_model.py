"""Random operations through a whole node: two clients with identities of their own, in turn, under every kind of rule.
Whatever one of them wrote, the other one reads it at once, and no read finds what was there before."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config.schema import OriginConfig
from tests import stores, targets
from tests.gateway_process import identity, on, secret_of
from tests.origins.test_model import SEED, SEQUENCES, Place, in_loop, loop, run_sequences

__all__ = ["loop"]  # the fixture

RULES = {"data": "immutable", "strict": "strict", "brief": "60s"}


class InTurn:
    """Each call goes out by the next of the clients."""

    def __init__(self, *clients: Any) -> None:
        self.clients = clients
        self.turns = itertools.cycle(clients)
        self.capabilities = clients[0].capabilities

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self.turns), name)


@pytest.fixture
def node(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Iterator[InTurn]:
    rules = [{"match": f"{bucket}/**", "consistency": kept} for bucket, kept in RULES.items()]
    who = [identity(name, [on(*RULES)]) for name in ("trainer", "keeper")]
    origin = targets.file_origin(tmp_path / "origin")
    with targets.gateway_over(tmp_path, origin, rules=rules, identities=who) as gateway:
        keys = {"type": "s3", "endpoint": gateway.endpoint, "deadline": 10, "flavour": "auto"}
        clients = [
            in_loop(
                loop,
                OriginConfig(name=name, access_key=f"AK{name.upper()}", secret_key=secret_of(name), **keys),
            )
            for name in ("trainer", "keeper")
        ]
        yield InTurn(*clients)
        for client in clients:
            loop.run_until_complete(client.close())


@pytest.mark.timeout(0 if SEQUENCES > 20 else 120)
@pytest.mark.parametrize("bucket", RULES)
def test_reads_through_a_node_are_always_current(
    bucket: str, node: InTurn, loop: asyncio.AbstractEventLoop
) -> None:
    print(f"MODEL_SEED={SEED}")
    faithful = stores.through_gateway(stores.DIRECTORY)
    place = Place(loop, node, lambda name: None, faithful, 5 << 20)  # type: ignore[arg-type]
    place.clean = bucket
    run_sequences(place, max(3, SEQUENCES // 4))
    print(f"{place.begun} sequences, {sum(place.outcomes.counts.values())} calls\n{place.outcomes}")

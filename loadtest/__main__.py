"""`python -m loadtest [scenario …] [--quick] [--out DIR]`: see README.md beside this file."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from loadtest import netns, report
from loadtest.bench import SYSTEMS, Bench
from loadtest.client import LoadError
from loadtest.procs import Cores, StartError
from loadtest.results import Result
from loadtest.scenarios import ALL

ROOT = Path(__file__).parent.parent


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest", description="Measures the gateway beside its peers.")
    parser.add_argument("scenario", nargs="*", help=f"of: {' '.join(ALL)}; none: all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller sets")
    parser.add_argument("--out", type=Path, help="where results.json and results.png go")
    parser.add_argument(
        "--work", type=Path, help="where caches lie during the run (default: the temporary directory)"
    )
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of: {','.join(SYSTEMS)}")
    parser.add_argument("--host-network", action="store_true", help="do not move into a network namespace")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.scenario if name not in ALL]
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}")
    return given


def run(name: str, bench: Bench) -> Result:
    """A scenario's result; one that fails says so in it and does not end the run."""
    began = time.monotonic()
    try:
        result = ALL[name](bench)
    except (LoadError, StartError, OSError) as error:
        result = Result(name, name, notes=[f"FAILED: {type(error).__name__}: {error}"])
    result.seconds = time.monotonic() - began
    return result


def main(arguments: list[str]) -> int:
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.chdir(ROOT)
    os.environ |= {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    console = Console(width=None if sys.stdout.isatty() else 150)
    out: Path = (given.out or ROOT / "loadtest/results" / time.strftime("%Y%m%d-%H%M%S")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    if given.host_network or not netns.enter():
        console.print(f"host network, congestion control {netns.congestion_control()}")
    about = report.machine()
    cores = Cores.split()
    os.sched_setaffinity(0, cores.load)
    work = Path(tempfile.mkdtemp(prefix="loadtest-", dir=given.work))
    work.chmod(0o755)
    bench = Bench(work, cores, given.quick, tuple(given.systems.split(",")))
    console.print(f"server on core {sorted(cores.server)}, load on {sorted(cores.load)}; results in {out}")
    results: list[Result] = []
    try:
        for name in given.scenario or ALL:
            results.append(run(name, bench))
            report.print_result(console, results[-1])
            report.write_json(out / "results.json", results, about)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report.print_figures(console, [figure for result in results for figure in result.figures])
    _draw(out, console)
    return 1 if any(note.startswith("FAILED") for result in results for note in result.notes) else 0


def _draw(out: Path, console: Console) -> None:
    try:
        from loadtest.plot import draw
    except ImportError as error:
        console.print(f"no plot: {error}")
        return
    draw(*report.read_json(out / "results.json"), out / "results.png")
    console.print(f"{out}/results.json, {out}/results.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

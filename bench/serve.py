"""Drydock's server beside its peers: one model, one worker, one core, one machine, one run: `make bench-server`.

Each gets an environment of its own from its lock, under ~/.cache/drydock. The servers run on core 0; the load comes
from wrk on core 1, which keeps its connections and sends the next request when the last one is answered. The servers
take turns, round after round, so that a machine that slows down slows all of them. What cannot be installed or does
not answer is in the results with its reason, and without a number.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import picture
from bench.contenders import ROOT, ROW, Contender, Place, Unavailable, all_of_them, checked, free_port, variables

RESULTS = ROOT / "bench" / "serve.json"
PAGE = ROOT / "docs" / "benchmarks.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drydock"
CLIENTS = (1, 32)
WARM_UP_SECONDS = 1
START_SECONDS = 60
# wrk sends what this says, and says in the end what it counted, in microseconds.
SCRIPT = """
wrk.method = "POST"
wrk.body = [==[%s]==]
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n{"requests": %%d, "microseconds": %%d, "p50": %%d, "p99": %%d, "errors": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True)
class Measurement:
    """One server in one round; a load has its rate a second, its latencies in ms, and how busy wrk's core was."""

    start_seconds: float
    rss_bytes: int
    pss_bytes: int
    processes: int
    loads: dict[int, dict[str, float]]


# --- environments ---------------------------------------------------------------------------------------------------


def environment(lock: Path, version: str) -> Path:
    """The interpreter of an environment with exactly the lock's packages; made once. Raises Unavailable."""
    key = hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()[:12]
    place = CACHE / f"bench-{lock.stem}-{key}"
    python, complete = place / "bin" / "python", place / "complete"
    if not complete.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        checked([uv, "venv", "--quiet", "--clear", "--python", version, str(place)], ROOT)
        install = ("pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "--python", str(python))
        checked([uv, *install, "-r", str(lock)], ROOT)
        complete.touch()
    return python


def site_packages_bytes(python: Path) -> int:
    """What the lock's packages weigh, without the bytecode that Python makes of them."""
    (folder,) = (python.parents[1] / "lib").glob("python3.*/site-packages")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def trained(python: Path, folder: Path) -> list[float]:
    """Train the model that this repository ships, and convert it; what it answered to ROW."""
    checked([str(python), "-m", "export.compile_forest"], ROOT)
    checked([str(python), "-m", "training.iris", "--out", str(folder / "trained")], ROOT)
    checked([str(python), "-m", "export", "compiled", str(folder / "trained"), str(folder / "compiled")], ROOT)
    golden = json.loads((folder / "trained" / "model.json").read_text())["golden"]
    (expected,) = [list(row["probabilities"].values()) for row in golden if row["features"] == ROW]
    return expected


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(contender: Contender, place: Place, seconds: float, expected: list[float]) -> Measurement:
    """Start a server, wait for its first answer, load it, and stop it. Raises Unavailable."""
    began = time.perf_counter()
    with running(contender, place) as process:
        answer = first_answer(contender, place, process)
        start_seconds = time.perf_counter() - began
        if contender.probabilities:
            got = contender.probabilities(answer)
            if any(abs(one - other) > 1e-6 for one, other in zip(got, expected, strict=True)):
                raise Unavailable(f"it answers {got} and not {expected}")
        loads = {}
        for clients in CLIENTS:
            load(contender, place, clients, WARM_UP_SECONDS)
            loads[clients] = load(contender, place, clients, seconds)
        server = psutil.Process(process.pid)
        memory = [each.memory_full_info() for each in [server, *server.children(recursive=True)]]
    rss, pss = sum(each.rss for each in memory), sum(getattr(each, "pss", each.rss) for each in memory)
    return Measurement(start_seconds, rss, pss, len(memory), loads)


@contextmanager
def running(contender: Contender, place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, which is gone in the end with all that it started."""
    with (place.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            pinned(0, contender.command(place)),
            cwd=place.folder,
            env=variables(contender, place),
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        children = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def first_answer(contender: Contender, place: Place, process: subprocess.Popen[bytes]) -> object:
    """Ask until a server answers 200. Raises Unavailable."""
    body, deadline = json.dumps(contender.body), time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=START_SECONDS)
            connection.request("POST", contender.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            connection.close()
            if response.status == http.client.OK:
                answer: object = json.loads(content)
                return answer
        time.sleep(0.002)
    said = (place.folder / "log").read_text(errors="replace").strip().splitlines()
    raise Unavailable(f"it did not answer within {START_SECONDS} s: {' '.join(said[-3:])}")


def load(contender: Contender, place: Place, clients: int, seconds: float) -> dict[str, float]:
    """Let so many clients ask for so long. Raises Unavailable where none of them hears anything."""
    script = place.folder / "script.lua"
    script.write_text(SCRIPT % json.dumps(contender.body))
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds:g}s"]
    url = f"http://127.0.0.1:{place.port}{contender.path}"
    before, began = children_seconds(), time.perf_counter()
    done = subprocess.run(
        pinned(1, [*command, "--timeout", "30s", "--script", str(script), url]),
        capture_output=True,
        text=True,
        check=True,
    )
    busy = (children_seconds() - before) / (time.perf_counter() - began)
    counted = json.loads(done.stdout.splitlines()[-1])
    if not counted["requests"]:
        raise Unavailable(f"it answered nothing to {clients} clients within {seconds:g} s")
    return {
        "requests_per_second": counted["requests"] / counted["microseconds"] * 1e6,
        "p50_ms": counted["p50"] / 1000,
        "p99_ms": counted["p99"] / 1000,
        "errors": counted["errors"],
        "generator_busy": busy,
    }


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on one core, where this system has a way to say so."""
    return ["taskset", "--cpu-list", str(core), *command] if shutil.which("taskset") else command


def children_seconds() -> float:
    """The processor time of all that has ended: a server that still runs is not in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- results --------------------------------------------------------------------------------------------------------


def run(chosen: list[Contender], round_count: int, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """All rounds, as one value for serve.json."""
    about = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    rounds: dict[str, list[Measurement]] = {each.name: [] for each in chosen}
    packages: dict[str, int] = {}
    unavailable: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        models, places = Path(name), dict[str, Place]()
        tell("training")
        expected = trained(environment(ROOT / "requirements" / "image-sklearn.txt", "3.13"), models)
        for each in chosen:
            tell(f"{each.name}: its environment")
            try:
                python = environment(each.lock, each.python)
                # Who predicts nothing would not need most of what is in its environment.
                packages[each.name] = site_packages_bytes(python) if each.probabilities else 0
                place = Place(python, models, models / each.name, free_port())
                place.folder.mkdir()
                each.prepare(place)
                places[each.name] = place
            except Unavailable as error:
                unavailable[each.name] = str(error)
        for number in range(round_count):
            for each in chosen:
                if each.name not in unavailable:
                    tell(f"round {number + 1} of {round_count}: {each.name}")
                    try:
                        rounds[each.name].append(measure(each, places[each.name], seconds, expected))
                    except Unavailable as error:
                        unavailable[each.name] = str(error)
    how = {"rounds": round_count, "seconds": seconds, "server_core": 0, "generator_core": 1, "workers": 1, "row": ROW}
    servers = [
        {"name": each.name, "is_peer": each.is_peer, "unavailable": unavailable[each.name]}
        if each.name in unavailable
        else summary(each, packages[each.name], rounds[each.name])
        for each in chosen
    ]
    return {**about, "how": how, "servers": servers}


def summary(contender: Contender, site_packages: int, rounds: list[Measurement]) -> dict[str, Any]:
    """Medians over the rounds, each with the smallest and the largest."""

    def spread(values: list[float], digits: int) -> dict[str, float]:
        figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        return {name: round(value, digits) for name, value in figures.items()}

    return {
        "name": contender.name,
        "is_peer": contender.is_peer,
        "python": contender.python,
        "processes": max(each.processes for each in rounds),
        "clients": {
            str(clients): {
                name: spread([each.loads[clients][name] for each in rounds], 2)
                for name in ("requests_per_second", "p50_ms", "p99_ms", "errors", "generator_busy")
            }
            for clients in CLIENTS
        },
        "start_seconds": spread([each.start_seconds for each in rounds], 3),
        "rss_mb": spread([each.rss_bytes / 1e6 for each in rounds], 1),
        "pss_mb": spread([each.pss_bytes / 1e6 for each in rounds], 1),
        "site_packages_mb": round(site_packages / 1e6, 1),
    }


def machine() -> dict[str, Any]:
    """What this was measured on."""
    model = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    version = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load_before": [round(each, 2) for each in os.getloadavg()],
        "generator": version.partition(" [")[0],
    }


COLUMNS = (
    *("server", "requests/s, 1 client", "32 clients", "times the fastest peer"),
    *("p50, p99 in ms, 1 client", "32 clients", "start, s", "RSS, MB", "packages, MB"),
)


def table(results: dict[str, Any]) -> list[list[str]]:
    """The results as rows of words, each median with its range, and each rate with its ratio to the fastest peer's."""
    fastest = picture.fastest_peer(results)
    return [_row(each, fastest) for each in results["servers"]]


def _row(server: dict[str, Any], fastest: float) -> list[str]:
    if "unavailable" in server:
        return [server["name"], f"not measured: {server['unavailable']}", *[""] * (len(COLUMNS) - 2)]
    loads = [server["clients"][str(clients)] for clients in CLIENTS]
    rates = [load["requests_per_second"] for load in loads]
    return [
        server["name"],
        *(f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})" for rate in rates),
        f"{rates[-1]['median'] / fastest:.1f}" if fastest else "",
        *(f"{load['p50_ms']['median']:,.2f}, {load['p99_ms']['median']:,.2f}" for load in loads),
        f"{server['start_seconds']['median']:.2f}",
        f"{server['rss_mb']['median']:.0f}",
        f"{server['site_packages_mb']:.0f}" if server["site_packages_mb"] else "",
    ]


def markdown(results: dict[str, Any]) -> str:
    """The same as a table in Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *table(results)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def renewed(page: str, results: dict[str, Any]) -> str:
    """The page with the table of these results in place of the old one."""
    before, head, rest = page.partition(f"| {' | '.join(COLUMNS)} |")
    _, _, after = rest.partition("\n\n")
    return f"{before}{markdown(results)}\n{after}" if head else page


def main() -> None:
    """Measure, write the results, the picture and the table in the docs, and print the same table."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how many rounds; medians are shown")
    parser.add_argument("--seconds", type=float, default=4, metavar="S", help="how long each load lasts")
    parser.add_argument("--only", default="", metavar="TEXT", help="those with this in their names; writes nothing")
    told = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("bench      there is no wrk here, which makes the load: apt-get install wrk, or brew install wrk")
    # This process waits beside the generator, and away from the servers.
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    chosen = [each for each in all_of_them() if told.only.lower() in each.name.lower()]
    console = Console()
    try:
        with console.status("") as status:
            results = run(chosen, told.rounds, told.seconds, status.update)
    except Unavailable as error:
        sys.exit(f"bench      no model: {error}\n→ it takes Python 3.13 on PATH, and MLServer takes 3.12")
    if not told.only:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        picture.PATH.write_text(picture.drawn(results), encoding="utf-8")
        PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    drawn = Table(*COLUMNS, box=None)
    for row in table(results):
        drawn.add_row(*row)
    console.print(drawn, width=160, crop=False)


if __name__ == "__main__":
    main()

"""Drydock's server beside its peers: one model, one worker, one core, one machine, one run: `make bench-server`.

Each server has its own environment, made from its lock under ~/.cache/drydock. It runs on core 0. wrk makes the load on
core 1: it keeps its connections, and sends the next request after the last answer. The servers take turns, so a machine
that slows down slows all of them. The
results have the reason if a server cannot be installed or does not answer.
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

from bench import chart
from bench.servers import (
    ROOT,
    ROW,
    Server,
    Unavailable,
    Workspace,
    free_port,
    list_servers,
    run_checked,
    server_environment,
)

RESULTS = ROOT / "bench" / "serve.json"
PAGE = ROOT / "docs" / "benchmarks.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drydock"
CLIENTS = (1, 32)
WARM_UP_SECONDS = 1
START_SECONDS = 60
# wrk sends this body, and prints its counts at the end, in microseconds.
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
    """One server in one round; a load has requests per second, latencies in ms, and the use of wrk's core."""

    start_seconds: float
    rss_bytes: int
    pss_bytes: int
    processes: int
    loads: dict[int, dict[str, float]]


# --- environments ---------------------------------------------------------------------------------------------------


def create_environment(lock: Path, version: str) -> Path:
    """Create an environment with the packages of the lock once; return its interpreter. Raises Unavailable."""
    key = hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()[:12]
    folder = CACHE / f"bench-{lock.stem}-{key}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        run_checked([uv, "venv", "--quiet", "--clear", "--python", version, str(folder)], ROOT)
        install = ("pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "--python", str(python))
        run_checked([uv, *install, "-r", str(lock)], ROOT)
        complete.touch()
    return python


def site_packages_bytes(python: Path) -> int:
    """The size of the installed packages, without bytecode."""
    (folder,) = (python.parents[1] / "lib").glob("python3.*/site-packages")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def train_models(python: Path, folder: Path) -> list[float]:
    """Train the iris model and convert it; return its probabilities for ROW."""
    run_checked([str(python), "-m", "export.compile_forest"], ROOT)
    run_checked([str(python), "-m", "training.iris", "--out", str(folder / "trained")], ROOT)
    run_checked([str(python), "-m", "export", "compiled", str(folder / "trained"), str(folder / "compiled")], ROOT)
    golden = json.loads((folder / "trained" / "model.json").read_text())["golden"]
    (expected,) = [list(row["probabilities"].values()) for row in golden if row["features"] == ROW]
    return expected


# --- measuring ------------------------------------------------------------------------------------------------------


def measure(server: Server, workspace: Workspace, seconds: float, expected: list[float]) -> Measurement:
    """Start a server, wait for its first answer, measure it under load, and stop it. Raises Unavailable."""
    began = time.perf_counter()
    with run_server(server, workspace) as process:
        answer = wait_for_answer(server, workspace, process)
        start_seconds = time.perf_counter() - began
        if server.probabilities:
            got = server.probabilities(answer)
            if any(abs(one - other) > 1e-6 for one, other in zip(got, expected, strict=True)):
                raise Unavailable(f"it answers {got} and not {expected}")
        loads = {}
        for clients in CLIENTS:
            measure_load(server, workspace, clients, WARM_UP_SECONDS)
            loads[clients] = measure_load(server, workspace, clients, seconds)
        parent = psutil.Process(process.pid)
        memory = [each.memory_full_info() for each in [parent, *parent.children(recursive=True)]]
    rss, pss = sum(each.rss for each in memory), sum(getattr(each, "pss", each.rss) for each in memory)
    return Measurement(start_seconds, rss, pss, len(memory), loads)


@contextmanager
def run_server(server: Server, workspace: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server's process; at the end stop it and all that it started."""
    with (workspace.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            pin_to_core(0, server.command(workspace)),
            cwd=workspace.folder,
            env=server_environment(server, workspace),
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


def wait_for_answer(server: Server, workspace: Workspace, process: subprocess.Popen[bytes]) -> object:
    """Send a request until the server answers 200; return the answer. Raises Unavailable."""
    body, deadline = json.dumps(server.body), time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", workspace.port, timeout=START_SECONDS)
            connection.request("POST", server.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            connection.close()
            if response.status == http.client.OK:
                answer: object = json.loads(content)
                return answer
        time.sleep(0.002)
    log_lines = (workspace.folder / "log").read_text(errors="replace").strip().splitlines()
    raise Unavailable(f"it did not answer within {START_SECONDS} s: {' '.join(log_lines[-3:])}")


def measure_load(server: Server, workspace: Workspace, clients: int, seconds: float) -> dict[str, float]:
    """Measure so many clients for so many seconds. Raises Unavailable if none of them gets an answer."""
    script = workspace.folder / "script.lua"
    script.write_text(SCRIPT % json.dumps(server.body))
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds:g}s"]
    url = f"http://127.0.0.1:{workspace.port}{server.path}"
    before, began = children_seconds(), time.perf_counter()
    done = subprocess.run(
        pin_to_core(1, [*command, "--timeout", "30s", "--script", str(script), url]),
        capture_output=True,
        text=True,
        check=True,
    )
    busy = (children_seconds() - before) / (time.perf_counter() - began)
    counts = json.loads(done.stdout.splitlines()[-1])
    if not counts["requests"]:
        raise Unavailable(f"it answered nothing to {clients} clients within {seconds:g} s")
    return {
        "requests_per_second": counts["requests"] / counts["microseconds"] * 1e6,
        "p50_ms": counts["p50"] / 1000,
        "p99_ms": counts["p99"] / 1000,
        "errors": counts["errors"],
        "generator_busy": busy,
    }


def pin_to_core(core: int, command: list[str]) -> list[str]:
    """The command on one core, if this system has taskset."""
    return ["taskset", "--cpu-list", str(core), *command] if shutil.which("taskset") else command


def children_seconds() -> float:
    """The processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- results --------------------------------------------------------------------------------------------------------


def run_rounds(
    chosen: list[Server], round_count: int, seconds: float, show_progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measure all servers in each round; return the content of serve.json."""
    about = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": describe_machine()}
    rounds: dict[str, list[Measurement]] = {each.name: [] for each in chosen}
    packages: dict[str, int] = {}
    unavailable: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        models, workspaces = Path(name), dict[str, Workspace]()
        show_progress("training")
        expected = train_models(create_environment(ROOT / "requirements" / "image-sklearn.txt", "3.13"), models)
        for each in chosen:
            show_progress(f"{each.name}: its environment")
            try:
                python = create_environment(each.lock, each.python)
                # A server that predicts nothing does not need most packages of its environment.
                packages[each.name] = site_packages_bytes(python) if each.probabilities else 0
                workspace = Workspace(python, models, models / each.name, free_port())
                workspace.folder.mkdir()
                each.prepare(workspace)
                workspaces[each.name] = workspace
            except Unavailable as error:
                unavailable[each.name] = str(error)
        for number in range(round_count):
            for each in chosen:
                if each.name not in unavailable:
                    show_progress(f"round {number + 1} of {round_count}: {each.name}")
                    try:
                        rounds[each.name].append(measure(each, workspaces[each.name], seconds, expected))
                    except Unavailable as error:
                        unavailable[each.name] = str(error)
    how = {"rounds": round_count, "seconds": seconds, "server_core": 0, "generator_core": 1, "workers": 1, "row": ROW}
    servers = [
        {"name": each.name, "is_peer": each.is_peer, "unavailable": unavailable[each.name]}
        if each.name in unavailable
        else summarize(each, packages[each.name], rounds[each.name])
        for each in chosen
    ]
    return {**about, "how": how, "servers": servers}


def summarize(server: Server, site_packages: int, rounds: list[Measurement]) -> dict[str, Any]:
    """The median, minimum and maximum of each number over the rounds."""

    def spread(values: list[float], digits: int) -> dict[str, float]:
        figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        return {name: round(value, digits) for name, value in figures.items()}

    return {
        "name": server.name,
        "is_peer": server.is_peer,
        "python": server.python,
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


def describe_machine() -> dict[str, Any]:
    """The machine of this measurement."""
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


def table_rows(results: dict[str, Any]) -> list[list[str]]:
    """The rows of the table: each median with its range, and the ratio of each rate to the fastest peer's."""
    fastest = chart.fastest_peer_rate(results)
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


def render_markdown(results: dict[str, Any]) -> str:
    """The table in Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *table_rows(results)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def replace_table(page: str, results: dict[str, Any]) -> str:
    """The page with the table of these results instead of the old one."""
    before, head, rest = page.partition(f"| {' | '.join(COLUMNS)} |")
    _, _, after = rest.partition("\n\n")
    return f"{before}{render_markdown(results)}\n{after}" if head else page


def main() -> None:
    """Measure, write the results, the picture and the table in the docs, and print the same table."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how many rounds; medians are shown")
    parser.add_argument("--seconds", type=float, default=4, metavar="S", help="how long each load lasts")
    parser.add_argument("--only", default="", metavar="TEXT", help="those with this in their names; writes nothing")
    args = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("bench      wrk is not installed; it makes the load: apt-get install wrk, or brew install wrk")
    # This process shares the core of wrk, not that of the servers.
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    chosen = [each for each in list_servers() if args.only.lower() in each.name.lower()]
    console = Console()
    try:
        with console.status("") as status:
            results = run_rounds(chosen, args.rounds, args.seconds, status.update)
    except Unavailable as error:
        sys.exit(f"bench      no model: {error}\n→ install Python 3.13, and 3.12 for MLServer")
    if not args.only:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        chart.PATH.write_text(chart.draw_chart(results), encoding="utf-8")
        PAGE.write_text(replace_table(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    console_table = Table(*COLUMNS, box=None)
    for row in table_rows(results):
        console_table.add_row(*row)
    console.print(console_table, width=160, crop=False)


if __name__ == "__main__":
    main()

"""Measure what orchestration costs: plain Python, `dvc repro` and the flow, on trivial stages.

Each stage reads a file and writes one, in layers of ten siblings. Cold: nothing ran before. No-op:
nothing changed. Then a single stage changed. Figures are seconds of wall time and, in brackets, of
processor time, which a busy machine changes less (that of a server which runs already is not in
it). The flow runs as `auglift run` does, with a temporary server, and as a worker runs it, on a
server that runs already.

    python -m benchmarks.orchestration --stages 10 50 200 --workers 2
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from flows.prefect_server import SERVER_CODE, find_free_port, wait_until_healthy

ROOT = Path(__file__).parents[1]
WIDTH = 10  # stages of a layer
STAGE = """
import pathlib, sys
number, before = int(sys.argv[1]), sys.argv[2]
out = pathlib.Path(f"out/{number}.txt")
out.parent.mkdir(exist_ok=True)
out.write_text(pathlib.Path(before).read_text() + str(number))
"""
FLOW = "from flows.pipeline import pipeline; pipeline({workers})"


def make_repo(root: Path, count: int) -> Path:
    """Write a clone with a DAG of `count` trivial stages."""
    stages = {}
    for number in range(count):
        before = input_of(number)
        stages[f"work{number}"] = {
            "cmd": f"exec python stage.py {number} {before}",
            "deps": ["stage.py", before, f"in/{number}.txt"],
            "outs": [f"out/{number}.txt"],
        }
    files = {"dvc.yaml": yaml.safe_dump({"stages": stages}), "stage.py": STAGE, "first.txt": "0"}
    files |= {f"in/{number}.txt": "0" for number in range(count)}
    files |= {"data/raw/dvc.yaml": "stages: {}", "data/raw/phantom/x": ""}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    for name in (".gitignore", ".dvcignore", "params.yaml", ".dvc/config", ".dvc/.gitignore"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def input_of(number: int) -> str:
    """Return the file that a stage reads: the output of its sibling in the layer before."""
    return "first.txt" if number < WIDTH else f"out/{number - WIDTH}.txt"


def run_plain(root: Path, count: int) -> None:
    """Do the work of all stages in this process."""
    (root / "out").mkdir(exist_ok=True)
    for number in range(count):
        text = (root / input_of(number)).read_text()
        (root / "out" / f"{number}.txt").write_text(text + str(number))


def run(root: Path, *words: str, **environment: str) -> None:
    """Run Python with some words in the clone.

    Raises:
        SystemExit: with what it printed, when it fails.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def time_of(work: Callable[[], None]) -> str:
    """Return the wall time of some work, and the processor time of the processes it started."""
    started, before = time.monotonic(), os.times()
    work()
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return f"{time.monotonic() - started:.1f} ({used:.1f})"


def change_one(root: Path, count: int) -> None:
    """Change what the last stage reads, as one more batch changes one `ingest`."""
    (root / f"in/{count - 1}.txt").write_text(str(time.monotonic()))


def measure(name: str, root: Path, count: int, work: Callable[[], None]) -> None:
    """Print a row: the time cold, of a no-op, and after one change."""
    cold, nothing = time_of(work), time_of(work)
    change_one(root, count)
    print(f"| {count} | {name} | {cold} | {nothing} | {time_of(work)} |", flush=True)


@contextmanager
def running_server(home: Path) -> Iterator[str]:
    """Run a Prefect server with an empty database; yield its address."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}/api"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER_CODE.format(port=port)],
        env={**os.environ, "PREFECT_HOME": str(home), "PREFECT_UI_ENABLED": "0"},
        cwd=ROOT,
    )
    try:
        wait_until_healthy(server, url)
        yield url
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Measure and print a table of Markdown: wall time, and processor time in brackets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    workers = arguments.workers
    print("| stages | how | cold | no-op | one changed |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder, "home")) as url:
        for count in arguments.stages:
            places = [make_repo(Path(folder, f"{n}-{count}"), count) for n in "abcd"]
            plain, dvc, own, worker = places
            started = time.monotonic()
            run_plain(plain, count)
            took = time.monotonic() - started
            print(f"| {count} | plain Python | {took:.3f} | - | - |", flush=True)
            jobs: list[tuple[str, Path, list[str], dict[str, str]]] = [
                ("dvc repro", dvc, ["-m", "dvc", "repro", "-q"], {}),
                (
                    "auglift run, temporary server",
                    own,
                    ["-m", "flows.pipeline", "--workers", str(workers)],
                    {"PREFECT_HOME": str(own / ".prefect"), "PREFECT_API_URL": ""},
                ),
                (
                    "flow of a worker, running server",
                    worker,
                    ["-c", FLOW.format(workers=workers)],
                    {"PREFECT_HOME": str(worker / ".prefect"), "PREFECT_API_URL": url},
                ),
            ]
            for name, root, words, environment in jobs:

                def work(
                    root: Path = root,
                    words: list[str] = words,
                    environment: dict[str, str] = environment,
                ) -> None:
                    run(root, *words, **environment)

                measure(name, root, count, work)


if __name__ == "__main__":
    main()

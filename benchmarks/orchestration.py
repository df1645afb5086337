"""Measure what orchestration costs: plain Python, `dvc repro` and the flow, on trivial stages.

Each stage reads a file and writes one, in layers of ten siblings. Cold: nothing ran before. No-op:
nothing changed. Then a single stage changed. Figures are seconds of wall time and, in brackets, of
processor time, which a busy machine changes less (that of a server which runs already is not in
it). The flow runs as `auglift run` does, with a temporary server, and as a worker runs it, on a
server that runs already. The temporary servers share a database, which the first row makes.

    python -m benchmarks.orchestration --stages 10 50 200 --workers 2
    python -m benchmarks.orchestration --batches 100
    python -m benchmarks.orchestration --no-op CLONE

With `--batches`, the small pipeline of the flow's tests (an `ingest` of each batch, then `slices`
and seven stages after it, of .3 s each) and one batch more; with `--no-op`, a clone in which
everything is up to date, such as one after `make demo`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from flows.prefect_server import SERVER_CODE, find_free_port, wait_until_healthy
from tests.flows import toy_pipeline

ROOT = Path(__file__).parents[1]
WIDTH = 10  # stages of a layer
REJECTED = 3
STAGE = """
import pathlib, sys
number, before = int(sys.argv[1]), sys.argv[2]
out = pathlib.Path(f"out/{number}.txt")
out.parent.mkdir(exist_ok=True)
out.write_text(pathlib.Path(before).read_text() + str(number))
"""
FLOW = """
import sys
from flows.pipeline import pipeline
state = pipeline({workers}, return_state=True)
sys.exit(0 if state.is_completed() else {rejected} if state.name == "Rejected" else 1)
"""


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
    """Run Python with some words in the clone; a rejection by the gate is a result.

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
    if done.returncode not in (0, REJECTED):
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


def ways_to_run(root: Path, workers: int, url: str) -> dict[str, Callable[[Path], None]]:
    """Return the ways to run a clone that are compared, by their names.

    Args:
        root: A folder for what temporary servers keep.
        workers: Stages at once.
        url: The address of a server that runs.
    """
    return {
        "dvc repro": lambda clone: run(clone, "-m", "dvc", "repro", "-q"),
        "auglift run, temporary server": lambda clone: run(
            clone, "-m", "flows.pipeline", "--workers", str(workers),
            PREFECT_HOME=str(root / "home-temporary"), PREFECT_API_URL="",
        ),
        "flow of a worker, running server": lambda clone: run(
            clone, "-c", FLOW.format(workers=workers, rejected=REJECTED),
            PREFECT_HOME=str(root / "home-worker"), PREFECT_API_URL=url,
        ),
    }  # fmt: skip


def measure_batches(folder: Path, count: int, ways: dict[str, Callable[[Path], None]]) -> None:
    """Print what a run of many batches costs, one of nothing, and one after another batch came."""
    print("| batches | how | cold | no-op | one batch more | what ran then |\n|" + "---|" * 6)
    for number, (name, work) in enumerate(ways.items()):
        root = toy_pipeline.make_repo(folder / f"batches-{number}")
        names = [f"b{index:04d}" for index in range(count + 1)]
        for batch in names:
            (root / "data/raw" / batch).mkdir(parents=True)
            (root / "data/raw" / batch / "1.dcm").write_text(batch)
        toy_pipeline.change_section(root, "data", batches=names[:count])
        cold, nothing = (time_of(lambda root=root, work=work: work(root)) for _ in range(2))
        (root / "told/log").write_text("")
        toy_pipeline.change_section(root, "data", batches=names)
        more = time_of(lambda root=root, work=work: work(root))
        lines = [line.split() for line in (root / "told/log").read_text().splitlines()]
        ran = Counter(words[0] for words in lines if words[1] == "start")
        shown = ", ".join(f"{times} {stage}" for stage, times in ran.items())
        print(f"| {count} | {name} | {cold} | {nothing} | {more} | {shown} |", flush=True)


def measure_no_op(clone: Path, ways: dict[str, Callable[[Path], None]]) -> None:
    """Print what a run costs in a clone in which nothing changed: the better of two."""
    print("| how | no-op |\n|---|---|")
    for name, work in ways.items():
        times = [time_of(lambda work=work: work(clone)) for _ in range(2)]
        print(f"| {name} | {min(times, key=lambda text: float(text.split()[0]))} |", flush=True)


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
    parser.add_argument("--batches", type=int, help="measure one batch beside so many instead")
    parser.add_argument("--no-op", type=Path, metavar="CLONE", help="measure that clone instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_server(Path(name, "home")) as url:
        ways = ways_to_run(Path(name), arguments.workers, url)
        if arguments.batches:
            measure_batches(Path(name), arguments.batches, ways)
        elif arguments.no_op:
            measure_no_op(arguments.no_op, ways)
        else:
            measure_stages(Path(name), arguments.stages, ways)


def measure_stages(
    folder: Path, counts: list[int], ways: dict[str, Callable[[Path], None]]
) -> None:
    """Print what runs of so many trivial stages cost."""
    print("| stages | how | cold | no-op | one changed |\n|---|---|---|---|---|", flush=True)
    for count in counts:
        plain = make_repo(folder / f"plain-{count}", count)
        started = time.monotonic()
        run_plain(plain, count)
        took = time.monotonic() - started
        print(f"| {count} | plain Python | {took:.3f} | - | - |", flush=True)
        for number, (name, work) in enumerate(ways.items()):
            root = make_repo(folder / f"{number}-{count}", count)
            measure(name, root, count, lambda root=root, work=work: work(root))


if __name__ == "__main__":
    main()

"""Libraries of others at work in a process of their own, which is told in one line of JSON and reports in more."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from sciml.errors import SolveError
from sciml.problem import Problem
from sciml.registry import find

Report = Callable[[Mapping[str, Any]], None]


def reports(
    name: str, child: Path, order: Mapping[str, Any], environment: Mapping[str, str], folder: Path
) -> Iterator[dict[str, Any]]:
    """Run a script in a process and yield its reports.

    Args:
        name: of the peer, for messages.
        child: the script; it calls `answer`.
        order: what it is told.
        environment: of the process.
        folder: where what it says on standard error is kept.

    Raises:
        SolveError: it failed; the message is the last line of its standard error.
    """
    if Path(sys.argv[0]).resolve() == child:
        raise SolveError(f"{name} was started by its own process; guard the script by __name__ == '__main__'")
    errors = folder / "stderr"
    with errors.open("w") as stream, _running(child, environment, stream) as process:
        assert process.stdin
        assert process.stdout
        with process.stdin as stdin:
            stdin.write(json.dumps(order) + "\n")
        for line in process.stdout:
            yield json.loads(line)
        code = process.wait()
    if code:
        said = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
        raise SolveError(f"{name}: {said[-1].strip() if said else f'its process ended with code {code}'}")


def answer(work: Callable[[Mapping[str, Any], Report], None]) -> None:
    """Work, in that process, as one line of JSON on standard input asks; report in lines of JSON on standard output."""
    import torch

    lines, sys.stdout = sys.stdout, sys.stderr  # peers print
    order = json.loads(sys.stdin.readline())
    torch.set_num_threads(order["threads"])
    work(order, lambda report: print(json.dumps(report), file=lines, flush=True))


def environment(folder: str, accelerator: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a peer writes nothing at home, asks nothing and opens no window.

    Args:
        folder: where it may write.
        accelerator: of the training; without one for a CPU no GPU is seen.
        variables: those of the peer itself.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMPI_")}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    kept |= {"PYTHONPATH": path, "MPLBACKEND": "Agg", "XDG_CACHE_HOME": folder, **variables}
    return kept | ({"CUDA_VISIBLE_DEVICES": ""} if accelerator == "cpu" else {})


def unreachable(problem: Problem) -> str | None:
    """Return why another process cannot make a problem again, or None."""
    made = type(problem)
    if getattr(sys.modules[made.__module__], "__file__", None) is None or "." in made.__qualname__:
        return "another process must find its class; put it at the top level of a file"
    try:
        json.dumps(dict(problem.settings))
    except TypeError as error:
        return f"another process must be told its parameters: {error}"
    return None


def described(problem: Problem) -> dict[str, Any]:
    """Return what `remake` makes a problem from."""
    made = type(problem)
    return {
        "module": made.__module__,
        "class": made.__qualname__,
        "file": str(Path(sys.modules[made.__module__].__file__ or "").resolve()),
        "settings": dict(problem.settings),
    }


def remake(given: Mapping[str, Any]) -> Any:
    """Make a problem again from its class, found by module or else by file, and its settings."""
    try:
        made = getattr(import_module(given["module"]), given["class"])
    except (ModuleNotFoundError, AttributeError):
        made = find("problem", f"{given['file']}:{given['class']}").load()
    return made(**given["settings"])


@contextmanager
def _running(child: Path, environment: Mapping[str, str], errors: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", str(child)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()

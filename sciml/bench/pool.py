"""Run commands side by side, each in its own process group, within limits of time and memory."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_POLL = 0.05
_PATIENCE = 5.0


@dataclass(frozen=True)
class Limits:
    """What a command may use.

    Args:
        seconds: wall-clock seconds of one attempt.
        memory: bytes resident in all of its processes together; None leaves it to the operating system.
        attempts: how often a command that a signal killed is started in all.
    """

    seconds: float = 3600.0
    memory: float | None = None
    attempts: int = 2


@dataclass(frozen=True)
class Command:
    """A command to run.

    Args:
        name: by which its caller knows it.
        arguments: program and arguments.
        log: where its output goes; each attempt starts it anew.
        prepare: called before each attempt.
    """

    name: str
    arguments: Sequence[str]
    log: Path
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Outcome:
    """How a command ended: ``failure`` is None after exit code 0, else one line."""

    failure: str | None
    code: int | None
    seconds: float
    attempts: int


@dataclass
class _Worker:
    command: Command
    attempt: int
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)


def run(
    commands: Sequence[Command],
    jobs: int,
    limits: Limits,
    environment: Mapping[str, str],
    finished: Callable[[Command, Outcome], None],
    started: Callable[[Command], None] = lambda _: None,
    inherit: Sequence[int] = (),
) -> None:
    """Run all commands, ``jobs`` at a time; whatever ends this function ends the commands still running.

    Args:
        commands: what to run, in order.
        jobs: how many at once.
        limits: what each may use.
        environment: variables added to this process's own.
        finished: told of every command that ended.
        started: told of every attempt that starts.
        inherit: file descriptors that the commands keep open.
    """
    pending = [(c, 1) for c in reversed(commands)]
    running: list[_Worker] = []
    try:
        while pending or running:
            while pending and len(running) < jobs:
                command, attempt = pending.pop()
                started(command)
                running.append(_start(command, attempt, environment, inherit))
            time.sleep(_POLL)
            families = _families([w.process.pid for w in running]) if limits.memory else {}
            for worker in list(running):
                outcome = _check(worker, limits, families.get(worker.process.pid, 0))
                if outcome is None:
                    continue
                running.remove(worker)
                if killed_by(outcome.code) and worker.attempt < limits.attempts:
                    pending.append((worker.command, worker.attempt + 1))
                else:
                    finished(worker.command, outcome)
    finally:
        for worker in running:
            _kill(worker.process)


def killed_by(code: int | None) -> str | None:
    """Return the signal that ended a process, which one that could still tidy up reports as 128 + signal."""
    number = 0 if code is None else -code if code < 0 else code - 128
    names = {int(s): s.name for s in signal.Signals}
    return names.get(number, f"signal {number}") if 0 < number < signal.NSIG else None


def memory_is_watched() -> bool:
    """Return whether this system tells how much memory other processes use."""
    return Path("/proc/self/stat").exists()


def available_memory() -> float | None:
    """Return the bytes that new processes may use, by the system and by the container; None where unknown."""
    amounts = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        amounts += [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text())
        amounts.append(float(int((group / "memory.max").read_text()) - used))
    return min(amounts, default=None)


def _start(command: Command, attempt: int, environment: Mapping[str, str], inherit: Sequence[int]) -> _Worker:
    command.prepare()
    with command.log.open("wb") as log:
        process = subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
            pass_fds=tuple(inherit),
        )
    # Out of memory, the system then picks a worker and not whoever waits for it.
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
    return _Worker(command, attempt, process)


def _check(worker: _Worker, limits: Limits, resident: int) -> Outcome | None:
    """Return how a worker ended, ending it where it passed a limit; None while it may go on."""
    seconds = time.monotonic() - worker.started
    code = worker.process.poll()
    if code is not None:
        _kill(worker.process)
        sent = killed_by(code)
        failure = f"killed by {sent}" if sent else f"exit code {code}" if code else None
        return Outcome(failure, code, seconds, worker.attempt)
    failure = None
    if seconds > limits.seconds:
        failure = f"time limit of {limits.seconds:g} s"
    elif limits.memory and resident > limits.memory:
        failure = f"memory limit of {limits.memory / 2**20:.0f} MiB"
    if failure is None:
        return None
    _kill(worker.process)
    return Outcome(failure, None, seconds, worker.attempt)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a worker's process group and every descendant that left the group, and wait until they are gone."""
    descendants = _tree(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in descendants:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + _PATIENCE
    while descendants & _processes().keys() and time.monotonic() < deadline:
        time.sleep(_POLL)


def _processes() -> dict[int, tuple[int, int, int]]:
    """Return ``{pid: (parent, group, resident bytes)}`` of every living process that this system shows."""
    found = {}
    page = os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            values = (folder / "stat").read_text().rpartition(")")[2].split()
            if values[0] != "Z":
                found[int(folder.name)] = (int(values[1]), int(values[2]), int(values[21]) * page)
    return found


def _members(leader: int, processes: Mapping[int, tuple[int, int, int]]) -> set[int]:
    members = {pid for pid, (_, group, _) in processes.items() if pid == leader or group == leader}
    while True:
        children = {pid for pid, (parent, _, _) in processes.items() if parent in members} - members
        if not children:
            return members
        members |= children


def _tree(leader: int) -> set[int]:
    return _members(leader, _processes()) - {leader}


def _families(leaders: Sequence[int]) -> dict[int, int]:
    """Return the bytes resident in each leader's processes together."""
    processes = _processes()
    return {p: sum(processes[m][2] for m in _members(p, processes)) for p in leaders}

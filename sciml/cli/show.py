"""``sciml show``: what there is to know of one problem or solver."""

from collections.abc import Iterator, Sequence

from sciml.configuration.choices import choose
from sciml.errors import UserError, did_you_mean, short
from sciml.registry import Entry, Group, entries, fitting, misfits

USAGE = """usage: sciml show problem=NAME | solver=NAME

The equations as text and LaTeX, the parameters with types and defaults, the views, what fits, the sources.
NAME is one of sciml list, or path/to/file.py:Class.

example: sciml show problem=heat"""


def main(words: Sequence[str]) -> int:
    """Run ``sciml show``."""
    if "--help" in words or "-h" in words:
        print(USAGE)
        return 0
    groups: tuple[Group, ...] = ("problem", "solver")
    if len(words) != 1:
        raise UserError(f"sciml show expects one word, problem=<name> or solver=<name>, got {len(words)}")
    key, _, name = words[0].partition("=")
    if key not in groups:
        near = did_you_mean(key, groups)
        raise UserError(f"sciml show has no {short(key)}{near} (known: problem=<name>, solver=<name>)")
    group = groups[groups.index(key)]
    entry = choose(group, name).entry
    lines = _problem(entry) if group == "problem" else _solver(entry)
    for line in lines:
        print(line, flush=True)
    return 0


def _problem(entry: Entry) -> Iterator[str]:
    yield from _described(entry)
    problem = entry.load()()
    for k, (name, text, latex) in enumerate(problem.statement()):
        if not k:
            yield "\nequations"
        yield f"  {name}: {text}"
        yield f"  {' ' * len(name)}  ${latex}$"
    inputs, outputs = (", ".join(f"{v.name} [{v.unit}]" for v in vs[:8]) for vs in (problem.inputs, problem.outputs))
    more = [" ..." if len(vs) > 8 else "" for vs in (problem.inputs, problem.outputs)]
    yield f"\nfrom {inputs}{more[0]}  to {outputs}{more[1]}"
    yield f"score: {problem.primary}"
    if problem.reference_error is not None:
        yield f"reference: accurate to {problem.reference_error:g}"
    yield from (f"{'ill-posed' if c.fatal else 'warning'}: {c.text}" for c in problem.complaints())
    yield f"views: {', '.join(entry.views)}"
    yield f"solvers that fit: {', '.join(fitting(problem)) or 'none'}"


def _solver(entry: Entry) -> Iterator[str]:
    yield from _described(entry)
    yield f"\nkind: {entry.kind}"
    yield f"needs the view: {entry.needs}"
    fit = [name for name, problem in entries("problem").items() if misfits(problem.load()())[entry.name] is None]
    yield f"problems that fit: {', '.join(fit) or 'none'}"


def _described(entry: Entry) -> Iterator[str]:
    doc = entry.source.doc.partition("\nArgs:")[0].rstrip()
    yield f"{entry.name}\n"
    yield from (f"  {line}".rstrip() for line in doc.splitlines())
    yield "\nparameters"
    for name, parameter in entry.source.parameters().items():
        default = "required" if parameter.default is None else f"= {parameter.default}"
        yield f"  {name}: {parameter.annotation} {default}  {parameter.doc}".rstrip()
    if not entry.source.parameters():
        yield "  none"

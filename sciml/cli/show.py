"""``sciml show``: what there is to know of one problem or solver."""

from collections.abc import Iterator, Sequence

from sciml.configuration.choices import Choice, choose
from sciml.errors import UserError, did_you_mean, short
from sciml.registry import Group, entries, fitting, misfits

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
    choice = choose(group, name)
    lines = _problem(choice) if group == "problem" else _solver(choice)
    for line in lines:
        print(line, flush=True)
    return 0


def _problem(choice: Choice) -> Iterator[str]:
    yield from _described(choice)
    problem = choice.entry.load()(**choice.settings)
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
    yield f"views: {', '.join(choice.entry.views)}"
    yield f"solvers that fit: {', '.join(fitting(problem)) or 'none'}"


def _solver(choice: Choice) -> Iterator[str]:
    entry = choice.entry
    yield from _described(choice)
    yield f"\nkind: {entry.kind}"
    yield f"needs the view: {entry.needs}"
    fit = [name for name, problem in entries("problem").items() if misfits(problem.load()())[entry.name] is None]
    yield f"problems that fit: {', '.join(fit) or 'none'}"


def _described(choice: Choice) -> Iterator[str]:
    source, settings = choice.entry.source, choice.settings
    doc = source.doc.partition("\nArgs:")[0].rstrip()
    name = choice.entry.name
    yield (name if choice.option == choice.base else f"{choice.option}, a variant of {name}") + "\n"
    yield from (f"  {line}".rstrip() for line in doc.splitlines())
    yield "\nparameters"
    for name, parameter in source.parameters().items():
        value = repr(settings[name]) if name in settings else parameter.default
        default = "required" if value is None else f"= {value}"
        yield f"  {name}: {parameter.annotation} {default}  {parameter.doc}".rstrip()
    if not source.parameters():
        yield "  none"

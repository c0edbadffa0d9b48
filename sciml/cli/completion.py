"""``sciml completion``: scripts for the shells, and the words they offer."""

from collections.abc import Iterator, Sequence

from sciml.cli import COMMANDS
from sciml.cli.dataset import KEYS
from sciml.configuration.choices import choose, default_solver, presets, variants
from sciml.errors import UserError, short
from sciml.registry import Group, entries

USAGE = """usage: sciml completion bash|zsh

Print a script that completes commands, names and parameters.

example: source <(sciml completion bash)"""

_BASH = r"""_sciml() {
    local line="${COMP_LINE:0:COMP_POINT}" word="${COMP_WORDS[COMP_CWORD]}" typed
    typed="${line##* }"
    [[ "$word" == "=" ]] && word=""
    mapfile -t COMPREPLY < <(sciml completion words $line "|$typed" 2>/dev/null)
    # bash takes "=" for the end of a word: what stands before it must not be offered again
    COMPREPLY=("${COMPREPLY[@]#"${typed%"$word"}"}")
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -F _sciml sciml"""

_ZSH = r"""#compdef sciml
_sciml() {
    local -a found
    found=(${(f)"$(sciml completion words ${words[1,CURRENT]} "|${words[CURRENT]}" 2>/dev/null)"})
    compadd -S '' -- $found
}
compdef _sciml sciml"""


def main(words: Sequence[str]) -> int:
    """Run ``sciml completion``; the scripts call ``completion words LINE ... |CURRENT``."""
    if not words or "--help" in words or "-h" in words:
        print(USAGE)
        return 0
    if words[0] == "words":
        typed = words[-1].removeprefix("|")
        before = [w for w in words[2:-1] if w != typed]
        print(*(w for w in _offers(before, typed) if w.startswith(typed)), sep="\n")
        return 0
    scripts = {"bash": _BASH, "zsh": _ZSH}
    if words[0] not in scripts or len(words) > 1:
        raise UserError(f"sciml completion knows bash and zsh, got {short(' '.join(words))}")
    print(scripts[words[0]])
    return 0


def _offers(before: Sequence[str], typed: str) -> Iterator[str]:
    if not before:
        yield from COMMANDS
        return
    groups: tuple[Group, ...] = ("problem", "solver")
    if before[0] == "completion":
        yield from ("bash", "zsh")
    elif before[0] in ("train", "show", "bench", "dataset"):
        yield from (f"{g}={n}" for g in groups if typed.startswith(f"{g}=") for n in (*entries(g), *variants(g)))
        yield from (f"{g}=" for g in groups if not typed.startswith(f"{g}="))
    if before[0] == "train":
        yield from (f"trainer={p}" for p in presets())
        yield from ("seed=", "run.dir=", "resume=", "compare=", "--json")
        yield from _parameters(before)
    if before[0] == "dataset":
        yield from (f"{key}=" for key in KEYS)
        yield from (word for word in _parameters(before) if word.startswith("problem."))


def _parameters(before: Sequence[str]) -> Iterator[str]:
    chosen = dict(w.split("=", 1) for w in before if "=" in w)
    if "problem" in chosen:
        problem = choose("problem", chosen["problem"]).entry
        solver = choose("solver", chosen.get("solver") or default_solver(problem)).entry
        for group, entry in (("problem", problem), ("solver", solver)):
            yield from (f"{group}.{name}=" for name in entry.source.parameters())

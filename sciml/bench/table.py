"""``sciml table``: the benchmark's table again, from run folders alone."""

from collections.abc import Sequence
from pathlib import Path

from sciml.bench.choices import folder_at
from sciml.errors import UserError, did_you_mean

USAGE = """usage: sciml table [FOLDER ...] [out=FOLDER]

Rebuild the table, its files and its figures from run folders alone; nothing is trained.
Without FOLDER: bench. The files table.md, table.csv, table.json and work-precision/<problem>.png go
to out=, by default the first folder."""


def main(argv: Sequence[str]) -> int:
    """Run ``sciml table``.

    Raises:
        UserError: a folder that does not exist or holds no runs, or an unknown key.
    """
    if "--help" in argv or "-h" in argv:
        print(USAGE)
        return 0
    folders, out = _arguments(argv)

    from sciml.bench.board import assemble
    from sciml.bench.render import publish, terminal

    board = assemble(folders)
    if not board.sections and not board.unfinished and not board.misfits:
        raise UserError(
            f"expected folders with runs, found none in {', '.join(map(str, folders))}; run sciml bench first"
        )
    publish(board, out, terminal())
    return 0


def _arguments(argv: Sequence[str]) -> tuple[list[Path], Path]:
    folders, out = [], None
    for word in argv:
        key, equals, value = word.partition("=")
        if equals and not Path(word).exists():
            if key != "out" or not value:
                raise UserError(f"sciml table has no key {key!r}{did_you_mean(key, ['out'])} (known: out=FOLDER)")
            out = folder_at(value)
        else:
            folders.append(Path(word))
    folders = folders or [Path("bench")]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {str(folder)!r}; expected one with runs: name it, or run sciml bench first")
    return folders, out or folders[0]

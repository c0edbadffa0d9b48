"""The history of a training: one row for each check, in a file that a killed run can go on with."""

import os
from collections.abc import Mapping
from pathlib import Path

from sciml.errors import UserError
from sciml.training.checkpoint import writing


class History:
    """Appends rows to a CSV file.

    A row reaches the operating system when it is written, and the disk when a checkpoint is about to point
    past it, so that rows cost little and a checkpoint never knows more rows than the file.

    Args:
        path: the file, or None to keep no history.
        length: bytes of the file that are kept; what follows was written after the checkpoint and is dropped.

    Raises:
        UserError: the file is shorter than ``length``.
    """

    def __init__(self, path: Path | None, length: int = 0) -> None:
        self.path = path
        self.length = length
        self._file = None
        if path is None:
            return
        present = path.stat().st_size if path.exists() else 0
        if present < length:
            raise UserError(f"expected {length} bytes in {path}, found {present}; put the file back")
        self._file = path.open("ab")
        self._file.truncate(length)

    def write(self, row: Mapping[str, float | str]) -> None:
        """Append a row; the first one names the columns."""
        if self._file is None or self.path is None:
            return
        lines = [",".join(row)] if self.length == 0 else []
        lines.append(",".join(str(value) for value in row.values()))
        text = "".join(f"{line}\n" for line in lines).encode()
        with writing(self.path):
            self._file.write(text)
            self._file.flush()
        self.length += len(text)

    def sync(self) -> int:
        """Flush the rows to disk and return the length of the file in bytes."""
        if self._file is not None and self.path is not None:
            with writing(self.path):
                os.fsync(self._file.fileno())
        return self.length

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

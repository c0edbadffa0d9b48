"""Rows of arrays on disk in many files, each of which is whole or absent, so that a killed run goes on where it was."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciml.errors import UserError
from sciml.files import replacing, write_text
from sciml.problem import Table


@dataclass(frozen=True)
class Shards:
    """A folder of HDF5 files of one description, each with its checksum beside it, which is written after it.

    Args:
        folder: where the files are.
    """

    folder: Path

    def claim(self, description: Mapping[str, Any], other: str) -> None:
        """Say what the folder holds, made where there is none.

        Args:
            description: of the rows; JSON holds it.
            other: what the folder holds if not this, for the message.

        Raises:
            UserError: it holds something else.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        said = json.loads(json.dumps(description))
        if not self._description.exists():
            write_text(self._description, json.dumps(said))
        elif json.loads(self._description.read_text(encoding="utf-8")) != said:
            raise UserError(f"{self.folder} holds {other}; name another folder")

    def description(self) -> dict[str, Any] | None:
        """Return what the folder holds, or None where it says nothing."""
        try:
            return json.loads(self._description.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def file(self, shard: int) -> Path:
        """Return the path of a shard, which may not be there."""
        return self.folder / f"shard-{shard:06d}.h5"

    def is_whole(self, shard: int) -> bool:
        """Return whether a shard is there, as it was written."""
        path = self.file(shard)
        known = path.with_suffix(".sha256")
        return path.exists() and known.exists() and known.read_text(encoding="utf-8").split()[:1] == [_sha256(path)]

    def whole(self) -> list[int]:
        """Return the numbers of the shards that are there as they were written."""
        numbers = sorted(int(path.stem.removeprefix("shard-")) for path in self.folder.glob("shard-*.h5"))
        return [k for k in numbers if self.is_whole(k)]

    def write(self, shard: int, table: Table) -> None:
        """Write a shard whole, with its axes as dimension scales and the units of its arrays."""
        path = self.file(shard)
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            for name, values in table.axes.items():
                file.create_dataset(name, data=values).make_scale(name)
            for name, (axes, values) in table.arrays.items():
                stored = file.create_dataset(name, data=values)
                stored.attrs["units"] = table.variables[name].unit if name in table.variables else "1"
                for k, axis in enumerate(axes):
                    stored.dims[k].attach_scale(file[axis])
        write_text(path.with_suffix(".sha256"), f"{_sha256(path)}  {path.name}\n")

    def read(self, shard: int) -> dict[str, np.ndarray]:
        """Return the arrays of a shard, once its checksum is found right.

        Raises:
            UserError: it is missing or damaged.
        """
        if not self.is_whole(shard):
            raise UserError(f"{self.file(shard)} is missing or damaged; make it again, which makes what lacks")
        with h5py.File(self.file(shard)) as file:
            return {str(name): np.asarray(file[name]) for name in file}

    @property
    def _description(self) -> Path:
        return self.folder / "dataset.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Changes of a grid's structure beyond outages."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sciml.errors import UserError
from sciml.grid.powergrid import PowerGrid


def split_bus(
    grid: PowerGrid, bus: str, branches: Sequence[str], *, load: bool = False, generators: bool = False
) -> PowerGrid:
    """Return the grid after a substation's busbars are uncoupled, which makes a bus of each.

    The new bus comes last and is called by the next free number. The shunt stays where it was.

    Args:
        grid: the arrays.
        bus: name of the bus to split.
        branches: names of the branches there that go over to the new bus.
        load: whether the load goes over.
        generators: whether the generators go over; those at the slack cannot.

    Raises:
        UserError: an unknown name, a branch that does not end there, the slack's generators, or a part that is
            cut off from the slack.
    """
    place, new = grid.bus(bus), len(grid.numbers)
    ends = np.stack([grid.source, grid.target])
    moved = np.array([grid.branch(name) for name in branches], int)
    for name, k in zip(branches, moved, strict=True):
        if place not in ends[:, k]:
            raise UserError(f"branch {name} does not end at bus {bus}; name branches that do")
    if generators and place == grid.slack:
        raise UserError(f"the generators at bus {bus} are the slack's, which stays; move the others' branches instead")
    ends[:, moved] = np.where(ends[:, moved] == place, new, ends[:, moved])

    def gone(buses: np.ndarray, goes: bool) -> np.ndarray:
        return np.where(goes & (buses == place), new, buses)

    loads = gone(grid.loads, load)
    order = np.argsort(loads)
    return replace(
        grid,
        numbers=np.append(grid.numbers, grid.numbers.max() + 1),
        kilovolts=np.append(grid.kilovolts, grid.kilovolts[place]),
        shunt=np.append(grid.shunt, 0),
        source=ends[0],
        target=ends[1],
        loads=loads[order],
        load=grid.load[order],
        generators=replace(grid.generators, bus=gone(grid.generators.bus, generators)),
    )

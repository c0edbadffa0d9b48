"""Changes of a grid's structure beyond outages."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sciml.errors import UserError
from sciml.grid.powergrid import PowerGrid

_COUPLER = {"charging": 0.0, "conductance": 0.0, "tap": 1.0, "in_service": True}


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
    joined = coupled(grid, bus, branches, load=load, generators=generators)
    kept = {name: getattr(joined, name)[:-1] for name in ("source", "target", "impedance", *_COUPLER)}
    return replace(joined, **kept)


def coupled(
    grid: PowerGrid,
    bus: str,
    branches: Sequence[str] | None = None,
    *,
    load: bool = False,
    generators: bool = False,
    reactance: float = 1e-4,
) -> PowerGrid:
    """Return the grid with a substation as two busbars, and between them a coupler, the last branch.

    While the coupler is out the grid is that of ``split_bus``.

    Args:
        grid: the arrays.
        bus: name of the bus.
        branches: names of the branches at the new busbar; every second one there, from the second on, without.
        load: see ``split_bus``, like generators.
        generators: see there.
        reactance: of the coupler, in p.u., small beside that of lines; a real one has next to none.

    Raises:
        UserError: an unknown name, a branch that does not end there, a single branch, or the slack's generators.
    """
    place, new = grid.bus(bus), len(grid.numbers)
    ends = np.stack([grid.source, grid.target])
    if branches is None:
        moved = np.flatnonzero((ends == place).any(axis=0))[1::2]
        if not len(moved):
            raise UserError(f"bus {bus} has a single branch, which no coupler can part from others; name another bus")
    else:
        moved = np.array([grid.branch(name) for name in branches], int)
    for k in moved:
        if place not in ends[:, k]:
            raise UserError(f"branch {grid.branches[k]} does not end at bus {bus}; name branches that do")
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
        positions=None if grid.positions is None else np.vstack([grid.positions, [np.nan, np.nan]]),
        source=np.append(ends[0], place),
        target=np.append(ends[1], new),
        impedance=np.append(grid.impedance, 1j * reactance),
        **{name: np.append(getattr(grid, name), value) for name, value in _COUPLER.items()},
        loads=loads[order],
        load=grid.load[order],
        generators=replace(grid.generators, bus=gone(grid.generators.bus, generators)),
    )

"""Any power grid: a published case, a file, or a net in memory."""

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from sciml.grid.cases import from_pandapower, open_case
from sciml.grid.powergrid import PowerGrid
from sciml.parameters import Count, NonNegative

from ._grid import LoadFlow, Outages, Share

if TYPE_CHECKING:
    from pandapower import pandapowerNet


class Grid(LoadFlow):
    """AC load flow on any grid while loads and generation vary and branches are out.

    P_i + jQ_i = V_i Σ_j conj(Y_ij V_j) at every bus i

    Args:
        case: a published case (ieee14, ieee30, ieee57, ieee118, ieee300, pegase1354, rte1888, rte2848,
            pegase2869, rte6470 or pegase9241), or the path of a MATPOWER file (.m) or of a net of pandapower
            that ``pandapower.to_json`` wrote (.json).
        train: scenarios to train on.
        test: scenarios to score on, for each number of outages.
        load_spread: standard deviation of the logarithm of each load.
        common_spread: standard deviation of the logarithm of a factor common to all loads and generators.
        generation_spread: standard deviation of each generator's power, as a fraction of its capacity.
        voltage_spread: standard deviation of each voltage set-point, in p.u.
        train_outages: numbers of branches out in training, an equal share of scenarios each.
        test_outages: numbers of branches out in the scenarios to score on.
        withheld: share of the branches that are never out in training.
        growth: by how much the shifted scenarios' loads and generation exceed the nominal ones, as a fraction.
        persistence: correlation of the logarithms of loads with those of the scenario before.
        line_spread: standard deviation of the logarithm of each branch's r, x and b, drawn once.
        seed: of the scenarios; those to train on and to score on are drawn apart.
    """

    tolerance = 1e-10  # rounding leaves 1e-11 on thousands of buses

    def __init__(
        self,
        case: str = "ieee30",
        train: Annotated[int, Ge(2)] = 1000,
        test: Count = 50,
        load_spread: NonNegative = 0.2,
        common_spread: NonNegative = 0.1,
        generation_spread: NonNegative = 0.1,
        voltage_spread: NonNegative = 0.01,
        train_outages: Outages = (0, 1),
        test_outages: Outages = (0, 1, 2),
        withheld: Share = 0.0,
        growth: NonNegative = 0.1,
        persistence: Share = 0.0,
        line_spread: NonNegative = 0.0,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__(
            train, test, load_spread, common_spread, generation_spread, voltage_spread, train_outages, test_outages,
            withheld, growth, persistence, line_spread, seed,
        )  # fmt: skip
        self.case = case
        self._given: PowerGrid | None = None

    @classmethod
    def of(cls, net: "pandapowerNet", **settings: Any) -> "Grid":
        """Return the load flow on a net in memory; a run folder cannot name it, a file it can.

        Args:
            net: of pandapower, left as it is.
            settings: of the constructor.

        Raises:
            UserError: the net asks for what is not modelled, or is not sound.
        """
        made = cls(case="a net in memory", **settings)
        made._given = from_pandapower(net)
        return made

    def grid(self) -> PowerGrid:
        """Return the grid in its nominal state.

        Raises:
            UserError: there is no such case, a package is missing, or the grid is not sound.
        """
        return self._given or open_case(self.case)

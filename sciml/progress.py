"""What long work tells whoever waits for it."""

from collections.abc import Mapping


class Progress:
    """Told of every report of a solve; this one stays silent."""

    def report(self, done: float, values: Mapping[str, float]) -> None:
        """Take a report.

        Args:
            done: the fraction of the work that is done, in [0, 1].
            values: what there is to show, by name: loss terms, errors, iterations.
        """

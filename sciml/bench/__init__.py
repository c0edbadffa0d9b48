"""The benchmark: cells, statistics, the table."""

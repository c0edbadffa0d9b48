"""Problems: power grids."""

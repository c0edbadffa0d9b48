"""Problems: partial differential equations."""

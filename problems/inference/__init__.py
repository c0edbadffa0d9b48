"""Problems: likelihood-free inference."""

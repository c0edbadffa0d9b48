"""Balance on graphs, and the power grid."""

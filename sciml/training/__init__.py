"""The training of networks: steps, stops, checkpoints, processes."""

"""On-chip learning in one stream of samples, integer by integer as Lava."""

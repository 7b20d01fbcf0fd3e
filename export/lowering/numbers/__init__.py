"""Which integers stand for real weights: grids, rounding and bounds."""

"""Learning rules as data, and the engine that runs them in torch (imported on demand)."""

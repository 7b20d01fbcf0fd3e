"""From a graph to compiled loops over blocks of samples and steps."""

"""Experiments: on-chip readouts, adaptation, learning windows and features."""

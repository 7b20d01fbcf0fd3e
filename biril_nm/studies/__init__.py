"""Experiments: training methods over seeds, on-chip readouts, adaptation, learning windows and features."""

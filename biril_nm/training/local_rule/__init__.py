"""Local rules during training, on batches in torch."""

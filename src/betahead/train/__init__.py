"""Training: one subclass of `transformers.Trainer`, `DPOTrainer`, on a window of pairs that may go in passes."""

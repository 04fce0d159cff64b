"""From batches to a scored model: the training loop, one fold, all folds, metrics."""

"""From batches to a scored model: the loop, one fold, all folds, metrics."""

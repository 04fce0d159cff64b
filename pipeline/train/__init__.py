"""From batches to a trained model and its scores: the training loop, one fold, all folds, evaluation of a run."""

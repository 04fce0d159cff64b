"""What `import affectory` gives: features as tables and datasets, runs and predictions, in a few functions."""

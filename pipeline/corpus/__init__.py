"""From a recipe and a release to rows: the recipe, the manifest, folds, and the scopes of fits."""

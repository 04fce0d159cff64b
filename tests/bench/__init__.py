"""`make bench`: ratios measured side by side in one run; absolute times belong to the machine that printed them."""

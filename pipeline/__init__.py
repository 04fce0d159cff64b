"""The machine: plans, schedules, caches and trains. It knows no corpus, no feature and no model by name."""

"""A trained run as one folder, which needs neither corpus nor cache, and what it predicts of new clips."""

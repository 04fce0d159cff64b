"""Opens media files that nobody checked: where they lie, how they decode, what the doctor finds in them."""

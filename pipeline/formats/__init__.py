"""Files of features as other tools write and read them. Each module knows the layout of one format, in and out."""

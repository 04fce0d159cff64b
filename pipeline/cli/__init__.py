"""The `affectory` command line: its options, its commands, and the tables that they show."""

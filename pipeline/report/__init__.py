"""Pages for people: the report of a corpus and its models, tables and charts."""

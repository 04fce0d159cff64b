"""Answers for people: the report of a corpus, and explanations of rows, shards, plans and failures."""

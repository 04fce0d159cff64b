"""What comes and goes: corpora and weights fetched, features pushed and pulled, locks written."""

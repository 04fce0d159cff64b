"""What goes over the network: corpora and weights are fetched, features pushed and pulled, locks written."""

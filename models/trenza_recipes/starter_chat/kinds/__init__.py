"""The kinds of conversation that the model is taught, one drawing function for each."""

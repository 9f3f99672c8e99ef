"""The contracts that push servers, workers and clients share. Pure: no input, no output."""

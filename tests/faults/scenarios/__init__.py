"""One fault each: the load, what is broken, and what must hold."""

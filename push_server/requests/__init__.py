"""The way of requests to the workers, and of their outcomes back."""

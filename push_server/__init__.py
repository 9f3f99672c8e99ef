"""The push server: holds the connections and runs no application code."""

"""The clients of a push server: connections, sessions, and the state of each."""

"""The way of messages from the channel to the connections, also to clients that were away."""

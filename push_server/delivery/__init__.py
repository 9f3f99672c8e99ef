"""From the channel to the connections; and what clients get that were away."""

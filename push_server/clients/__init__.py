"""Who is connected, and what each connection and session has."""

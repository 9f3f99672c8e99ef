"""The application: its files, routes and middleware."""

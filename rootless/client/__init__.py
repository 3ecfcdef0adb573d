"""The client side of the API: sockets and JSON from the standard library."""

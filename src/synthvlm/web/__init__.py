"""Pages in the browser of whoever looks at data: a server on loopback, and what it shows."""

"""The doors and the loop: inbox, outbox, metrics, HTTP, daemon."""

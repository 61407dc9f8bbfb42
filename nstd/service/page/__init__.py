"""The status page, for the browser over HTTP and as a file in the outbox."""

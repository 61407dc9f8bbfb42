"""Files to arrays and back: decode, encode, colour, metadata."""

"""Two sample pictures made by code: a photograph-like scene and a painting."""

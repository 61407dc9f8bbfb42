"""Makes ``nstd/engine/builtin.npz``: features learned from images that this project generates."""

"""The picture: arrays in, arrays out. The only package that imports TensorFlow."""

"""The textbook: one forward and one backward function for each operation, side by side, and nothing else.

Functions are pure: they take arrays, return new arrays and keep nothing. `dy` is the derivative of the loss with respect
to the output y, `dx` the one with respect to x, and what a backward function needs is an argument. They run on NumPy and
on CuPy alike. Axis letters, used in every docstring:

    N  examples in a batch            D, M  features going in and out of a matrix    K  values of a code
    H  height, W  width, C  channels, F  filters    T  time steps, V  size of the vocabulary, U  hidden units
"""

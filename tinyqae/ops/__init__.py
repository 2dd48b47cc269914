"""The textbook: one forward and one backward function for each operation, side by side, and nothing else.

Functions are pure: they take arrays, return new arrays and keep no state. `dy` is the gradient of the loss with respect
to the output y, `dx` that with respect to x. Everything a backward function needs is passed as an argument. All run on
NumPy and on CuPy. Axis letters, used in every docstring:

    N  examples in a batch            D, M  input and output features of a matrix    K  values of a code
    H  height, W  width, C  channels, F  filters    T  time steps, V  vocabulary size, U  hidden units
"""

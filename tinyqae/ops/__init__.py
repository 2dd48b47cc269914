"""Stateless operations: for each, a forward and a backward function, side by side.

Axis letters, used in every docstring of this package:

    N  examples in a batch            F  features of a vector (D and M where a matrix has two sides)
    H  height, W  width, C  channels  T  time steps, V  symbols of a vocabulary, U  hidden units of a recurrent layer

Every op takes arrays and writes into arrays; destinations come last and are overwritten. `dx` is the derivative of the
loss with respect to `x`. What a backward needs is a named argument, never a hidden cache. With its destinations given,
no op allocates an array.
"""

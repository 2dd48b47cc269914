"""Measures of what a codec loses and what it saves.

image.py    PSNR, SSIM, MSE and MAE of uint8 images, by their correct definitions
rate.py     bits per item, compression ratio, how well the bits of a code are used
text.py     edit, cosine, Jaccard and BLEU distances of sentences; sizes under compressors

The modules are imported by name (`from tinyqae.metrics import image`); importing the package alone stays cheap.
"""

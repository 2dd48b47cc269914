"""Batches of images without allocation."""

import numpy as np

from .. import backend, batches


class ImageBatches(batches.ImageBatches):
    """See batches.ImageBatches. The data set is kept on the device, and each batch is gathered into one buffer, which
    the next batch overwrites. A data set too large for the device stays on the host, and each batch is copied.
    """

    def prepare(self):
        """Copy the data set to the device and allocate the buffers."""
        xp = backend.xp
        shape = (min(self.batch_size, self.n), *self.images.shape[1:])
        self.rows = xp.empty(shape, self.images.dtype)
        self.source, self.on_device = self.images, backend.fits(self.images.nbytes)
        if self.on_device:
            self.source = backend.to_device(self.images)
        else:
            self.host_rows = np.empty(shape, self.images.dtype)
        self.is_bytes = self.images.dtype == np.uint8
        self.floats = xp.empty(shape, self.dtype) if self.is_bytes else self.rows
        self.scale = np.dtype(self.dtype).type(1 / 255)

    def epoch(self, random):
        """One epoch's batches; each is overwritten by the next."""
        order = random.permutation(self.n)
        for index in self.indices(backend.to_device(order) if self.on_device else order):
            rows, floats = self.rows[: len(index)], self.floats[: len(index)]
            if self.on_device:
                backend.gather(self.source, index, rows)
            else:
                host_rows = np.take(self.source, index, axis=0, out=self.host_rows[: len(index)], mode="clip")
                backend.to_device(host_rows, rows)
            if self.is_bytes:
                backend.xp.multiply(rows, self.scale, out=floats)
            yield floats

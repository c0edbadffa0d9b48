"""Tasks whose reference posterior samples were made once."""

import h5py
import numpy as np

from sciml.references import reference_file

from ._published import Published

SAMPLES = ("lfi_references.h5", "ed20d2e9a5d1686ea4572a3123ce0500927a338abb8d11450327338e5e17ed12")


class Sampled(Published):
    """A published task whose reference was made by ``scripts/make_lfi_references.py``.

    Draws of a Student t law fitted to a tempered sequential Monte Carlo run are resampled by importance, none twice;
    the two agree, and where there are two parameters so does quadrature.
    """

    def reference(self) -> np.ndarray:
        with h5py.File(reference_file(*SAMPLES)) as file:
            return np.asarray(file[self.name], dtype=float)[self.observation - 1, : self.samples]

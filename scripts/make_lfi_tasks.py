"""Make data/lfi_tasks.h5: observations, true parameters and fixed inputs of the ten public tasks.

They are those of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653 (package
sbibm 1.1.0, MIT licence), from an HDF5 file with a group for each task.

    python scripts/make_lfi_tasks.py SOURCE [FILE]
"""

import sys
from pathlib import Path

import h5py

from sciml.files import replacing

MEANINGS = {
    "observations": "data of each observation",
    "true_parameters": "parameters that made each observation",
    "design_matrix": "stimulus of each time bin: a one, then its last nine values",
    "mixture_weights": "unnormalised weights of the distractors' mixture",
    "student_t_df": "degrees of freedom of each component",
    "student_t_loc": "centre of each component",
    "student_t_scale_tril": "lower triangular scale of each component",
    "permutation": "column of the unpermuted data that stands at each place",
}


def main(source: Path, path: Path) -> None:
    """Write the file."""
    with h5py.File(source) as given, replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["title"] = "The ten tasks of Benchmarking simulation-based inference, 2021"
        file.attrs["source"] = "J.-M. Lueckmann et al., 2021, arXiv 2101.04653; package sbibm 1.1.0"
        file.attrs["license"] = "MIT"
        file.attrs["history"] = "scripts/make_lfi_tasks.py"
        for task, group in given.items():
            for name in sorted(group.keys() & MEANINGS.keys()):
                kept = file.create_dataset(f"{task}/{name}", data=group[name][()], compression="gzip", shuffle=True)
                kept.attrs["long_name"], kept.attrs["units"] = MEANINGS[name], "1"


if __name__ == "__main__":
    here = Path(__file__).parent.parent / "data" / "lfi_tasks.h5"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else here)

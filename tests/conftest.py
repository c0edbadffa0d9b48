"""One thread for every test: forked processes wait for the threads of OpenMP that they lost, and timings stay sane."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

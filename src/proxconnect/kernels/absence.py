"""What users are told if the kernels were not built with their installation."""

NOT_BUILT = "proxconnect was installed without its kernels"

ON_TORCH = "packed layers give the right answers with torch, more slowly than float layers"

ADVICE = (
    "To build the kernels, install a C++17 compiler, then run `pip install --force-reinstall --no-deps --no-cache-dir "
    ".` in the folder of proxconnect's sources"
)

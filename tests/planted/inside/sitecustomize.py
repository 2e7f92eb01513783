"""Lets `import proxconnect` find the sources on PYTHONPATH although an editable install names others."""

import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "ScikitBuildRedirectingFinder"]

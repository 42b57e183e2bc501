"""gazepipe: compression of gaze-estimation networks, and benchmark tables of their errors, sizes and speeds."""

import sys

__version__ = "0.1.0"

# OpenVINO and NNCF report their use over the network, each time from a forked copy of this process, threads and all.
# They do without the package that does it.
sys.modules.setdefault("openvino_telemetry", None)

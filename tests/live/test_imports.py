"""What a person installs to run a bundle: neither torch nor what trains."""

import subprocess
import sys

IMPORT_ALL = """
import importlib, pkgutil, sys
import gazepipe.live as live

for module in pkgutil.walk_packages(live.__path__, "gazepipe.live."):
    importlib.import_module(module.name)
heavy = ("torch", "gazepipe.training", "gazepipe.export", "gazepipe.models")
print(sum(name.startswith("gazepipe.live.") for name in sys.modules))
print([name for name in sys.modules if any(name == each or name.startswith(f"{each}.") for each in heavy)])
"""


def test_live_imports_neither_torch_nor_what_trains_or_exports():
    number, found = subprocess.check_output([sys.executable, "-c", IMPORT_ALL], text=True).splitlines()
    assert int(number) >= 10
    assert found == "[]"

"""The parts of a method that have a module of their own: no torch here, since the plan of the DAG reads it."""

PARTS = {
    "kd": "gazepipe.methods.distillation",
    "rebirth": "gazepipe.methods.rebirth",
    "shrink": "gazepipe.methods.shrink.shrink",
    "structural": "gazepipe.methods.structural.steps",
}
"""Loaded by name, and only by the methods that use them: source fingerprints follow import statements, so a change in
re-birth leaves the runs of a plain method alone. The plan adds these modules to the fingerprint of their methods."""

"""gazepipe as one DAG: fetch, prepare, split, train, predict, profile, tables, page.

The default target is results/tables.md and results/index.html."""

import os
import sys

# Before anything that computes starts: idle OpenMP threads must sleep, or jobs side by side starve each other.
os.environ.update(OMP_WAIT_POLICY="PASSIVE")
# Rules and jobs run the package that lies beside this file, wherever another clone of it may be installed.
sys.path.insert(0, workflow.basedir)
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [workflow.basedir, os.environ.get("PYTHONPATH")])))


configfile: "config.yaml"


include: "workflow/rules/common.smk"


rule all:
    """The default target."""
    default_target: True
    input:
        f"{RESULTS}/tables.md",
        f"{RESULTS}/index.html",
    localrule: True


include: "workflow/rules/fetch.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/deploy.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/report.smk"

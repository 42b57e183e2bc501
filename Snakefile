"""gazepipe as one DAG: fetch, prepare, split, train, predict, profile, tables. The default target is results/tables.md."""

import os
import sys

# Before anything that computes starts: idle OpenMP threads must sleep, or jobs side by side starve each other.
os.environ.update(OMP_WAIT_POLICY="PASSIVE")


configfile: "config.yaml"


include: "workflow/rules/common.smk"


rule all:
    """The default target."""
    default_target: True
    input:
        f"{RESULTS}/tables.md",
    localrule: True


include: "workflow/rules/fetch.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/profile.smk"
include: "workflow/rules/report.smk"

